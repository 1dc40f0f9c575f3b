package broker

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A Family answers what one member wants of the others. Its methods are safe for
// concurrent use.
type Family interface {
	// Fork prepares a child of this member. EAGAIN: the family is as large as it may be.
	// asked: the guest was told to, by Broker.Fork. ahead: it may be long until the guest
	// forks, if it ever does.
	Fork(asked, ahead bool) (*Birth, error)
	// Room waits for a place in a family that is only full as children were prepared
	// ahead. EAGAIN: it is full without them, or they are not given back.
	Room(ctx context.Context) error
	// Unborn is told that the guest could not fork the child that was prepared.
	Unborn(pid uint32)
	// Wait waits for the end of a child, any child if pid is 0, if hang is set. A pid
	// of 0 in the answer is none yet. keep: it can be waited for again.
	Wait(ctx context.Context, pid uint32, hang, keep bool) (uint32, uint32, error)
	// Signal delivers a signal to a member; with 0 it only asks whether there is one,
	// with Runs whether there is one that has not ended.
	Signal(ctx context.Context, pid uint32, sig unix.Signal) error
}

// Runs is no signal: see Family.Signal.
const Runs unix.Signal = -1

// A Birth is a child that may be forked any moment.
type Birth struct {
	PID   uint32
	Give  [abi.ForkHandles]int // descriptors for the guest; closed by Sent
	Child *Broker              // does not serve yet
	Sent  func()               // Give was sent, or could not be
	// Born is called when Child has what its parent had: it may serve. forked is what
	// the guest says: whether there is a child at all shows at the other end of its channel.
	Born func(forked bool)
}

// maxBirths bounds the children of one pVM that are prepared and not forked.
const maxBirths = 16

// births are the children of a pVM that may yet be forked.
type births struct {
	mu sync.Mutex
	m  map[uint32]*Birth
	n  int // being prepared
}

// prepare makes a Birth and notes it.
func (b *Broker) prepare(asked, ahead bool) (reply, error) {
	if b.c.Family == nil {
		return reply{}, unix.EPERM
	}
	l := &b.births
	l.mu.Lock()
	full := len(l.m)+l.n >= maxBirths
	l.n++
	l.mu.Unlock()
	var birth *Birth
	err := error(unix.EAGAIN)
	if !full {
		birth, err = b.c.Family.Fork(asked, ahead)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n--
	if err != nil {
		return reply{}, err
	}
	if l.m == nil {
		l.m = make(map[uint32]*Birth)
	}
	l.m[birth.PID] = birth
	return reply{a: uint64(birth.PID), gives: birth.Give[:], free: birth.Sent}, nil
}

func doFork(r *request) (reply, error) {
	rep, err := r.b.prepare(r.msg.A == 1, false)
	if err == unix.EAGAIN {
		err = errLater
	}
	return rep, err
}

func waitFork(r *request) (reply, error) {
	if err := r.b.c.Family.Room(r.ctx); err != nil {
		return reply{}, err
	}
	return r.b.prepare(r.msg.A == 1, false)
}

// doForked is told right before the guest forks.
func doForked(r *request) (reply, error) {
	pid, err := small(r.msg.A)
	if err == nil {
		r.b.born(pid, r.msg.B == 0, uint32(r.msg.D&abi.NarrowAll))
		if r.msg.B != 0 && r.b.c.Family != nil {
			r.b.c.Family.Unborn(pid)
		}
	}
	if r.msg.ID != 0 && r.msg.C == 1 {
		return r.b.prepare(false, true)
	}
	return reply{}, errNoReply
}

// GiveBack asks the guest for the child that was prepared ahead.
func (b *Broker) GiveBack() error {
	b.events.mu.Lock()
	b.events.giveBack = true
	b.events.mu.Unlock()
	return b.flush()
}

// born gives a child the handles of this moment, and the rights but those in narrow.
func (b *Broker) born(pid uint32, forked bool, narrow uint32) {
	b.births.mu.Lock()
	birth := b.births.m[pid]
	delete(b.births.m, pid)
	b.births.mu.Unlock()
	if birth == nil {
		return
	}
	birth.Child.Narrow(b.Narrowed() | narrow)
	if f, ok := b.c.Family.(Linker); ok && birth.Child.Narrowed()&abi.NarrowSignal != 0 {
		f.UnlinkAll() // it has the memory of its parent's
	}
	birth.Child.table.inherit(&b.table)
	birth.Born(forked)
}

// inherit enters the handles of t that a fork shares: files, listeners, published UDP.
// They are the same descriptions of open files, as after fork(2).
func (c *table) inherit(t *table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.m, c.next = make(map[uint32]*handle, len(t.m)), max(t.next, firstHandle)
	for id, h := range t.m {
		if h.kind == kindFile || h.kind == kindListener || h.kind == kindUDP && h.port != nil {
			h.refs.Add(1)
			c.m[id] = h
		}
	}
}

func doWait(r *request) (reply, error) {
	pid, err := small(r.msg.A)
	if err != nil {
		return reply{}, err
	}
	if r.b.c.Family == nil {
		return reply{}, unix.ECHILD
	}
	hang, keep := r.msg.B&1 == 0, r.msg.B&abi.WaitKeep != 0
	wait := r.b.c.Family.Wait
	if r.msg.B&abi.WaitGroup != 0 {
		f, ok := r.b.c.Family.(Grouper)
		if !ok {
			return reply{}, unix.ECHILD
		}
		wait = f.WaitGroup
	}
	for {
		if hang {
			if _, _, err := wait(r.ctx, pid, true, true); err != nil {
				return reply{}, err
			}
		}
		r.told() // or it was not waited for
		got, status, err := wait(r.ctx, pid, false, keep)
		if got != 0 || err != nil || !hang {
			return reply{a: uint64(got), b: uint64(status)}, err
		}
		r.heard() // another was faster
	}
}

func doKill(r *request) (reply, error) {
	pid, err := small(r.msg.A)
	if err != nil || r.msg.B > 64 || r.msg.C > abi.KillAll || r.msg.C == abi.KillRuns && r.msg.B != 0 {
		return reply{}, unix.EINVAL
	}
	if r.b.c.Family == nil {
		return reply{}, unix.ESRCH
	}
	if r.msg.C == abi.KillGroup || r.msg.C == abi.KillAll {
		return reply{}, r.killGroup(pid)
	}
	if r.b.Narrowed()&abi.NarrowSignal != 0 {
		if f, ok := r.b.c.Family.(Narrower); !ok || r.msg.B != 0 && f.Narrow(r.ctx, pid, 0) != nil {
			return reply{}, unix.EPERM
		}
	}
	sig := unix.Signal(r.msg.B)
	if r.msg.C == abi.KillRuns {
		sig = Runs
	}
	return reply{}, r.b.c.Family.Signal(r.ctx, pid, sig)
}
