package host

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A Reply is the monitor's answer to a request.
type Reply struct {
	abi.Msg
	FD      int32  // the handle for host calls that came with it; -1: none
	more    rights // all of them
	Payload []byte // the caller's own
}

// OnEvent is called with each event (EvSignal …), on rt's goroutine: it must not
// block for long and must not make a Request. Set it before Start.
var OnEvent func(m abi.Msg, payload []byte)

// OnLink is called with an EvLink and its descriptors, which are then the callee's, under
// the same conditions.
var OnLink func(m abi.Msg, handles []int32)

// OnGone is called once when the monitor has closed the control channel or has
// sent more than maxBad malformed messages.
var OnGone func()

// maxBad bounds what is dropped: malformed messages, and replies to nothing.
const maxBad = 256

// A channel is the control channel. mu guards everything but in and inPkt, which belong
// to drain.
type channel struct {
	mu      sync.Mutex
	room    sync.Cond // the socket may take messages again, or a slot is free
	pending map[uint32]*pending
	lastID  uint32
	out     []byte // the message that is being sent
	outPkt  packet
	bad     int
	gone    bool
	copies  int // how many times this memory was copied into another pVM

	handle int32
	source rt.Source
	drain  sync.Mutex
	in     []byte
	inPkt  packet
}

var control channel

type pending struct {
	done  chan struct{}
	op    uint16
	reply Reply
	errno linux.Errno
}

var pendings = sync.Pool{New: func() any { return &pending{done: make(chan struct{}, 1)} }}

// Start begins to use the control channel at handle (abi.HandleControl).
func Start(handle int32) linux.Errno {
	c := &control
	c.drain.Lock()
	c.mu.Lock()
	c.room.L = &c.mu
	c.pending = make(map[uint32]*pending)
	c.handle, c.gone, c.bad = handle, false, 0
	c.source = rt.Source{Notify: notify, Slow: true}
	c.mu.Unlock()
	c.drain.Unlock()
	return linux.Errno(rt.Watch(handle, &c.source))
}

// Request sends a request and parks until the reply. The request's ID is chosen
// here. The error is the reply's, or EIO if the monitor is gone, or EMSGSIZE.
// A reply with an error may still have content.
func Request(m abi.Msg, payload ...[]byte) (Reply, linux.Errno) {
	return RequestWith(m, -1, payload...)
}

// RequestWith is Request with the handle fd beside the message, for sockets that
// the monitor has no name for.
func RequestWith(m abi.Msg, fd int32, payload ...[]byte) (Reply, linux.Errno) {
	p := pendings.Get().(*pending)
	c := &control
	rt.AddWaiter(1) // this goroutine waits for the monitor: no deadlock
	defer rt.AddWaiter(-1)
	c.mu.Lock()
	if c.pending == nil { // before Start: the library OS runs without a monitor
		c.mu.Unlock()
		return Reply{FD: -1}, linux.EIO
	}
	for len(c.pending) >= abi.MaxPending && !c.gone {
		c.room.Wait()
	}
	m.ID = c.newID()
	p.op = m.Op
	c.pending[m.ID] = p
	if e := send(&m, fd, payload); e != 0 {
		if c.pending[m.ID] == p {
			delete(c.pending, m.ID)
			pendings.Put(p)
		} // else fail or a reply has it, and its wake-up is pending: leave it to the collector
		c.mu.Unlock()
		return Reply{FD: -1}, e
	}
	c.mu.Unlock()
	<-p.done
	r, e := p.reply, p.errno
	p.reply = Reply{}
	pendings.Put(p)
	return r, e
}

// newID is an id that no request under way has. mu is held.
func (c *channel) newID() uint32 {
	for c.lastID++; c.lastID == 0 || c.pending[c.lastID] != nil; {
		c.lastID++
	}
	return c.lastID
}

