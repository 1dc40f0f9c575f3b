package monitor

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapOver maps f copy-on-write over b.
func mapOver(b []byte, f *os.File, off int64) error {
	_, _, e := unix.Syscall6(unix.SYS_MMAP, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_FIXED, f.Fd(), uintptr(off))
	if e != 0 {
		return e
	}
	return nil
}
