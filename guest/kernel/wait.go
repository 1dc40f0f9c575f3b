package kernel

import (
	"sync"
	"sync/atomic"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Always are the events that every watcher gets, asked for or not.
const Always = rt.Err | rt.Hup

// A Waker is told of readiness. Wake is called with the queue locked: it must
// be short, must not park, and must not touch that queue again. It may Notify
// another queue.
type Waker interface{ Wake(events uint32) }

// A Watcher is one entry of a WaitQueue: a blocked goroutine, an epoll
// instance, or a registration with the runtime's poller.
type Watcher struct {
	Mask uint32 // the events of interest; Always is implied
	To   Waker  // told if not nil
	PD   rt.PD  // made ready if not 0

	next, prev *Watcher
	q          *WaitQueue
}

// A WaitQueue is what a File tells about its readiness. The zero value is ready
// for use.
type WaitQueue struct {
	n    atomic.Int32
	mu   sync.Mutex
	head *Watcher
	tail *Watcher
}

// Add puts w at the end of q. Readiness from before is not reported: look at
// File.Ready after Add.
func (q *WaitQueue) Add(w *Watcher) {
	q.mu.Lock()
	w.q, w.prev, w.next = q, q.tail, nil
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
	q.n.Add(1)
	q.mu.Unlock()
}

// Remove takes w out of q. After it no Wake of w runs. Removing what is not in
// a queue does nothing.
func (q *WaitQueue) Remove(w *Watcher) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.q != q {
		return
	}
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.q, w.next, w.prev = nil, nil, nil
	q.n.Add(-1)
}

// SetMask changes what w is interested in.
func (q *WaitQueue) SetMask(w *Watcher, mask uint32) {
	q.mu.Lock()
	w.Mask = mask
	q.mu.Unlock()
}

// Notify tells the watchers that events became ready. Change the state first,
// unlock it, then Notify. It costs a load if nobody watches.
func (q *WaitQueue) Notify(events uint32) {
	if q.n.Load() == 0 {
		return
	}
	q.mu.Lock()
	for w := q.head; w != nil; w = w.next {
		if e := events & (w.Mask | Always); e != 0 {
			if w.PD != 0 {
				rt.Ready(w.PD, e)
			}
			if w.To != nil {
				w.To.Wake(e)
			}
		}
	}
	q.mu.Unlock()
}

// Watched reports whether anybody watches.
func (q *WaitQueue) Watched() bool { return q.n.Load() != 0 }

// A Parker parks one goroutine until one of the queues that it watches, or a
// timer, wakes it. Get one with GetParker, give it back with Put when all of
// its watchers are removed.
type Parker struct {
	ch    chan struct{}
	timer *rt.Timer
}

var parkers = sync.Pool{New: func() any { return &Parker{ch: make(chan struct{}, 1)} }}

// GetParker returns a parker; a wake-up of an earlier use may be pending, so
// callers loop.
func GetParker() *Parker { return parkers.Get().(*Parker) }

// Wake implements Waker.
func (p *Parker) Wake(uint32) {
	select {
	case p.ch <- struct{}{}:
	default:
	}
}

// Put gives p back.
func (p *Parker) Put() {
	select {
	case <-p.ch:
	default:
	}
	parkers.Put(p)
}

// Park waits for Wake, or until deadline (of rt.Nanotime; 0 means none), and
// reports false if the deadline has passed. It counts as a waiter for something
// outside the pVM, as a blocked system call does in an ordinary process.
func (p *Parker) Park(deadline int64) bool {
	if deadline != 0 {
		d := deadline - rt.Nanotime()
		if d <= 0 {
			return false
		}
		if p.timer == nil {
			p.timer = rt.NewTimer(func() { p.Wake(0) })
		}
		p.timer.Reset(d)
	}
	rt.AddWaiter(1)
	<-p.ch
	rt.AddWaiter(-1)
	if deadline != 0 {
		p.timer.Stop()
	}
	return true
}

// Wait parks until f has one of events (or an error or hang-up), or until
// deadline (of rt.Nanotime; 0 means none). It returns 0 or ETIMEDOUT.
func Wait(f File, events uint32, deadline int64) linux.Errno {
	q := f.Queue()
	if q == nil {
		return 0
	}
	p := GetParker()
	w := &Watcher{Mask: events, To: p}
	q.Add(w)
	var errno linux.Errno
	for f.Ready()&(events|Always) == 0 {
		if !p.Park(deadline) {
			errno = linux.ETIMEDOUT
			break
		}
	}
	q.Remove(w)
	p.Put()
	return errno
}
