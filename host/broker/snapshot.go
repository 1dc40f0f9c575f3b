package broker

import (
	"context"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

// A snapshot is one that is being made.
type snapshot struct {
	one  sync.Mutex // held by Snapshot
	mu   sync.Mutex
	file *os.File   // to be given to the guest; nil: none is wanted
	gate *os.File   // likewise, in a family; nil: it is saved alone
	done chan error // told when the guest has written it
	open []OpenFile
	next uint32
	kept []Kept // descriptors that the guest has shown

	// What the guest hears while it writes itself is not in the snapshot, though the
	// monitor has done it. So it hears nothing between the answer to OpSnapshot, which
	// is when Opened is made, and its OpSnapshotted.
	replies sync.RWMutex // those that come later; held for writing meanwhile; taken before mu
	holds   bool         // of the goroutine that serves
}

// Opened is what a snapshot says of a guest's handles.
type Opened struct {
	Files []OpenFile
	Next  uint32 // above all names of handles so far
}

// An OpenFile is a file that a guest has open.
type OpenFile struct {
	volume.Record
	File *volume.File // the same in those that share it; not to be used
}

// Snapshot asks the guest to write itself to f and returns when it has. gate, if not nil,
// is the guest's end of the socket by which the members of a family wait for each other
// (abi.SnapAlone); State may be asked from when the guest has spoken there.
func (b *Broker) Snapshot(ctx context.Context, f, gate *os.File) (Opened, error) {
	s := &b.snap
	s.one.Lock()
	defer s.one.Unlock()
	done := make(chan error, 1)
	s.mu.Lock()
	s.file, s.gate, s.done = f, gate, done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.file, s.gate, s.done = nil, nil, nil
		for _, k := range s.kept {
			unix.Close(k.FD)
		}
		s.kept = nil
		s.mu.Unlock()
		b.wake() // ends hold, if nothing else has
	}()
	b.events.mu.Lock()
	b.events.snapshot = true
	b.events.mu.Unlock()
	if err := b.flush(); err != nil {
		return Opened{}, err
	}
	select {
	case err := <-done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return Opened{s.open, s.next}, err
	case <-b.ctx.Done():
		return Opened{}, unix.ESRCH
	case <-ctx.Done():
		return Opened{}, ctx.Err()
	}
}

// doSnapshot gives the file, once.
func doSnapshot(r *request) (reply, error) {
	s := &r.b.snap
	s.mu.Lock()
	wanted := s.file != nil
	s.mu.Unlock()
	if !wanted {
		return reply{}, unix.EPERM
	}
	// Who sends holds it, for as long as the guest does not read. Snapshot can give up meanwhile.
	s.replies.Lock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		s.replies.Unlock()
		return reply{}, unix.EPERM
	}
	var err error
	if s.open, s.next, err = r.b.table.opened(); err != nil {
		s.replies.Unlock()
		s.done <- err
		s.file, s.done = nil, nil
		return reply{}, err
	}
	var fds []int
	for _, f := range []*os.File{s.file, s.gate} {
		if f == nil {
			continue
		}
		fd, err := dup(f)
		if err != nil {
			s.replies.Unlock()
			give(fds...).free()
			return reply{}, err
		}
		fds = append(fds, fd)
	}
	s.file = nil
	s.holds = true
	return give(fds...), nil
}

func dup(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = cerr
	}
	return fd, err
}

func doSnapshotted(r *request) (reply, error) {
	s := &r.b.snap
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil && s.file == nil {
		var err error
		if r.msg.B != 0 {
			err = unix.Errno(r.msg.B & 0xfff)
		}
		select {
		case s.done <- err:
		default:
		}
	}
	return reply{}, errNoReply
}

// Bounds of what a guest can ask for while it should be writing itself. It cannot ask
// then; what comes had been asked before.
const (
	maxHeldPackets = 4 * abi.MaxPending
	maxHeldBytes   = 4 << 20
)

// hold puts aside what comes until OpSnapshotted, and answers it then. It ends as well
// when Snapshot gives up.
func (b *Broker) hold() {
	for _, p := range b.putAside() {
		b.handlePacket(p.p, p.whole, p.fds)
	}
}

