package ipc

import (
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/rt"
)

// gate is held by a snapshot from before the monitor is shown the channels until all is
// written; and by a restored pVM until it has them again. Who uses a channel's handle, or
// makes one, holds it for reading.
var gate sync.RWMutex

// channels are all that are open.
var channels struct {
	mu sync.Mutex
	m  map[*Channel]struct{}
}

// keepAreas and thawAreas are the same for what Start's calls make, if they are there.
var keepAreas, thawAreas = func() {}, func() {}

func init() {
	kernel.OnSnapshot(keep, thaw)
	kernel.OnRestore(rejoin)
}

func remember(c *Channel) {
	channels.mu.Lock()
	defer channels.mu.Unlock()
	if channels.m == nil {
		channels.m = make(map[*Channel]struct{})
	}
	channels.m[c] = struct{}{}
}

func forget(c *Channel) {
	channels.mu.Lock()
	defer channels.mu.Unlock()
	delete(channels.m, c)
}

func all() []*Channel {
	channels.mu.Lock()
	defer channels.mu.Unlock()
	var list []*Channel
	for c := range channels.m {
		list = append(list, c)
	}
	return list
}

// keep shows the monitor the sockets behind the channels and areas, so that it can put down
// what is under way in them when all members stand still.
func keep() {
	gate.Lock()
	frozen.Store(true) // and so it is in the file
	if rt.Boot().Flags&abi.BootFamily == 0 {
		return
	}
	for _, c := range all() {
		host.RequestWith(abi.Msg{Op: abi.OpKeep, A: uint64(c.handle), B: c.pair, C: c.end}, c.handle)
	}
	keepAreas()
}

// frozen is set while gate is held: the handles of a pVM that has just been restored are not
// what they were, and say nothing.
var frozen atomic.Bool

func thaw() {
	frozen.Store(false)
	gate.Unlock()
	thawAreas()
}

// rejoin asks for the ends of pairs that this pVM had. What the monitor does not know stays
// what it is: broken.
func rejoin() {
	for _, c := range all() {
		old := c.handle
		r, e := host.Request(abi.Msg{Op: abi.OpRejoin, A: uint64(old)})
		if e != 0 || r.FD < 0 {
			c.pair = 0
			continue
		}
		rt.Unwatch(old)
		c.handle, c.pair, c.end = r.FD, r.A, r.B
		if rt.Watch(r.FD, &c.src) != 0 {
			host.Close(r.FD)
			c.handle = old
			continue
		}
		host.Close(old) // what stood for it
		c.outs.Add(1)
		c.tell(rt.In | rt.Out)
	}
}
