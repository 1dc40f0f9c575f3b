package host

import (
	"unsafe"

	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// CanRing reports whether Ring can be used: see abi.PairEventfd.
func CanRing() bool { return vmInfo() == 0 }

// Ring wakes all who watch an eventfd.
func Ring(eventfd int32) linux.Errno {
	one := uint64(1)
	_, e := rt.HostCall(abi.CallRing, uintptr(eventfd), uintptr(unsafe.Pointer(&one)), 8, 0, 0, 0)
	return linux.Errno(e)
}
