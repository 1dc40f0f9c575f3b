package runtime

// Fork under isolation=vm: see abi.VMForkGive…. Its host does most of what noyauChild
// does, since each host call is an exit there.

import (
	"internal/noyau/abi"
	"unsafe"
)

// noyauForkVM makes the host call, on g0. It returns 0 in the child.
func noyauForkVM(h *[abi.ForkHandles]int32) uintptr {
	var a [abi.VMForkSize / 8]uint64
	*(*[abi.ForkHandles]int32)(unsafe.Pointer(&a)) = *h
	a[abi.VMForkBoot/8] = uint64(uintptr(unsafe.Pointer(&noyauBootBlock)))
	a[abi.VMForkOwn/8] = uint64(uintptr(unsafe.Pointer(&noyauOwn)))
	a[abi.VMForkWords/8] = uint64((noyauOwnTop + 63) / 64)
	r := noyauHostcall(abi.CallFork, abi.ForkFlags, 0, uintptr(noescape(unsafe.Pointer(&a))), 0, 0, 0)
	if r == 0 {
		memory := noyau.boot.Memory
		if !noyau.boot.Take(noyauBootBlock[:abi.BootSize]) {
			exit(125)
		}
		clear(noyauBootBlock[:abi.BootSize])
		noyau.boot.Memory = memory
		noyauReseed()
	}
	return r
}
