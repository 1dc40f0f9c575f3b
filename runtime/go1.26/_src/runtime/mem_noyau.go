package runtime

// Memory: one region at a fixed address, mapped once at start, with no access
// checks of its own. It begins with room for metadata, behind which heap arenas
// grow upwards. What finds no room there (metadata of large heaps, the library OS's
// pages) grows from the region's end downwards. What is not touched costs nothing;
// what is released goes back to the host.

import (
	"internal/noyau/abi"
	"unsafe"
)

const (
	_EACCES = 13
	_EINVAL = 22

	noyauRegionBase = 0xc000000000
	noyauRegionMax  = 1 << 38

	// noyauLowMeta is the room for metadata before the heap. The page allocator's
	// summaries and the arena index take some 7 MB of addresses. Close to the heap they
	// need no page tables and, in a virtual machine, no memory slot of their own.
	noyauLowMeta  = abi.RegionLow
	noyauHeapBase = noyauRegionBase + noyauLowMeta

	noyauMapRW = _PROT_READ | _PROT_WRITE
	// MAP_PRIVATE|MAP_ANON|MAP_FIXED|MAP_NORESERVE
	noyauMapFlags = _MAP_PRIVATE | _MAP_ANON | _MAP_FIXED | 0x4000
)

// noyauLowWaste is how much of the room before the heap may be skipped for an alignment.
const noyauLowWaste = 64 << 10

// noyauMem is the state of the region. Only the one thread uses it.
var noyauMem struct {
	heap  uintptr // the next heap arena
	size  uintptr
	limit uintptr                    // end of what heap arenas may use (run -m)
	low   uintptr                    // metadata before the heap has been given out up to here
	meta  uintptr                    // metadata at the end has been given out down to here
	free  [64]struct{ p, n uintptr } // what sysFree gave back, to be used again
	nfree int
}

// noyauMemInit maps the region. memory is the limit of the Go heap in bytes, 0
// for none. It runs before anything is allocated.
func noyauMemInit(memory uint64) {
	size, limit := abi.RegionSize(memory)
	if info := noyauInfo; info == 0 || *(*uint64)(unsafe.Pointer(info + abi.VMInfoRegion)) < size {
		r := noyauHostcall(_noyau_mmap, noyauRegionBase, uintptr(size), noyauMapRW, noyauMapFlags, ^uintptr(0), 0)
		if r != noyauRegionBase {
			noyauFatal("runtime: the host gave no memory region\n")
		}
	}
	noyauMem.low = noyauRegionBase
	noyauMem.heap = noyauHeapBase
	noyauMem.size = uintptr(size)
	noyauMem.limit = noyauHeapBase + uintptr(limit)
	noyauMem.meta = noyauRegionBase + uintptr(size)
}

// noyauMetaAlloc gives n bytes of zeroed memory at a multiple of align.
//
//go:nosplit
func noyauMetaAlloc(n, align uintptr) uintptr {
	n = (n + 4095) &^ 4095
	m := &noyauMem
	for i := 0; i < m.nfree; i++ {
		f := &m.free[i]
		if f.n >= n && f.p&(align-1) == 0 {
			p := f.p
			f.p += n
			f.n -= n
			if f.n == 0 {
				m.nfree--
				*f = m.free[m.nfree]
			}
			return p
		}
	}
	if p := (m.low + align - 1) &^ (align - 1); n <= noyauLowMeta && p+n <= noyauHeapBase && p-m.low <= noyauLowWaste {
		m.low = p + n
		return p
	}
	if n > m.meta {
		return 0
	}
	p := (m.meta - n) &^ (align - 1)
	if p < m.heap || p > m.meta {
		return 0
	}
	m.meta = p
	return p
}

// noyauRelease gives the pages of [p, p+n) back to the host; they read as zeros
// when touched again.
//
//go:nosplit
func noyauRelease(p, n uintptr) bool {
	return noyauHostcall(_noyau_mmap, p, n, noyauMapRW, noyauMapFlags, ^uintptr(0), 0) == p
}

