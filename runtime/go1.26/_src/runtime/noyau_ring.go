package runtime

import _ "unsafe" // for linkname

// noyau_vmInfo is where the library OS learns of the ring of isolation=vm.
//
//go:linkname noyau_vmInfo internal/noyau/host.vmInfo
func noyau_vmInfo() uintptr { return noyauInfo }

//go:linkname noyau_pin internal/noyau/rt.Pin
//go:nosplit
func noyau_pin() { getg().m.locks++ }

// noyau_unpin asks for the preemption that Pin may have put off, as releasem does.
//
//go:linkname noyau_unpin internal/noyau/rt.Unpin
//go:nosplit
func noyau_unpin() { releasem(getg().m) }
