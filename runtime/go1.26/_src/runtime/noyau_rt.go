package runtime

// The library OS's side: what internal/noyau/rt links to. Each function is
// described in that package.

import (
	"internal/noyau/abi"
	"internal/runtime/sys"
	"unsafe"
)

//go:linkname noyau_hostcall internal/noyau/rt.hostcall
//go:nosplit
func noyau_hostcall(nr, a1, a2, a3, a4, a5, a6 uintptr) uintptr {
	r := noyauHostcall(nr, a1, a2, a3, a4, a5, a6)
	switch nr { // see noyauOwn
	case abi.CallAccept:
		if int(r) >= 0 {
			noyauNote(r)
		}
	case abi.CallRecvmsg:
		if int(r) >= abi.MsgSize {
			noyauReceivedHdr(a2)
		}
	case abi.CallRecv:
		if a1 == abi.HandleControl && a5 != 0 && int(r) >= abi.MsgSize { // under vm
			noyauReceived(a2, a5, uintptr(*(*uint32)(unsafe.Pointer(a6)))/4)
		}
	case abi.CallClose:
		noyauForget(a1)
	}
	return r
}

//go:linkname noyau_bootPayload internal/noyau/rt.BootPayload
func noyau_bootPayload() []byte {
	if n := noyau.boot.Size; n >= abi.BootSize && n <= uint64(len(noyauBootBlock)) {
		return noyauBootBlock[abi.BootSize:n]
	}
	return nil
}

//go:linkname noyau_boot internal/noyau/rt.Boot
func noyau_boot() *abi.BootHeader { return &noyau.boot }

//go:linkname noyau_ready internal/noyau/rt.ready
func noyau_ready(pd *pollDesc, events uint32) {
	mode := noyauMode(events)
	if mode == 0 {
		return
	}
	var list gList
	delta := netpollready(&list, pd, mode)
	netpollAdjustWaiters(delta)
	for !list.empty() {
		goready(list.pop(), 2)
	}
}

//go:linkname noyau_addWaiter internal/noyau/rt.AddWaiter
func noyau_addWaiter(n int) {
	if n > 0 {
		netpollGenericInit()
	}
	netpollAdjustWaiters(int32(n))
}

// noyauSend hands a signal to os/signal.
//
//go:linkname noyau_sendSignal internal/noyau/rt.SendSignal
func noyau_sendSignal(s uint32) bool {
	ok := false
	systemstack(func() { ok = sigsend(s) })
	return ok
}

//go:linkname noyau_signalIgnored internal/noyau/rt.SignalIgnored
func noyau_signalIgnored(s uint32) bool { return signal_ignored(s) }

//go:linkname noyau_dump internal/noyau/rt.Dump
func noyau_dump() {
	gp := getg()
	pc, sp := sys.GetCallerPC(), sys.GetCallerSP()
	systemstack(func() {
		print("SIGQUIT: quit\n\n")
		goroutineheader(gp)
		traceback(pc, sp, 0, gp)
		tracebackothers(gp)
	})
}

//go:linkname noyau_exit internal/noyau/rt.Exit
func noyau_exit(code int32) { exit(code) }

//go:linkname noyau_pages internal/noyau/rt.pages
func noyau_pages(n uintptr) uintptr {
	var p uintptr
	systemstack(func() { p = noyauMetaAlloc(n, 4096) })
	return p
}

//go:linkname noyau_release internal/noyau/rt.release
func noyau_release(p, n uintptr) { noyauRelease(p, n) }

//go:linkname noyau_rand internal/noyau/rt.rand64
func noyau_rand() uint64 { return rand() }

//go:linkname noyau_nanotime internal/noyau/rt.Nanotime
func noyau_nanotime() int64 { return nanotime() }

//go:linkname noyau_walltime internal/noyau/rt.Walltime
func noyau_walltime() (int64, int32) {
	sec, nsec, _ := time_now()
	return sec, nsec
}

//go:linkname noyau_gosched internal/noyau/rt.Gosched
func noyau_gosched() { Gosched() }

