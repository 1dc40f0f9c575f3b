package runtime

// isolation=vm: the hypercall page, the clock and the signals that a host sends.

import (
	"internal/noyau/abi"
	"unsafe"
)

// noyauVMInit is called with the value of the auxiliary vector's ATNoyau entry,
// the address of the info page, before anything else of this runtime has run.
func noyauVMInit(info uintptr) {
	if *(*uint64)(unsafe.Pointer(info + abi.VMInfoMagicAt)) != abi.VMInfoMagic {
		return
	}
	noyauInfo = info
	noyauHyper = *(*uintptr)(unsafe.Pointer(info + abi.VMInfoHypercall))
	// The clock is read where the vDSO's would be, with its calling convention.
	vdsoClockgettimeSym = noyauVMClockPC()
}

// noyauVMSigaction is rt_sigaction by the signal page.
func noyauVMSigaction(sig uint32, new, old *sigactiont) {
	page := *(*uintptr)(unsafe.Pointer(noyauInfo + abi.VMInfoSignals))
	p := (*sigactiont)(unsafe.Pointer(page + abi.VMSigActions + abi.VMSigAction*uintptr(sig)))
	if old != nil {
		*old = *p
	}
	if new != nil {
		*p = *new
	}
}

// noyauVMClock is clock_gettime(DI, SI) in the C calling convention, from the TSC.
func noyauVMClock()

func noyauVMClockPC() uintptr

// noyauHandlers are the dispositions of the signals that the host never sends.
var noyauHandlers [65]uintptr

// noyauHostSignal reports whether the host delivers sig itself: the processor's
// faults and the tick.
//
//go:nosplit
func noyauHostSignal(sig uint32) bool {
	switch sig {
	case _SIGSEGV, _SIGBUS, _SIGFPE, _SIGILL, _SIGTRAP, _SIGPROF:
		return true
	}
	return false
}
