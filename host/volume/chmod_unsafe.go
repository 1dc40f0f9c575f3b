package volume

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

var empty = [1]byte{}

// fchmodat2 changes the mode of what an O_PATH descriptor stands for.
func fchmodat2(fd int, mode uint32) error {
	_, _, e := unix.Syscall6(unix.SYS_FCHMODAT2, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(mode), unix.AT_EMPTY_PATH, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
