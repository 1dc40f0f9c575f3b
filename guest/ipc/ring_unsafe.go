package ipc

import (
	"sync/atomic"
	"unsafe"

	"noyau.dev/guest/rt"
)

func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// length is the number before the message at a position, a multiple of 8.
func (r ring) length(at uint32) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.buf[at%ringSize]))
}

// heads and rings are the parts of the memory of a pair.
func (a *area) heads() *pairHead { return (*pairHead)(pointer(a.p)) }

func (a *area) ring(i int) ring {
	p := a.p + ringHeads + uintptr(i)*ringSize
	return ring{&a.heads().rings[i], unsafe.Slice((*byte)(pointer(p)), ringSize)}
}

func (a *area) share() *shareHead { return (*shareHead)(pointer(a.p)) }

func addrWord(w *atomic.Uint32) uintptr { return uintptr(unsafe.Pointer(w)) }
func addrBell(b *rt.Bell) uintptr       { return uintptr(unsafe.Pointer(b)) }
