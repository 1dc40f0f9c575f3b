//go:build !noyau

package host

// vmInfo is the address of the info page of isolation=vm, 0 elsewhere.
func vmInfo() uintptr { return 0 }
