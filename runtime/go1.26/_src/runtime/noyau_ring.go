package runtime

import _ "unsafe" // for linkname

// noyau_vmInfo is where the library OS learns of the ring of isolation=vm.
//
//go:linkname noyau_vmInfo internal/noyau/host.vmInfo
func noyau_vmInfo() uintptr { return noyauInfo }
