// Package ipc is the brick of what members of a family share besides their memory of
// before the fork: connections and memory that the monitor makes. Its private system calls
// are linked if the program can make them (Start); connections that a pVM was given by
// whoever started it are in every image.
package ipc

import (
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func init() { kernel.OnInit(opened) }

// opened makes the descriptors that whoever has started this pVM has given it.
func opened(b *host.Boot) {
	for _, o := range b.Opened {
		if o.FD < 3 {
			kernel.StdioAlone(o.FD)
			continue
		}
		rt.Opened(o.Handle)
		if o.FD >= abi.ExecFilesMax {
			host.Close(o.Handle)
			continue
		}
		c, e := NewChannel(o.Handle, 0, 0)
		if e != 0 {
			host.Close(o.Handle)
			continue
		}
		kernel.InstallAt(int(o.FD), c, linux.O_RDWR)
	}
}

// A Channel is one end of a connection of the host's.
//
// Why no wake-up is lost: events are edge-triggered; Ready asks the host whether there
// is something to receive; it says "no room" only while no Out edge has come since a
// send found none.
type Channel struct {
	kernel.Base
	waiters
	handle int32         // see gate
	pair   uint64        // id in the family; 0: not known
	end    uint64        // which of the two it is
	outs   atomic.Uint64 // Out edges, and calls of slow
	fullAt atomic.Uint64 // outs, plus one, at the last send that found no room
	isSlow atomic.Bool
}

// NewChannel makes a file of a stream or packet socket that is only this pVM's: of one end of a
// pair, whose id is 0 if it is not known. The handle stays the caller's if there is an error.
func NewChannel(handle int32, pair, end uint64) (*Channel, linux.Errno) {
	c := &Channel{handle: handle, pair: pair, end: end}
	c.src.Notify = func(ev uint32) {
		if ev&rt.Out != 0 {
			c.outs.Add(1)
		}
		c.q.Notify(ev)
	}
	if e := rt.Watch(handle, &c.src); e != 0 {
		return nil, linux.Errno(e)
	}
	remember(c)
	return c, 0
}

func (c *Channel) Read(p []byte) (int, linux.Errno) {
	gate.RLock()
	defer gate.RUnlock()
	n, e := host.Recv(c.handle, p, 0)
	if e == linux.ECONNRESET { // the last of the other end went without reading all
		return 0, 0
	}
	return n, e
}

func (c *Channel) Write(p []byte) (int, linux.Errno) {
	gate.RLock()
	defer gate.RUnlock()
	outs := c.outs.Load()
	n, e := host.Send(c.handle, p, 0)
	switch {
	case e == linux.EAGAIN || e == 0 && n < len(p):
		c.fullAt.Store(outs + 1)
	case e == linux.ECONNRESET:
		e = linux.EPIPE
	}
	return n, e
}

// slow makes the host's events come to the wait queue.
func (c *Channel) slow() {
	if !c.isSlow.Load() {
		c.src.Slow = true
		c.outs.Add(1)
		c.isSlow.Store(true)
	}
}

func (c *Channel) Queue() *kernel.WaitQueue {
	c.slow()
	return &c.q
}

func (c *Channel) Ready() uint32 {
	c.slow()
	b := kernel.GetBuffer(1)
	defer kernel.PutBuffer(b)
	var ev uint32
	gate.RLock()
	n, e := host.Recv(c.handle, *b, linux.MSG_PEEK)
	gate.RUnlock()
	switch {
	case e == linux.EAGAIN:
	case e == 0 && n > 0:
		ev = rt.In
	default:
		ev = rt.In | rt.RdHup | rt.Hup
	}
	if c.fullAt.Load() != c.outs.Load()+1 {
		ev |= rt.Out
	}
	return ev
}

// AttachPD implements kernel.PDAttacher.
func (c *Channel) AttachPD(pd uintptr) { c.attach(pd, c.Queue) }

// HostStream implements kernel.HostStream.
func (c *Channel) HostStream() (handle int32, std int) {
	gate.RLock()
	defer gate.RUnlock()
	return c.handle, -1
}

func (c *Channel) Stat(st *linux.Stat) linux.Errno {
	c.Base.Stat(st)
	st.Mode = linux.S_IFSOCK | 0600
	return 0
}

func (c *Channel) Release() {
	gate.RLock()
	defer gate.RUnlock()
	c.release()
}

func (c *Channel) release() {
	forget(c)
	rt.Unwatch(c.handle)
	host.Close(c.handle)
	if c.pair != 0 {
		host.Post(abi.Msg{Op: abi.OpUnshare, A: nowhere, B: c.pair})
	}
}
