package unix

import (
	"syscall"
	_ "unsafe" // for go:linkname
)

// System calls that no brick answers: see syscall/noyau_bricks.go.

//go:uintptrescapes
//go:linkname noyauCall syscall.noyauCall
func noyauCall(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err syscall.Errno)

//go:uintptrescapes
//go:linkname noyauCall6 syscall.noyauCall6
func noyauCall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno)
