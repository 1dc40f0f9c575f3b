package monitor

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
)

// A family is a pVM and all that were forked of it. They share the standard streams,
// published ports, volumes and the policy; each has a broker and a control channel of
// its own. A member that ends takes no other with it: children live on, and the family
// ends with its last member.
type family struct {
	limit   int
	conf    Config // of the first
	backend Backend
	shape   broker.Config // of every member
	volumes []Volume
	execs   map[string]*executable // images that may be started, by path in the pVM

	first   *member
	members sync.WaitGroup // those that the first was forked to, born or not

	saving sync.Mutex // held by a snapshot
	stdio  [3]uint64  // inodes of what the standard streams of the first are to it

	asked chan int   // ids of forks that somebody outside asked for
	asks  sync.Mutex // one at a time

	mu       sync.Mutex
	living   map[uint32]*member
	links    []signalLink
	lastLink uint64
	lastPID  uint32
	parent   Process // the first's: it adopts and kills what it has forked, even after its end
	killed   bool
	users    int           // brokers that share roots and ports
	moved    chan struct{} // closed, and made anew, when a child that was prepared ahead is no more, or not ahead

	nextPair, nextShare uint64  // the last id of a pair; above the places of all pieces of shared memory
	rejoin              *rejoin // what members of a restored family have in common; nil: all have it
}

func newFamily(c *Config, be Backend, shape broker.Config, l *launch, execs map[string]*executable) *family {
	f := &family{limit: c.Forks, conf: *c, backend: be, execs: execs, volumes: l.volumes, lastPID: 1, living: make(map[uint32]*member)}
	if f.limit < 2 {
		f.limit = DefaultForks
	}
	f.conf.Stdin, f.conf.Stdout, f.conf.Stderr, f.conf.TraceTo = nil, nil, nil, nil
	f.conf.Restore, f.conf.Snapshot, f.conf.Reopen, f.conf.Shared = "", nil, "", nil
	f.asked = make(chan int, 1)
	f.moved = make(chan struct{})
	f.shape = shape
	f.shape.Release = f.release
	for n := range f.stdio {
		f.stdio[n], _ = inode(int(fdOf(l.handles[n])))
	}
	f.first = &member{f: f, pid: 1, group: 1, session: 1, boot: l.boot.head, terminal: shape.Terminal, changed: make(chan struct{})}
	f.living[1] = f.first
	f.users = 1
	return f
}

// begin tells of the first, which runs.
func (f *family) begin(b *broker.Broker, p Process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parent = p
	f.first.broker, f.first.proc = b, p
}

// release is called at the end of each broker.
func (f *family) release() {
	f.mu.Lock()
	f.users--
	last := f.users == 0
	f.mu.Unlock()
	if last {
		closeShared(f.shape.Roots, f.shape.Ports, f.execs)
	}
}

// kill ends all at once, and those that are just being started.
func (f *family) kill() error {
	f.mu.Lock()
	f.killed = true
	p := f.parent
	f.mu.Unlock()
	if p == nil {
		return nil
	}
	err := killAll(p)
	for _, m := range f.all() {
		if m != f.first {
			killAll(m.proc)
		}
	}
	return err
}

// killAll ends p and what it has forked.
func killAll(p Process) error {
	if q, ok := p.(Parent); ok {
		return q.KillFamily()
	}
	return p.Kill()
}

// all returns the members that live.
func (f *family) all() []*member {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*member
	for _, m := range f.living {
		if m.proc != nil {
			list = append(list, m)
		}
	}
	return list
}

func (f *family) signalAll(sig unix.Signal) error {
	err := error(unix.ESRCH)
	for _, m := range f.all() {
		if e := m.broker.Signal(sig); e == nil {
			err = nil
		}
	}
	return err
}

// stats are the sums of all members.
func (f *family) stats() Stats {
	var sum Stats
	for _, m := range f.all() {
		s, err := m.proc.Stats()
		if err != nil {
			continue // it has ended meanwhile
		}
		sum.CPU += s.CPU
		sum.RSS += s.RSS
		sum.PrivateDirty += s.PrivateDirty
		g := m.broker.Figures()
		sum.Handles += g.Handles
		sum.Pending += g.Pending
		sum.Requests += g.Requests
		sum.Connections += g.Connects
	}
	return sum
}

// newPID reserves a place and a number.
func (f *family) newPID(m *member) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.living) >= f.limit {
		return unix.EAGAIN
	}
	for {
		if f.lastPID++; f.lastPID > math.MaxInt32 {
			f.lastPID = 2
		}
		if f.living[f.lastPID] == nil && !f.isZombie(f.lastPID) && f.groupMember(f.lastPID, 0) == nil {
			break
		}
	}
	m.pid = f.lastPID
	f.living[m.pid] = m
	f.users++
	f.members.Add(1)
	return nil
}

