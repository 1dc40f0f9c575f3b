package proc

import "unsafe"

// word is the number at an address outside the Go heap.
func word(addr uintptr) *uint32 { return *(**uint32)(unsafe.Pointer(&addr)) }