// Post sends a message that has no reply (OpDrop, OpKilled).
func Post(m abi.Msg, payload ...[]byte) linux.Errno {
	control.mu.Lock()
	defer control.mu.Unlock()
	m.ID = 0
	return send(&m, -1, payload)
}

// send sends a message, waiting for room. mu is held, and let go while it waits.
func send(m *abi.Msg, fd int32, payload [][]byte) linux.Errno {
	c := &control
	for {
		if c.gone || c.pending == nil {
			return linux.EIO
		}
		if cap(c.out) < abi.MsgSize {
			c.out = make([]byte, 0, 512)
		}
		b := c.out[:abi.MsgSize]
		m.Put(b)
		for _, p := range payload {
			if len(b)+len(p) > abi.MaxMsg {
				return linux.EMSGSIZE
			}
			b = append(b, p...)
		}
		if c.out = b; cap(b) > 8192 {
			c.out = nil
		}
		var e linux.Errno
		if fd >= 0 {
			e = c.outPkt.send(c.handle, b, fd)
		} else {
			if queue(c.handle, b, nil) {
				return 0
			}
			_, e = Send(c.handle, b, 0)
		}
		switch e {
		case linux.EAGAIN:
			rt.AddWaiter(1) // for the monitor: no deadlock
			c.room.Wait()
			rt.AddWaiter(-1)
		case linux.EPIPE, linux.ECONNRESET, linux.ENOTCONN:
			return linux.EIO
		default:
			return e
		}
	}
}

// notify runs when the channel's readiness changed.
func notify(events uint32) {
	if events&rt.Out != 0 {
		control.mu.Lock()
		control.room.Broadcast()
		control.mu.Unlock()
	}
	if events&(rt.In|rt.Hup|rt.Err|rt.RdHup) != 0 {
		drain()
	}
}

// drain receives until the channel is empty.
func drain() {
	c := &control
	c.drain.Lock()
	defer c.drain.Unlock()
	if c.in == nil {
		c.in = make([]byte, abi.MaxMsg)
	}
	for !c.gone {
		n, fds, e := c.inPkt.recv(c.handle, c.in)
		switch {
		case e == linux.EAGAIN:
			return
		case e == linux.EINTR:
		case e != 0 || n == 0 && fds.n == 0:
			fail()
		default:
			if !receive(c.in[:n], &fds) {
				fds.close()
				if c.bad++; c.bad > maxBad {
					fail()
				}
			}
		}
	}
}

// receive hands a message to whom it is for, and reports whether it was for
// anybody.
func receive(b []byte, fds *rights) bool {
	c := &control
	m, payload, ok := abi.TakeMsg(b)
	if !ok {
		return false
	}
	if m.ID == 0 {
		if f := OnLink; m.Op == abi.EvLink && f != nil && fds.n == abi.LinkHandles {
			f(m, fds.fd[:fds.n])
			return true
		}
		if f := OnEvent; f != nil && fds.n == 0 {
			f(m, payload)
			return true
		}
		return false
	}
	c.mu.Lock()
	p := c.pending[m.ID]
	if p == nil {
		c.mu.Unlock()
		return false
	}
	if len(c.pending) == abi.MaxPending {
		c.room.Broadcast()
	}
	delete(c.pending, m.ID)
	c.mu.Unlock()
	if p.op == abi.OpForked {
		keepAhead(&m, fds)
		return true
	}
	p.reply = Reply{Msg: m, FD: fds.one(), more: *fds}
	if len(payload) > 0 {
		p.reply.Payload = append([]byte(nil), payload...)
	}
	p.errno = linux.Errno(m.Errno)
	p.done <- struct{}{}
	return true
}

// fail ends all requests with EIO.
func fail() {
	c := &control
	c.mu.Lock()
	c.gone = true
	for id, p := range c.pending {
		delete(c.pending, id)
		p.reply, p.errno = Reply{FD: -1}, linux.EIO
		p.done <- struct{}{}
	}
	c.room.Broadcast()
	c.mu.Unlock()
	if f := OnGone; f != nil {
		f()
	}
}
