package monitor

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// pageRegion and scanArg are Linux's struct page_region and struct pm_scan_arg.
type pageRegion struct{ start, end, categories uint64 }

type scanArg struct {
	size, flags, start, end, walkEnd uint64
	vec                              *pageRegion // as a pointer it is right when the stack has moved
	vecLen, maxPages                 uint64
	inverted, mask, anyOf, returned  uint64
}

const (
	pagemapScan = 0xc0606610 // PAGEMAP_SCAN, since Linux 6.7

	pageFile    = 1 << 2
	pagePresent = 1 << 3
	pageZero    = 1 << 5
	pageHuge    = 1 << 6
)

// WrittenPages lists the pages of a process that lie in one of the extents and are memory of
// its own, as a page of a private map of a file is once it was written to.
func WrittenPages(pid int, in []abi.Extent) (list []uint64, err error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/pagemap")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found [256]pageRegion
	for _, e := range in {
		a := scanArg{
			start: e.Addr, end: e.Addr + e.Len,
			vec: &found[0], vecLen: uint64(len(found)),
			inverted: pageFile | pageZero | pageHuge, mask: pageFile | pageZero | pageHuge | pagePresent,
		}
		a.size = uint64(unsafe.Sizeof(a))
		for a.start < a.end && len(list) < 4*maxPages {
			n, _, errno := unix.Syscall(unix.SYS_IOCTL, fdOf(f), pagemapScan, uintptr(unsafe.Pointer(&a)))
			if errno != 0 {
				return nil, fmt.Errorf("pages of process %d: %w", pid, errno)
			}
			for _, r := range found[:n] {
				for p := r.start; p < r.end && len(list) < 4*maxPages; p += abi.PageSize {
					list = append(list, p)
				}
			}
			a.start = a.walkEnd
		}
	}
	return list, nil
}
