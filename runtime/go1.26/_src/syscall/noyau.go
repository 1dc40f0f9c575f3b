package syscall

// The way into the library OS: every system call of the program ends here and
// becomes a function call.

import (
	"internal/noyau/kernel"
	_ "internal/noyau/proc"
	_ "internal/noyau/trace"
	_ "internal/noyau/volume"
	"unsafe"
)

// noyauPin is a system call whose arguments point into the caller's stack.
type noyauPin struct {
	trap   uintptr
	a      [6]uintptr
	r1, r2 uintptr
	errno  uintptr
}

// noyauOnStack reports whether one of the arguments lies in the caller's stack,
// which then must not move until the call has been answered. Implemented in the
// runtime, as is noyauPinned, which runs noyauAnswer(c) on another goroutine
// while this one is parked.
//
//go:nosplit
func noyauOnStack(a1, a2, a3, a4, a5, a6 uintptr) bool

//go:noescape
//go:nosplit
func noyauPinned(c unsafe.Pointer)

func noyauSetAnswer(f func(c uintptr))

func noyauSyscall(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err Errno) {
	r1, r2, e := kernel.Syscall(trap, a1, a2, a3, a4, a5, a6)
	return r1, r2, Errno(e)
}

func noyauAnswer(p uintptr) {
	c := (*noyauPin)(unsafe.Pointer(p))
	r1, r2, e := kernel.Syscall(c.trap, c.a[0], c.a[1], c.a[2], c.a[3], c.a[4], c.a[5])
	c.r1, c.r2, c.errno = r1, r2, uintptr(e)
}

func noyauAnchor() uintptr

func init() {
	noyauSetAnswer(noyauAnswer)
	noyauKeep = noyauAnchor()
	noyauStart()
	kernel.Init()
}
