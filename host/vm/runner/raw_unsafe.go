package runner

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// raw makes a system call that does not block. Its arguments are numbers,
// addresses of guest memory (outside the Go heap) or of the Runner's own
// scratch fields; the Runner lives on the heap, which does not move.
func raw(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
	v, _, e := unix.RawSyscall6(nr, a1, a2, a3, a4, a5, a6)
	if e != 0 {
		return fail(e)
	}
	return uint64(v)
}

// blocking is raw for a call that may block: the Go runtime is told.
func blocking(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
	v, _, e := unix.Syscall6(nr, a1, a2, a3, a4, a5, a6)
	if e != 0 {
		return fail(e)
	}
	return uint64(v)
}

// addr is where b lies in the runner; b is guest memory.
func addr(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// ptrOf is the address of a scratch field of the Runner.
func ptrOf[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

const sizeOfRunner = unsafe.Sizeof(Runner{})
