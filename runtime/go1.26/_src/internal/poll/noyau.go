package poll

import (
	"syscall"
	_ "unsafe" // for go:linkname
)

// A system call that no brick answers: see syscall/noyau_bricks.go.
//
//go:uintptrescapes
//go:linkname noyauCall syscall.noyauCall
func noyauCall(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err syscall.Errno)
