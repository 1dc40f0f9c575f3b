package image

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	largePage = 2 << 20
	// mostLarge bounds what is read of a file for this: its text, mostly.
	mostLarge = 8 << 20
)

// readLarge has the beginning of the file behind fd read in large pages, where the file
// system can, if it is not in the page cache: the first reader chooses their size, and
// a virtual machine needs a few of them instead of hundreds of small ones. It takes
// microseconds if the file is there already. Errors do not matter.
func readLarge(fd int, size int64) {
	n := int(min(size, mostLarge)) &^ (largePage - 1)
	if n == 0 {
		return
	}
	b, err := unix.Mmap(fd, 0, n, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return
	}
	defer unix.Munmap(b)
	if unix.Madvise(b, unix.MADV_HUGEPAGE) != nil {
		return
	}
	for o := 0; o < n; o += largePage {
		// Not by touching it: another process may make the file shorter meanwhile.
		unix.Syscall(unix.SYS_MADVISE, uintptr(unsafe.Pointer(&b[o])), 4096, unix.MADV_POPULATE_READ)
	}
}
