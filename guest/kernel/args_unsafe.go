package kernel

import "unsafe"

func at(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

func bytesAt(addr, n uintptr) []byte     { return unsafe.Slice((*byte)(at(addr)), n) }
func byteAt(addr uintptr) byte           { return *(*byte)(at(addr)) }
func sizeOf[T any]() uintptr             { var v T; return unsafe.Sizeof(v) }
func ptrAt[T any](addr uintptr) *T       { return (*T)(at(addr)) }
func sliceAt[T any](addr, n uintptr) []T { return unsafe.Slice((*T)(at(addr)), n) }

// Addr is the address of b's first byte, for calls of one's own.
func Addr(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
