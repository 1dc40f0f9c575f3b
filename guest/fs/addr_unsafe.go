package fs

import "unsafe"

// addrOf gives the address of v for calls that take one, such as File.Ioctl. v
// escapes, so it does not move.
func addrOf[T any](v *T) uintptr {
	escape = v
	a := uintptr(unsafe.Pointer(v))
	return a
}

var escape any
