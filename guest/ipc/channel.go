// Package ipc is the brick of what members of a family share besides their memory of
// before the fork: connections and memory that the monitor makes. It registers its
// private system calls with package kernel when it is linked.
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

func init() {
	kernel.Register(abi.SysPair, pair)
	kernel.OnInit(opened)
}

// opened makes the descriptors that whoever has started this pVM has given it.
func opened(b *host.Boot) {
	for _, o := range b.Opened {
		if o.FD < 3 {
			kernel.StdioAlone(o.FD)
			continue
		}
		c, e := NewChannel(o.Handle)
		if e != 0 || o.FD >= abi.ExecFilesMax {
			host.Close(o.Handle)
			continue
		}
		kernel.InstallAt(int(o.FD), c, linux.O_RDWR)
	}
}

// A Channel is one end of a connection. Both ends are this pVM's until it forks; then
// all members have them, and what one reads no other does.
//
// Why no wake-up is lost: events are edge-triggered; Ready asks the host whether there
// is something to receive; it says "no room" only while no Out edge has come since a
// send found none.
type Channel struct {
	kernel.Base
	handle int32
	src    rt.Source
	q      kernel.WaitQueue
	outs   atomic.Uint64 // Out edges, and calls of slow
	fullAt atomic.Uint64 // outs, plus one, at the last send that found no room
	isSlow atomic.Bool

	mu    sync.Mutex
	pd    uintptr // the first registration with the runtime's poller
	extra []*kernel.Watcher
}

// NewChannel makes a file of a stream or packet socket that is only this pVM's. The
// handle stays the caller's if there is an error.
func NewChannel(handle int32) (*Channel, linux.Errno) {
	c := &Channel{handle: handle}
	c.src.Notify = func(ev uint32) {
		if ev&rt.Out != 0 {
			c.outs.Add(1)
		}
		c.q.Notify(ev)
	}
	return c, linux.Errno(rt.Watch(handle, &c.src))
}

// pair is pair(type, *[2]int32).
func pair(a kernel.Args) (uintptr, linux.Errno) {
	fds, e := kernel.Ptr[[2]int32](a.A2)
	if e != 0 {
		return 0, e
	}
	if rt.Boot().Flags&abi.BootFork == 0 {
		return 0, linux.EPERM
	}
	r, e := host.Request(abi.Msg{Op: abi.OpPair, A: uint64(uint32(a.A1))})
	if e != 0 {
		return 0, e
	}
	x, y, ok := r.Two()
	if !ok {
		return 0, linux.EIO
	}
	var list [2]*Channel
	for i, h := range [2]int32{x, y} {
		if list[i], e = NewChannel(h); e != 0 {
			for j, h := range [2]int32{x, y} {
				if j < i {
					rt.Unwatch(h)
				}
				host.Close(h)
			}
			return 0, e
		}
	}
	const flags = linux.O_RDWR | linux.O_NONBLOCK | linux.O_CLOEXEC
	first, e := kernel.Install(list[0], flags)
	if e != 0 {
		list[0].Release()
		list[1].Release()
		return 0, e
	}
	second, e := kernel.Install(list[1], flags)
	if e != 0 {
		kernel.Close(first)
		list[1].Release()
		return 0, e
	}
	fds[0], fds[1] = int32(first), int32(second)
	return 0, 0
}

func (c *Channel) Read(p []byte) (int, linux.Errno) {
	n, e := host.Recv(c.handle, p, 0)
	if e == linux.ECONNRESET { // the last of the other end went without reading all
		return 0, 0
	}
	return n, e
}

func (c *Channel) Write(p []byte) (int, linux.Errno) {
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
	switch n, e := host.Recv(c.handle, *b, linux.MSG_PEEK); {
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
func (c *Channel) AttachPD(pd uintptr) {
	c.mu.Lock()
	if c.pd == 0 {
		c.pd = pd
		rt.SetPD(&c.src, rt.PD(pd))
	} else {
		w := &kernel.Watcher{Mask: ^uint32(0), PD: rt.PD(pd)}
		c.extra = append(c.extra, w)
		c.Queue().Add(w)
	}
	c.mu.Unlock()
	rt.Ready(rt.PD(pd), rt.In|rt.Out)
}

// DetachPD implements kernel.PDAttacher.
func (c *Channel) DetachPD(pd uintptr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pd == pd {
		c.pd = 0
		rt.SetPD(&c.src, 0)
		return
	}
	for i, w := range c.extra {
		if w.PD == rt.PD(pd) {
			c.q.Remove(w)
			c.extra = append(c.extra[:i], c.extra[i+1:]...)
			return
		}
	}
}

// HostStream implements kernel.HostStream.
func (c *Channel) HostStream() (handle int32, std int) { return c.handle, -1 }

func (c *Channel) Stat(st *linux.Stat) linux.Errno {
	c.Base.Stat(st)
	st.Mode = linux.S_IFSOCK | 0600
	return 0
}

func (c *Channel) Release() {
	rt.Unwatch(c.handle)
	host.Close(c.handle)
}
