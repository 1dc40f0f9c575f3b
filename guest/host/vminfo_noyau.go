//go:build noyau

package host

// vmInfo is the address of the info page of isolation=vm, 0 elsewhere. It is in the
// patched runtime (noyau_ring.go there).
func vmInfo() uintptr
