// Package guesttest is for tests of the library OS under the stock toolchain. It
// is not part of an image.
package guesttest

import (
	"testing"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Call makes a system call of the library OS's. Addresses are given as
// uintptr(unsafe.Pointer(p)) in the call expression, or by Addr.
//
//go:uintptrescapes
func Call(nr uintptr, args ...uintptr) (uintptr, linux.Errno) {
	var a [6]uintptr
	copy(a[:], args)
	r, _, e := kernel.Syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return r, e
}

// Want is Call, with an error to be expected.
//
//go:uintptrescapes
func Want(t testing.TB, want linux.Errno, nr uintptr, args ...uintptr) uintptr {
	t.Helper()
	r, e := Call(nr, args...)
	if e != want {
		t.Fatalf("call %d: errno %d, want %d", nr, e, want)
	}
	return r
}
