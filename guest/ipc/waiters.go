package ipc

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/rt"
)

// waiters are those who wait for a file with a handle: the runtime's poller at the
// handle's source, and all others in the queue.
type waiters struct {
	src rt.Source
	q   kernel.WaitQueue

	mu    sync.Mutex
	pd    uintptr // the first registration with the runtime's poller
	extra []*kernel.Watcher
}

// attach adds a registration. watch is the queue that the others are put into.
func (w *waiters) attach(pd uintptr, watch func() *kernel.WaitQueue) {
	w.mu.Lock()
	if w.pd == 0 {
		w.pd = pd
		rt.SetPD(&w.src, rt.PD(pd))
	} else {
		e := &kernel.Watcher{Mask: ^uint32(0), PD: rt.PD(pd)}
		w.extra = append(w.extra, e)
		watch().Add(e)
	}
	w.mu.Unlock()
	rt.Ready(rt.PD(pd), rt.In|rt.Out)
}

// DetachPD implements kernel.PDAttacher.
func (w *waiters) DetachPD(pd uintptr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pd == pd {
		w.pd = 0
		rt.SetPD(&w.src, 0)
		return
	}
	for i, e := range w.extra {
		if e.PD == rt.PD(pd) {
			w.q.Remove(e)
			w.extra = append(w.extra[:i], w.extra[i+1:]...)
			return
		}
	}
}

// tell makes all look again.
func (w *waiters) tell(events uint32) {
	w.mu.Lock()
	if w.pd != 0 {
		rt.Ready(rt.PD(w.pd), events)
	}
	w.mu.Unlock()
	w.q.Notify(events)
}
