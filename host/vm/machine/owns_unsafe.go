package machine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Owns reports whether [p, p+n) of this process is memory of the guest that host
// calls may touch: for tests that check every address the runner passes on.
func (m *Memory) Owns(p, n uintptr) bool {
	for _, b := range [][]byte{m.system[pageInfo*page : pageTable*page], m.image, m.region.mem} {
		base := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
		if len(b) != 0 && p >= base && p-base < uintptr(len(b)) {
			return n <= uintptr(len(b))-(p-base)
		}
	}
	return false
}

// Unmap gives the memory back, at the end of a test.
func (m *Memory) Unmap() {
	list := [][]byte{m.all}
	if m.gpaImage == gpaLarge {
		list = append(list, m.image)
	}
	for _, b := range list {
		if b != nil {
			unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)))
		}
	}
	*m = Memory{}
}
