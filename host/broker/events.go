package broker

import (
	"math/bits"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// events are what the monitor has to tell the guest. A signal that is already
// waiting is not added again, as in a process, so that there is nothing to grow
// while a guest does not read.
type events struct {
	mu         sync.Mutex
	signals    uint64 // bit n-1: signal n
	rows, cols uint16
	resized    bool
	forks      int // wanted
	snapshot   bool
	giveBack   bool
	orphan     bool // its parent has ended
	links      []linkEvent
	closed     bool // nobody will be told
	sending    bool
}

// Signal delivers sig to the app.
func (b *Broker) Signal(sig unix.Signal) error {
	if sig < 1 || sig > 64 {
		return unix.EINVAL
	}
	b.events.mu.Lock()
	b.events.signals |= 1 << (sig - 1)
	b.events.mu.Unlock()
	return b.flush()
}

// Resize tells the app about its terminal's window.
func (b *Broker) Resize(rows, cols uint16) error {
	b.events.mu.Lock()
	b.events.rows, b.events.cols, b.events.resized = rows, cols, true
	b.events.mu.Unlock()
	return b.flush()
}

// Fork asks the guest to fork. Family.Fork is called when it does.
func (b *Broker) Fork() error {
	if b.c.Family == nil {
		return unix.EPERM
	}
	b.events.mu.Lock()
	b.events.forks = min(b.events.forks+1, maxBirths)
	b.events.mu.Unlock()
	return b.flush()
}

// Orphan tells the guest that its parent has ended.
func (b *Broker) Orphan() error {
	b.events.mu.Lock()
	b.events.orphan = true
	b.events.mu.Unlock()
	return b.flush()
}

// flush sees to it that somebody sends what is waiting.
func (b *Broker) flush() error {
	if b.ctx.Err() != nil {
		return unix.ESRCH
	}
	b.events.mu.Lock()
	defer b.events.mu.Unlock()
	if b.events.sending {
		return nil
	}
	b.events.sending = true
	go func() {
		defer b.wall()
		for {
			// What is told while a snapshot is made would be neither in it nor in its future.
			b.snap.replies.RLock()
			more := b.tell()
			b.snap.replies.RUnlock()
			if !more {
				return
			}
		}
	}()
	return nil
}

// tell tells the guest what comes first. It reports whether there may be more.
func (b *Broker) tell() bool {
	m, end, more := b.events.next()
	if !more {
		return false
	}
	var fds []int
	if end != nil {
		fds = end.FDs[:]
		defer end.Close()
	}
	err := b.send(&m, nil, fds...)
	// With too many descriptors under way this one is lost: the other end of the link sees it
	// closed. What comes later is not.
	return err == nil || end != nil && err == unix.ETOOMANYREFS
}

// next is an event, and the end of a link that belongs to it, if one does.
func (e *events) next() (m abi.Msg, end *LinkEnd, more bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.signals != 0 {
		n := bits.TrailingZeros64(e.signals)
		e.signals &^= 1 << n
		return abi.Msg{Op: abi.EvSignal, A: uint64(n + 1)}, nil, true
	}
	if e.resized {
		e.resized = false
		return abi.Msg{Op: abi.EvWinsize, A: uint64(e.rows), B: uint64(e.cols)}, nil, true
	}
	if e.forks > 0 {
		e.forks--
		return abi.Msg{Op: abi.EvFork}, nil, true
	}
	if e.giveBack {
		e.giveBack = false
		return abi.Msg{Op: abi.EvGiveBack}, nil, true
	}
	if e.orphan {
		e.orphan = false
		return abi.Msg{Op: abi.EvOrphan}, nil, true
	}
	if len(e.links) > 0 {
		l := e.links[0]
		e.links = e.links[1:]
		if l.gone {
			m = abi.Msg{Op: abi.EvUnlink, A: uint64(l.end.PID), C: l.end.ID}
			if l.revoked {
				m.B = 1
			}
			return m, nil, true
		}
		return abi.Msg{Op: abi.EvLink, A: uint64(l.end.PID), B: uint64(l.end.Box), C: l.end.ID}, &l.end, true
	}
	if e.snapshot {
		e.snapshot = false
		return abi.Msg{Op: abi.EvSnapshot}, nil, true
	}
	e.sending = false
	return abi.Msg{}, nil, false
}
