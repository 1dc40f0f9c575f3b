//go:build !noyau

package host

// nativeInfo is set by tests that play the monitor.
var nativeInfo uintptr

// vmInfo is the address of the info page of isolation=vm, 0 elsewhere.
func vmInfo() uintptr { return nativeInfo }
