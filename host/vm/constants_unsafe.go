package vm

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const largePage = 2 << 20

// newLargeFile makes a memory file of size bytes, of which the first large are kept in
// pages of 2 MiB, has fill write it, and seals it. It fails where the kernel has
// no such pages for it (before Linux 6.1, or none are free).
func newLargeFile(name string, size, large uint64, fill func([]byte) error) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("vm: a memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := fillLarge(fd, size, large, fill); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		f.Close()
		return nil, fmt.Errorf("vm: seal a memory file: %w", err)
	}
	return f, nil
}

func fillLarge(fd int, size, large uint64, fill func([]byte) error) error {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fmt.Errorf("vm: a memory file of %d bytes: %w", size, err)
	}
	// Somewhere at a multiple of 2 MiB.
	room, err := unix.MmapPtr(-1, 0, nil, uintptr(size)+largePage, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("vm: address space for a memory file: %w", err)
	}
	defer unix.MunmapPtr(room, uintptr(size)+largePage)
	p := unsafe.Add(room, -uintptr(room)&(largePage-1))
	if _, err := unix.MmapPtr(fd, 0, p, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		return fmt.Errorf("vm: map a memory file: %w", err)
	}
	b := unsafe.Slice((*byte)(p), size)
	for o := uint64(0); o < large; o += largePage {
		b[o] = 0 // there is nothing to collapse in what has no page yet
		if err := unix.Madvise(b[o:o+largePage], unix.MADV_COLLAPSE); err != nil {
			return fmt.Errorf("vm: large pages for a memory file: %w", err)
		}
	}
	return fill(b)
}