// roomPatience bounds the wait for a guest that holds a child which was prepared ahead.
const roomPatience = time.Second

// Room implements broker.Family.
func (m *member) Room(ctx context.Context) error {
	f := m.f
	t := time.NewTimer(roomPatience)
	defer t.Stop()
	asked := make(map[*member]bool)
	for {
		f.mu.Lock()
		moved, free := f.moved, len(f.living) < f.limit
		var ask []*member
		held := false
		for _, c := range f.living {
			if c.ahead {
				held = true
				if p := c.parent; !asked[p] {
					asked[p] = true
					ask = append(ask, p)
				}
			}
		}
		f.mu.Unlock()
		if free {
			return nil
		}
		if !held {
			return unix.EAGAIN
		}
		for _, p := range ask {
			p.broker.GiveBack()
		}
		select {
		case <-moved:
		case <-t.C:
			return unix.EAGAIN
		case <-ctx.Done():
			return unix.EINTR
		}
	}
}

// settle says that m is being forked: its parent may wait for it, and it has what its parent
// has at this moment.
func (m *member) settle() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if m.parent.children == nil {
		m.parent.children = make(map[uint32]*child)
	}
	m.parent.children[m.pid] = &child{}
	m.group, m.session = m.parent.group, m.parent.session
	m.inherit(m.parent)
	if m.ahead {
		m.ahead = false
		m.f.changed()
	}
}

// changed wakes those who wait in Room. mu is held.
func (f *family) changed() {
	close(f.moved)
	f.moved = make(chan struct{})
}

// isZombie says whether somebody may still wait for a number. mu is held.
func (f *family) isZombie(pid uint32) bool {
	for _, m := range f.living {
		if _, ok := m.children[pid]; ok {
			return true
		}
	}
	return false
}

// block is the boot block of a fork.
func (m *member) block() (*os.File, error) {
	b := &boot{head: m.boot}
	b.head.ID, b.head.PID, b.head.PPID = lastID.Add(1), m.pid, m.ppid
	rand.Read(b.head.Seed[:])
	b.add(abi.RecHostname, abi.AppendString(nil, fmt.Sprintf("%.50s-%d", m.f.conf.Hostname, m.pid)))
	return b.seal()
}

// config is the broker's for m.
func (m *member) config(control *os.File) broker.Config {
	c := m.f.shape
	c.Control, c.Family, c.Terminal = control, m, m.terminal
	if m != m.f.first {
		c.Failed = m.failed
	}
	return c
}

// failed ends a fork for which its broker could not go on.
func (m *member) failed(error) {
	m.f.mu.Lock()
	p := m.proc
	m.f.mu.Unlock()
	if p != nil {
		p.Kill()
	}
}

// Wait implements broker.Family.
func (m *member) Wait(ctx context.Context, pid uint32, hang, keep bool) (uint32, uint32, error) {
	return m.wait(ctx, hang, keep, func(id uint32, _ *child) bool { return pid == 0 || pid == id })
}

// wait waits for one of the children that match, which is called with mu held.
func (m *member) wait(ctx context.Context, hang, keep bool, match func(pid uint32, c *child) bool) (uint32, uint32, error) {
	for {
		m.f.mu.Lock()
		changed, any := m.changed, false
		for id, c := range m.children {
			if !match(id, c) {
				continue
			}
			any = true
			if c.over {
				if !keep {
					delete(m.children, id)
				}
				m.f.mu.Unlock()
				return id, c.status, nil
			}
		}
		m.f.mu.Unlock()
		switch {
		case !any:
			return 0, 0, unix.ECHILD
		case !hang:
			return 0, 0, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, 0, unix.EINTR
		}
	}
}

// Signal implements broker.Family.
func (m *member) Signal(ctx context.Context, pid uint32, sig unix.Signal) error {
	m.f.mu.Lock()
	to := m.f.living[pid]
	if to != nil && to.proc == nil && to.known != nil && !to.ahead { // it is being born
		m.f.mu.Unlock()
		select {
		case <-to.known:
		case <-ctx.Done():
			return unix.EINTR
		}
		m.f.mu.Lock()
		to = m.f.living[pid]
	}
	var p Process
	if to != nil {
		p = to.proc
	}
	m.f.mu.Unlock()
	switch {
	case to == nil:
		for _, c := range m.zombies() {
			if c == pid && sig != broker.Runs {
				return nil // ended and not waited for: as kill(2)
			}
		}
		return unix.ESRCH
	case sig == 0 || sig == broker.Runs:
		return nil
	case p == nil:
		return unix.ESRCH
	case sig == unix.SIGKILL:
		return p.Kill()
	}
	return to.broker.Signal(sig)
}

func (m *member) zombies() (list []uint32) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	for id := range m.children {
		list = append(list, id)
	}
	return list
}
