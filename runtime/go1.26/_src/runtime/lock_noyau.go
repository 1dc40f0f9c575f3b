package runtime

// Locks and notes of a runtime that has exactly one thread.
//
// A lock can never be contended: nothing else runs while it is held, for
// asynchronous preemption happens only where no runtime lock is held. A note can
// be waited for only by a goroutine, which parks; the thread itself never sleeps
// anywhere but in netpoll.

import (
	"internal/runtime/atomic"
	"unsafe"
)

const (
	mutex_unlocked = 0
	mutex_locked   = 1

	// For the spinning of sync.Mutex, which one processor never does.
	active_spin     = 4
	active_spin_cnt = 30
)

// key32 is what is left of the futex implementation: other files name it.
//
//go:nosplit
func key32(p *uintptr) *uint32 { return (*uint32)(unsafe.Pointer(p)) }

type mWaitList struct{}

func lockVerifyMSize() {}

func mutexContended(l *mutex) bool { return false }

func mutexSampleContention() bool { return false }

func lock(l *mutex) {
	lockWithRank(l, getLockRank(l))
}

func lock2(l *mutex) {
	gp := getg()
	if gp.m.locks < 0 {
		throw("runtime·lock: lock count")
	}
	gp.m.locks++
	if l.key == mutex_locked {
		throw("self deadlock: lock held by the only thread")
	}
	l.key = mutex_locked
}

func unlock(l *mutex) {
	unlockWithRank(l)
}

func unlock2(l *mutex) {
	gp := getg()
	if l.key == mutex_unlocked {
		throw("unlock of unlocked lock")
	}
	l.key = mutex_unlocked
	gp.m.locks--
	if gp.m.locks < 0 {
		throw("runtime·unlock: lock count")
	}
	if gp.m.locks == 0 && gp.preempt { // restore the preemption request in case we've cleared it in newstack
		gp.stackguard0 = stackPreempt
	}
}

func noteclear(n *note) {
	n.key = 0
	n.gp = 0
}

// notewakeup may be called on any stack, by the profiler's signal handler too
// (profBuf.wakeupExtra), where goready is not allowed: then the goroutine is
// made ready by the next pass of the scheduler.
func notewakeup(n *note) {
	if n.key != 0 {
		print("notewakeup - double wakeup (", n.key, ")\n")
		throw("notewakeup - double wakeup")
	}
	n.key = 1
	if n.gp == 0 {
		return
	}
	gp := getg()
	if gp == gp.m.gsignal {
		noyau.notes.Store(1)
		return
	}
	w := n.gp.ptr()
	n.gp = 0
	noteUnlist(n)
	if gp == gp.m.g0 {
		ready(w, 1, true)
	} else {
		goready(w, 1)
	}
}

func notesleep(n *note) {
	if n.key == 0 {
		throw("notesleep: the only thread would sleep for ever")
	}
}

func notetsleep(n *note, ns int64) bool {
	// Nobody else runs, so waiting cannot change the answer.
	return n.key != 0
}

// noteWaiters lists the notes that goroutines wait for, so that the scheduler can
// find those woken by a signal handler. The links are plain numbers since the
// scheduler may not have write barriers; the waiting goroutines keep the notes.
var noteWaiters uintptr

func notePtr(p uintptr) *note { return (*note)(unsafe.Pointer(p)) }

func noteUnlist(n *note) {
	for p := &noteWaiters; *p != 0; p = &notePtr(*p).next {
		if notePtr(*p) == n {
			*p = n.next
			n.next = 0
			return
		}
	}
}

// notetsleepg parks the calling goroutine until n is woken. Nobody in this
// runtime calls it with a timeout.
func notetsleepg(n *note, ns int64) bool {
	gp := getg()
	if gp == gp.m.g0 {
		throw("notetsleepg on g0")
	}
	if ns >= 0 {
		throw("notetsleepg: timeout not supported")
	}
	for n.key == 0 {
		// A goroutine that waits for a signal or for profile data waits for
		// something outside: that is no deadlock.
		netpollAdjustWaiters(1)
		gopark(notePark, unsafe.Pointer(n), waitReasonZero, traceBlockGeneric, 1)
		netpollAdjustWaiters(-1)
	}
	return true
}

// notePark runs on g0 when gp has stopped. Before, it may still be preempted: then nobody
// must find it waiting. A signal handler may wake the note at any time.
func notePark(gp *g, p unsafe.Pointer) bool {
	n := (*note)(p)
	n.next = noteWaiters
	noteWaiters = uintptr(unsafe.Pointer(n))
	n.gp.set(gp)
	if atomic.Loaduintptr(&n.key) == 0 {
		return true
	}
	n.gp = 0
	noteUnlist(n)
	return false
}

// noteReady makes ready the goroutines whose notes a signal handler woke.
func noteReady() {
	if noyau.notes.Load() == 0 {
		return
	}
	noyau.notes.Store(0)
	for p := &noteWaiters; *p != 0; {
		n := notePtr(*p)
		if n.key == 0 || n.gp == 0 {
			p = &n.next
			continue
		}
		*p = n.next
		n.next = 0
		w := n.gp.ptr()
		n.gp = 0
		ready(w, 0, true)
	}
}

func beforeIdle(int64, int64) (*g, bool) { return nil, false }

func checkTimeouts() {}

func semacreate(mp *m) {}

func semasleep(ns int64) int32 {
	throw("semasleep: the only thread would sleep")
	return -1
}

func semawakeup(mp *m) {}