//go:nosplit
func sysAllocOS(n uintptr, vmaName string) unsafe.Pointer {
	return unsafe.Pointer(noyauMetaAlloc(n, 4096))
}

func sysUnusedOS(v unsafe.Pointer, n uintptr) {
	if uintptr(v)&(physPageSize-1) != 0 || n&(physPageSize-1) != 0 {
		throw("unaligned sysUnused")
	}
	noyauRelease(uintptr(v), n)
}

// noyauScav is what became of the memory that the scavenger gave back, bytes.
var noyauScav struct {
	out   uintptr // not in use again yet
	again uintptr // in use again, since the scavenger last looked
	rest  int64   // nanotime until which it does nothing
}

func sysUsedOS(v unsafe.Pointer, n uintptr) {
	n = min(n, noyauScav.out)
	noyauScav.out -= n
	noyauScav.again += n
}

func sysHugePageOS(v unsafe.Pointer, n uintptr) {}

func sysNoHugePageOS(v unsafe.Pointer, n uintptr) {}

func sysHugePageCollapseOS(v unsafe.Pointer, n uintptr) {}

//go:nosplit
func sysFreeOS(v unsafe.Pointer, n uintptr) {
	m := &noyauMem
	p := uintptr(v)
	n = (n + 4095) &^ 4095
	if !noyauRelease(p, n) {
		return
	}
	switch {
	case p == m.meta:
		m.meta += n
	case p+n == m.low:
		m.low = p
	case m.nfree < len(m.free):
		m.free[m.nfree].p, m.free[m.nfree].n = p, n
		m.nfree++
	}
	// Otherwise the addresses are lost, not the memory.
}

// sysFaultOS makes [v, v+n) fault; used by debugging modes of the allocator only.
func sysFaultOS(v unsafe.Pointer, n uintptr) {
	noyauHostcall(_noyau_mmap, uintptr(v), n, _PROT_NONE, noyauMapFlags, ^uintptr(0), 0)
}

func sysReserveOS(v unsafe.Pointer, n uintptr, vmaName string) unsafe.Pointer {
	m := &noyauMem
	if v == nil {
		return unsafe.Pointer(noyauMetaAlloc(n, 4096))
	}
	p := uintptr(v)
	if p != m.heap || n > m.limit-m.heap || p+n > m.meta {
		return nil
	}
	m.heap += n
	return v
}

// sysReserveAlignedOS is sysReserve(nil, n) at a multiple of align, exactly.
func sysReserveAlignedOS(n, align uintptr) unsafe.Pointer {
	return unsafe.Pointer(noyauMetaAlloc(n, align))
}

func sysMapOS(v unsafe.Pointer, n uintptr, vmaName string) {}

func needZeroAfterSysUnusedOS() bool { return false }

// noyauTouch is what the first touch of a page costs in a virtual machine whose KVM
// keeps shadow page tables, nanoseconds.
const noyauTouch = 6000

// noyauRegret is how many times over the scavenger is charged for a page that was wanted
// again: a program whose heap goes up and down touches all that was given back, and
// is better left what it has.
const noyauRegret = 8

// noyauRestMost bounds how long the scavenger rests for what it has done, nanoseconds.
const noyauRestMost = 2e9

// noyauScavengeWork is what the scavenger causes, besides its own time, by giving back n
// bytes. It bounds itself to a hundredth of the CPU's time; in a virtual machine
// it would take ten of them without this.
func noyauScavengeWork(n uintptr) float64 {
	if noyauHyper == 0 {
		return 0
	}
	s := &noyauScav
	work := noyauTouch * float64(n/physPageSize)
	regret := noyauTouch * noyauRegret * float64(s.again/physPageSize)
	s.again = 0
	s.out += n
	now := nanotime()
	s.rest = min(max(s.rest, now)+int64(work+regret)*(100/scavengePercent), now+noyauRestMost)
	return work
}

// noyauScavengeRest is how long the scavenger is to sleep at least, nanoseconds. Its own
// controller is made for work of microseconds, and is not accurate for this.
func noyauScavengeRest() int64 {
	if noyauHyper == 0 {
		return 0
	}
	return max(noyauScav.rest-nanotime(), 0)
}
