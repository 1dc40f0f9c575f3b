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
	done chan error // told when the guest has written it
	open []volume.Record
	next uint32

	// What the guest hears while it writes itself is not in the snapshot, though the
	// monitor has done it. So it hears nothing between the answer to OpSnapshot, which
	// is when Opened is made, and its OpSnapshotted.
	replies sync.RWMutex // those that come later; held for writing meanwhile
	holds   bool         // of the goroutine that serves
}

// Opened is what a snapshot says of a guest's handles.
type Opened struct {
	Files []volume.Record
	Next  uint32 // above all names of handles so far
}

// Snapshot asks the guest to write itself to f and returns when it has.
func (b *Broker) Snapshot(ctx context.Context, f *os.File) (Opened, error) {
	s := &b.snap
	s.one.Lock()
	defer s.one.Unlock()
	done := make(chan error, 1)
	s.mu.Lock()
	s.file, s.done = f, done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.file, s.done = nil, nil
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
	defer s.mu.Unlock()
	if s.file == nil {
		return reply{}, unix.EPERM
	}
	s.replies.Lock()
	var err error
	if s.open, s.next, err = r.b.table.opened(); err != nil {
		s.replies.Unlock()
		s.done <- err
		s.file, s.done = nil, nil
		return reply{}, err
	}
	fd := -1
	raw, err := s.file.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) })
		if err == nil {
			err = cerr
		}
	}
	if err != nil {
		s.replies.Unlock()
		return reply{}, err
	}
	s.file = nil
	s.holds = true
	return give(fd), nil
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
func (t *table) opened() ([]volume.Record, uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []volume.Record
	for id, h := range t.m {
		if h.file == nil {
			continue
		}
		r, err := h.file.Record()
		if err != nil {
			return nil, 0, err
		}
		r.Handle = id
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b volume.Record) int { return int(int64(a.Handle) - int64(b.Handle)) })
	return list, t.next, nil
}

// Restored is what a pVM that goes on from a snapshot has open, by the names that its
// files have there, and the first name for others.
type Restored struct {
	Files map[uint32]*volume.File
	Next  uint32
}

// Close closes the files.
func (r *Restored) Close() {
	if r == nil {
		return
	}
	for _, f := range r.Files {
		f.Close()
	}
	r.Files = nil
}

// restore enters what a restored pVM has open.
func (t *table) restore(r *Restored) {
	if r == nil {
		return
	}
	t.m, t.next = make(map[uint32]*handle, len(r.Files)), max(r.Next, firstHandle)
	for id, f := range r.Files {
		h := &handle{id: id, kind: kindFile, file: f, fd: -1, before: true}
		h.refs.Store(1)
		t.m[id] = h
	}
}

// doReopen gives a file of before the descriptor that it has now, once. Files that nobody
// asks for are those whose names were lost on the way when the snapshot was made.
func doReopen(r *request) (reply, error) {
	t := &r.b.table
	if r.msg.Handle == 0 {
		t.mu.Lock()
		var lost []*handle
		for id, h := range t.m {
			if h.before {
				lost = append(lost, h)
				delete(t.m, id)
			}
		}
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
	ours := h.before
	h.before = false
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