// A system call whose arguments point into the caller's stack is answered on
// another goroutine, while the caller is parked and its stack can neither move nor
// shrink: the library OS may then grow its own stack as it likes.
var noyauPin struct {
	answer  func(c uintptr) // syscall.noyauAnswer
	waiting guintptr        // goroutines to be answered, linked by noyauNext
	idle    guintptr        // workers that wait, linked by noyauNext
}

//go:linkname noyau_setAnswer syscall.noyauSetAnswer
func noyau_setAnswer(f func(c uintptr)) { noyauPin.answer = f }

//go:linkname noyau_pinned syscall.noyauPinned
//go:nosplit
func noyau_pinned(c unsafe.Pointer) {
	gp := getg()
	gp.noyauCall = uintptr(c)
	gp.noyauPinned = 1
	mcall(noyauPark)
	gp.noyauPinned = 0
	gp.noyauCall = 0
}

// noyauPark runs on g0: it parks gp and sees that a worker answers its call.
func noyauPark(gp *g) {
	mp := gp.m
	trace := traceAcquire()
	if trace.ok() {
		trace.GoPark(traceBlockGeneric, 1)
	}
	gp.waitreason = waitReasonZero
	casgstatus(gp, _Grunning, _Gwaiting)
	if trace.ok() {
		traceRelease(trace)
	}
	dropg()
	gp.noyauNext = noyauPin.waiting
	noyauPin.waiting.set(gp)
	pp := mp.p.ptr()
	if w := noyauPin.idle.ptr(); w != nil {
		noyauPin.idle = w.noyauNext
		w.noyauNext = 0
		ready(w, 0, true)
	} else {
		f := noyauWorker
		w := newproc1(*(**funcval)(unsafe.Pointer(&f)), mp.g0, sys.GetCallerPC(), false, waitReasonZero)
		runqput(pp, w, true)
	}
	schedule()
}

// noyauWorker answers the calls of parked goroutines, one after the other.
func noyauWorker() {
	for {
		gp := noyauPin.waiting.ptr()
		if gp == nil {
			gopark(noyauParkWorker, nil, waitReasonZero, traceBlockGeneric, 1)
			continue
		}
		noyauPin.waiting = gp.noyauNext
		gp.noyauNext = 0
		noyauPin.answer(gp.noyauCall)
		goready(gp, 1)
	}
}

// noyauParkWorker runs on g0 when a worker has stopped. Before, it may still be preempted:
// then nobody must find it idle, and there may be a call for it.
func noyauParkWorker(gp *g, _ unsafe.Pointer) bool {
	if noyauPin.waiting != 0 {
		return false
	}
	gp.noyauNext = noyauPin.idle
	noyauPin.idle.set(gp)
	return true
}

// noyau_onStack reports whether one of the arguments points into the caller's stack.
//
//go:linkname noyau_onStack syscall.noyauOnStack
//go:nosplit
func noyau_onStack(a1, a2, a3, a4, a5, a6 uintptr) bool {
	gp := getg()
	lo, n := gp.stack.lo, gp.stack.hi-gp.stack.lo
	return a1-lo < n || a2-lo < n || a3-lo < n || a4-lo < n || a5-lo < n || a6-lo < n
}

// noyauTimer is internal/noyau/rt.Timer's other half.
type noyauTimer struct {
	t timer
	f func()
}

//go:linkname noyau_newTimer internal/noyau/rt.newTimer
func noyau_newTimer(f func()) *noyauTimer {
	t := &noyauTimer{f: f}
	t.t.init(noyauFire, t)
	return t
}

func noyauFire(arg any, _ uintptr, _ int64) { go arg.(*noyauTimer).f() }

//go:linkname noyau_resetTimer internal/noyau/rt.resetTimer
func noyau_resetTimer(t *noyauTimer, ns int64) {
	when := nanotime() + ns
	if ns > 0 && when < 0 {
		when = maxWhen
	}
	t.t.reset(when, 0)
}

//go:linkname noyau_stopTimer internal/noyau/rt.stopTimer
func noyau_stopTimer(t *noyauTimer) bool { return t.t.stop() }

//go:linkname noyau_args internal/noyau/rt.Args
func noyau_args() []string { return append([]string(nil), argslice...) }

//go:linkname noyau_environ internal/noyau/rt.Environ
func noyau_environ() []string { return append([]string(nil), envs...) }
