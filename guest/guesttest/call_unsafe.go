package guesttest

import (
	"sync"
	"unsafe"
)

var kept [1024]any

var (
	mu   sync.Mutex
	next int
)

// Addr is p's address. What p points to stays alive for the next thousand calls
// of Addr, which is long enough for a system call.
func Addr[T any](p *T) uintptr {
	mu.Lock()
	kept[next%len(kept)] = p // escapes, so it does not move
	next++
	mu.Unlock()
	return uintptr(unsafe.Pointer(p))
}

// Bytes is the address of p's first byte, under the same conditions, and p's
// length.
func Bytes(p []byte) (addr, n uintptr) {
	if len(p) == 0 {
		return 0, 0
	}
	return Addr(&p[0]), uintptr(len(p))
}
