package ipc

import (
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// An End is one end of a pair. Both are this pVM's until it forks; then all
// members have them, and what one reads no other does.
//
// Data goes through rings in shared memory. The connection that the monitor has made as
// well is the doorbell: a byte is sent for those that sleep, and none for those that run.
// And it is how an end learns that nobody has the other any more.
//
// Why no wake-up is lost: who finds nothing has the scheduler wait for the position to be
// another than the one that was looked at. Before this pVM sleeps the scheduler says so
// at the Bell and looks again; who moves a position looks at the Bell afterwards. One of the
// two sees the other. A ring is an edge for each member that has the end, whether or
// not bytes are there already, and each looks at all positions that it waits for.
type End struct {
	kernel.Base
	waiters
	a       *area
	side    int
	packets bool
	pipe    bool // it looks like one; the descriptors are for one direction each
	in, out ring
	inWord  rt.Word
	outWord rt.Word
	spins   [2]rt.Spin
	isSlow  atomic.Bool
	hung    atomic.Bool   // nobody has the other end
	bad     atomic.Bool   // the ring is not one
	closed  atomic.Uint32 // what endHead.closed of the other was when hung was looked at

	retry retry
}

// pair is pair(type, *[2]int32, PairPipe or 0).
func pair(a kernel.Args) (uintptr, linux.Errno) {
	fds, e := kernel.Ptr[[2]int32](a.A2)
	if e != 0 {
		return 0, e
	}
	typ := uint32(a.A1)
	if typ != linux.SOCK_STREAM && typ != linux.SOCK_SEQPACKET || a.A3&^abi.PairPipe != 0 {
		return 0, linux.EINVAL
	}
	m, e := newArea(pairSize, false)
	if e != 0 {
		return 0, e
	}
	ends, e := m.ends(typ == linux.SOCK_SEQPACKET)
	if e != 0 {
		return 0, e
	}
	modes := [2]uint32{linux.O_RDWR, linux.O_RDWR}
	if a.A3 == abi.PairPipe {
		modes = [2]uint32{linux.O_RDONLY, linux.O_WRONLY}
		ends[0].pipe, ends[1].pipe = true, true
	}
	const flags = linux.O_NONBLOCK | linux.O_CLOEXEC
	first, e := kernel.Install(ends[0], flags|modes[0])
	if e != 0 {
		ends[0].Release()
		ends[1].Release()
		return 0, e
	}
	second, e := kernel.Install(ends[1], flags|modes[1])
	if e != 0 {
		kernel.Close(first)
		ends[1].Release()
		return 0, e
	}
	fds[0], fds[1] = int32(first), int32(second)
	return 0, 0
}

// ends makes the two ends of a new area, or gives it back.
func (a *area) ends(packets bool) (ends [2]*End, errno linux.Errno) {
	for i := range ends {
		c := &End{a: a, side: i, packets: packets, in: a.ring(1 - i), out: a.ring(i)}
		c.src.Only = rt.Hup // bytes say nothing by themselves: words are looked at after each poll
		c.src.Notify = c.q.Notify
		h := a.handle[i]
		c.inWord = rt.Word{At: addrWord(&c.in.tail), Bell: addrBell(&c.in.data), Spin: &c.spins[0], Events: rt.In, Handle: h}
		c.outWord = rt.Word{At: addrWord(&c.out.head), Bell: addrBell(&c.out.room), Spin: &c.spins[1], Events: rt.Out, Handle: h}
		c.retry.init(c)
		if e := rt.Watch(h, &c.src); e != 0 {
			if i == 1 {
				rt.Unwatch(a.handle[0])
			}
			a.drop(0)
			a.drop(1)
			return ends, linux.Errno(e)
		}
		a.end[i], ends[i] = c, c
	}
	return ends, 0
}

func (c *End) me() *endHead   { return &c.a.heads().ends[c.side] }
func (c *End) peer() *endHead { return &c.a.heads().ends[1-c.side] }

func (c *End) Read(p []byte) (int, linux.Errno) {
	if len(p) == 0 {
		return 0, 0
	}
	for total := 0; ; {
		// Positions first, then whether anybody can still move them.
		seen := c.in.tail.Load()
		gone := c.gone()
		rt.Pin()
		var n int
		var e linux.Errno
		if c.packets {
			n, e = c.in.receive(p)
		} else {
			n, e = c.in.read(p[total:])
		}
		rt.Unpin()
		switch {
		case e == 0:
			c.pull(&c.in.room)
			if total += n; total < len(p) && n == ringPiece && !c.packets {
				continue
			}
			if c.isSlow.Load() {
				rt.Await(&c.inWord, c.in.tail.Load())
			}
			return total, 0
		case total > 0:
			return total, 0
		case e == errBusy:
			c.retry.later(rt.In)
			return 0, linux.EAGAIN
		case e != linux.EAGAIN:
			c.bad.Store(true)
			return 0, e
		case gone:
			return 0, 0
		}
		c.hush()
		rt.Await(&c.inWord, seen)
		return 0, linux.EAGAIN
	}
}

func (c *End) Write(p []byte) (int, linux.Errno) {
	if c.gone() {
		return 0, linux.EPIPE
	}
	if len(p) == 0 {
		return 0, 0
	}
	for total := 0; ; {
		seen := c.out.head.Load()
		rt.Pin()
		var n int
		var e linux.Errno
		if c.packets {
			n, e = c.out.send(p)
		} else {
			n, e = c.out.write(p[total:])
		}
		rt.Unpin()
		switch {
		case e == 0:
			c.pull(&c.out.data)
			if total += n; total == len(p) {
				return total, 0
			}
			continue
		case e == errBusy:
			c.retry.later(rt.Out)
			e = linux.EAGAIN
		case e == linux.EAGAIN:
			c.hush()
			rt.Await(&c.outWord, seen)
		case e != linux.EMSGSIZE:
			c.bad.Store(true)
		}
		if total > 0 {
			return total, 0
		}
		return 0, e
	}
}

// pull rings for those of the other end that sleep.
func (c *End) pull(b *rt.Bell) {
	n, ok := b.Pull()
	if !ok {
		return
	}
	c.peer().rung.Add(1)
	gate.RLock()
	host.Send(c.a.handle[c.side], ding[:], 0)
	gate.RUnlock()
	b.Pulled(n)
}

var ding [1]byte

// loud is how many bytes may wait in a connection. It takes some 250 before it is full,
// and then rings no more.
const loud = 32

// hush takes the bytes out of this end's connection, when there are many.
func (c *End) hush() { hush(c.me(), &c.a.handle[c.side]) }

func hush(h *endHead, handle *int32) {
	rung := h.rung.Load()
	if rung-h.heard.Load() < loud || frozen.Load() { // whose handle it is cannot be said: see thaw
		return
	}
	b := kernel.GetBuffer(4 * loud)
	defer kernel.PutBuffer(b)
	gate.RLock()
	defer gate.RUnlock()
	for range 4 {
		n, e := host.Recv(*handle, *b, 0)
		if e != 0 || n < len(*b) {
			h.heard.Store(rung) // of those that rang meanwhile some wait
			return
		}
	}
}

// gone reports whether nobody has the other end.
func (c *End) gone() bool {
	if c.hung.Load() {
		return true
	}
	n := c.peer().closed.Load()
	if frozen.Load() { // it cannot be said: see thaw
		return false
	}
	if n == c.closed.Load() && c.src.Seen()&(rt.Hup|rt.RdHup|rt.Err) == 0 {
		return false
	}
	gate.RLock()
	defer gate.RUnlock()
	// A message of no bytes is not sent, but where it could not be that is said.
	if _, e := host.Send(c.a.handle[c.side], ding[:0], 0); e != 0 && e != linux.EAGAIN && e != linux.EINTR {
		c.hung.Store(true)
		return true
	}
	c.closed.Store(n)
	return false
}

// slow makes events come to the wait queue.
func (c *End) slow() {
	if !c.isSlow.Load() {
		c.src.Slow = true
		c.isSlow.Store(true)
	}
}

func (c *End) Queue() *kernel.WaitQueue {
	c.slow()
	return &c.q
}

func (c *End) Ready() uint32 {
	c.slow()
	c.hush() // who polls may read no more than there is
	var ev uint32
	tail, head := c.in.tail.Load(), c.in.head.Load()
	gone := c.gone()
	n, e := used(tail, head)
	switch {
	case e != 0 || c.bad.Load():
		return rt.In | rt.Out | rt.Err
	case n != 0:
		ev = rt.In
	default:
		rt.Await(&c.inWord, tail)
	}
	if gone {
		return rt.In | rt.Out | rt.RdHup | rt.Hup
	}
	head = c.out.head.Load()
	switch n, e := used(c.out.tail.Load(), head); {
	case e != 0:
		return rt.In | rt.Out | rt.Err
	case n <= ringQuiet:
		ev |= rt.Out
	default:
		rt.Await(&c.outWord, head)
	}
	return ev &^ c.retry.what.Load()
}

// AttachPD implements kernel.PDAttacher.
func (c *End) AttachPD(pd uintptr) { c.attach(pd, c.Queue) }

func (c *End) Stat(st *linux.Stat) linux.Errno {
	c.Base.Stat(st)
	st.Mode = linux.S_IFSOCK | 0600
	if c.pipe {
		st.Mode = linux.S_IFIFO | 0600
	}
	return 0
}

func (c *End) Release() {
	c.retry.stop()
	rt.ForgetWord(&c.inWord)
	rt.ForgetWord(&c.outWord)
	gate.RLock()
	defer gate.RUnlock()
	rt.Unwatch(c.a.handle[c.side])
	c.a.dropNow(c.side)
}

// A retry is for locks that somebody has for longer than a copy takes: they are tried again
// later, and who has them is asked for.
type retry struct {
	c     *End
	mu    sync.Mutex
	timer *rt.Timer
	what  atomic.Uint32 // events that wait for a lock; changed with mu held
	delay int64         // ns
	over  bool
}

const (
	retryFirst = 1e6
	retryMost  = 100e6
)

func (r *retry) init(c *End) { r.c = c }

func (r *retry) later(events uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	if r.timer == nil {
		r.timer = rt.NewTimer(r.again)
	}
	if r.what.Load() == 0 {
		r.delay = min(max(2*r.delay, retryFirst), retryMost)
		r.timer.Reset(r.delay)
	}
	r.what.Store(r.what.Load() | events)
}

// again runs on a goroutine of its own. The memory is there until stop.
func (r *retry) again() {
	locks := []*atomic.Uint32{&r.c.in.reader, &r.c.out.writer}
	var owners [2]uint32
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	for i, l := range locks {
		owners[i] = l.Load()
	}
	r.mu.Unlock()
	for i, o := range owners {
		if o != 0 && runs(o) {
			owners[i] = 0
		}
	}
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	free := true
	for i, l := range locks {
		if owners[i] != 0 {
			l.CompareAndSwap(owners[i], 0)
		}
		free = free && l.Load() == 0
	}
	if free {
		r.delay = 0
	}
	what := r.what.Swap(0)
	r.mu.Unlock()
	r.c.tell(what)
}

// runs reports whether a member of the family has not ended.
func runs(pid uint32) bool {
	_, e := host.Request(abi.Msg{Op: abi.OpKill, A: uint64(pid), C: abi.KillRuns})
	return e != linux.ESRCH
}

func (r *retry) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