// A packet is one that is handled later.
type packet struct {
	p     []byte
	whole bool
	fds   []int
}

func (b *Broker) putAside() (list []packet) {
	s := &b.snap
	s.holds = false
	defer s.replies.Unlock()
	for room := maxHeldBytes; len(list) < maxHeldPackets && room > 0; {
		s.mu.Lock()
		over := s.done == nil
		s.mu.Unlock()
		if over {
			break
		}
		last := false
		err := b.receive(func(p []byte, whole bool, fds []int) {
			list = append(list, packet{slices.Clone(p), whole, fds})
			room -= len(p) + 256
			m, _, ok := abi.TakeMsg(p)
			last = ok && m.Op == abi.OpSnapshotted
		})
		if last || err != nil && err != errWoken {
			break
		}
	}
	return list
}

// opened describes the files of the table. They are of this moment as long as their holder
// does nothing with them.
func (t *table) opened() ([]OpenFile, uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []OpenFile
	for id, h := range t.m {
		if h.file == nil {
			continue
		}
		r, err := h.file.Record()
		if err != nil {
			return nil, 0, err
		}
		r.Handle = id
		list = append(list, OpenFile{r, h.file})
	}
	slices.SortFunc(list, func(a, b OpenFile) int { return int(int64(a.Handle) - int64(b.Handle)) })
	return list, t.next, nil
}

// Restored is what a pVM that goes on from a snapshot has open, by the names that its
// files have there, and the first name for others.
type Restored struct {
	Files  map[uint32]*volume.File
	Next   uint32
	Rights uint32  // that it had given up
	Common *Common // has all of Files
}

// Common are the files that restored pVMs have open, several of which may have the same, as
// after a fork. The zero value is ready for use.
type Common struct{ m map[*volume.File]*handle }

// Add enters a file, which is then its own, by the name that all who have it call it by.
func (c *Common) Add(id uint32, f *volume.File) {
	if c.m == nil {
		c.m = make(map[*volume.File]*handle)
	}
	h := &handle{id: id, kind: kindFile, file: f, fd: -1}
	h.refs.Store(1)
	c.m[f] = h
}

// Close closes those that no Broker was given.
func (c *Common) Close() {
	for _, h := range c.m {
		h.put()
	}
	c.m = nil
}

// restore enters what a restored pVM has open.
func (t *table) restore(r *Restored) {
	if r == nil {
		return
	}
	t.m, t.next = make(map[uint32]*handle, len(r.Files)), max(r.Next, firstHandle)
	t.before = make(map[uint32]bool, len(r.Files))
	for id, f := range r.Files {
		h := r.Common.m[f]
		h.refs.Add(1)
		t.m[id], t.before[id] = h, true
	}
}

// doReopen gives a file of before the descriptor that it has now, once. Files that nobody
// asks for are those whose names were lost on the way when the snapshot was made.
func doReopen(r *request) (reply, error) {
	t := &r.b.table
	if r.msg.Handle == 0 {
		t.mu.Lock()
		var lost []*handle
		for id := range t.before {
			if h := t.m[id]; h != nil {
				lost = append(lost, h)
				delete(t.m, id)
			}
		}
		t.before = nil
		t.mu.Unlock()
		for _, h := range lost {
			h.put()
		}
		return reply{}, nil
	}
	h, err := t.get(r.msg.Handle, kindFile)
	if err != nil {
		return reply{}, unix.EBADF
	}
	t.mu.Lock()
	ours := t.before[r.msg.Handle]
	delete(t.before, r.msg.Handle)
	t.mu.Unlock()
	if !ours {
		h.put()
		return reply{}, unix.EBADF
	}
	give, err := h.file.Guest()
	if err != nil {
		h.put()
		return reply{}, err
	}
	st, err := h.file.Stat()
	if err != nil {
		h.put()
		return reply{}, err
	}
	return reply{handle: h, give: give, payload: abi.AppendStat(nil, &st)}, nil
}
