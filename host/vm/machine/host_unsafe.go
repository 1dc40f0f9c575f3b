package machine

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const protRW = unix.PROT_READ | unix.PROT_WRITE

// reserve returns size bytes of zeros at an address that is a multiple of
// align, which cost nothing before they are touched. huge says whether the
// kernel may back them with large pages.
func reserve(size, align int, huge bool) ([]byte, error) {
	size = (size + page - 1) &^ (page - 1)
	extra := 0
	if align > page {
		extra = align
	}
	p, _, e := unix.RawSyscall6(unix.SYS_MMAP, 0, uintptr(size+extra), protRW, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE, ^uintptr(0), 0)
	if e != 0 {
		return nil, fmt.Errorf("vm: reserve %d bytes of address space: %w", size, e)
	}
	b := unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), size+extra)
	if extra != 0 {
		skip := -p & uintptr(align-1)
		b = b[skip : int(skip)+size]
	}
	if !huge {
		smallPages(b)
	}
	// Guest memory is of no use in a core dump, and no child must share it.
	madvise(b, unix.MADV_DONTDUMP)
	return b[:size:size], nil
}

// smallPages says that the kernel may not back b with large pages. Errors do not
// matter: kernels that have none refuse the advice.
func smallPages(b []byte) { madvise(b, unix.MADV_NOHUGEPAGE) }

// largePages says that the kernel should back b with large pages, if it has any.
func largePages(b []byte) { madvise(b, unix.MADV_HUGEPAGE) }

// mapFile lays segment s of the file over mem at offset o.
func mapFile(mem []byte, o uint64, fd int, s Segment) error {
	prot := unix.PROT_READ
	if s.Prot&Write != 0 {
		prot = protRW
	}
	size := (s.Size + page - 1) &^ (page - 1)
	file := (s.File + page - 1) &^ (page - 1)
	if file != 0 {
		_, _, e := unix.RawSyscall6(unix.SYS_MMAP, ptr(mem[o:]), uintptr(file), uintptr(prot), unix.MAP_PRIVATE|unix.MAP_FIXED, uintptr(fd), uintptr(s.Offset))
		if e != 0 {
			return fmt.Errorf("vm: map the segment at %#x: %w", s.Addr, e)
		}
	}
	if s.Prot&Write != 0 {
		clear(mem[o+s.File : o+file]) // what follows in the file's last page
		return nil
	}
	if file < size {
		return unix.Mprotect(mem[o+file:o+size], prot)
	}
	return nil
}

// madvise does not tell the Go runtime: see package runner, fork.go.
func madvise(b []byte, advice int) unix.Errno {
	if len(b) == 0 {
		return 0
	}
	_, _, e := unix.RawSyscall(unix.SYS_MADVISE, ptr(b), uintptr(len(b)), uintptr(advice))
	return e
}

// mapOver maps a file, or nothing, over memory.
func mapOver(b []byte, flags, fd int, off int64) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_MMAP, ptr(b), uintptr(len(b)), protRW, uintptr(flags|unix.MAP_FIXED), uintptr(fd), uintptr(off))
	return e
}

func ptr(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// populate makes the host's page table entries of mem now, which takes far less
// than the faults of a guest that touches them one by one; of writable memory KVM
// then maps several at each fault. An error does not matter: the faults do the same.
func populate(mem []byte, write bool) {
	advice := unix.MADV_POPULATE_READ
	if write {
		advice = unix.MADV_POPULATE_WRITE
	}
	madvise(mem, advice)
}
