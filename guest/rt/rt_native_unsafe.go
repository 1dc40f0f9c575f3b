//go:build !noyau

package rt

import (
	"syscall"
)

// HostCall is the real system call of that number.
//
//go:uintptrescapes
func HostCall(nr, a1, a2, a3, a4, a5, a6 uintptr) (r uintptr, errno uint32) {
	r, _, e := syscall.Syscall6(nr, a1, a2, a3, a4, a5, a6)
	if e != 0 {
		return 0, uint32(e)
	}
	return r, 0
}

// Pages maps n bytes of anonymous memory; 0 if there is none.
func Pages(n uintptr) uintptr {
	p, _, e := syscall.Syscall6(syscall.SYS_MMAP, 0, n, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uintptr(0), 0)
	if e != 0 {
		return 0
	}
	return p
}

// FreePages unmaps what Pages gave, or a page-aligned part of it.
func FreePages(p, n uintptr) {
	syscall.Syscall(syscall.SYS_MUNMAP, p, n, 0)
}
