package machine

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// maxFileMaps bounds the maps of files in the region.
const maxFileMaps = 1024

// fileMaps are the parts of the region where files are mapped: offsets, in no order.
// Releasing such a part takes more than advice, which would bring the file back.
type fileMaps struct {
	list [maxFileMaps]struct{ lo, hi uint64 }
	n    int
}

func (f *fileMaps) add(lo, hi uint64) bool {
	if f.n == len(f.list) {
		return false
	}
	f.list[f.n].lo, f.list[f.n].hi = lo, hi
	f.n++
	return true
}

func (f *fileMaps) overlap(lo, hi uint64) bool {
	for _, m := range f.list[:f.n] {
		if lo < m.hi && m.lo < hi {
			return true
		}
	}
	return false
}

// remove forgets those that lie in [lo, hi) as a whole. Of others it forgets nothing,
// which is safe.
func (f *fileMaps) remove(lo, hi uint64) {
	for i := 0; i < f.n; {
		if m := f.list[i]; lo <= m.lo && m.hi <= hi {
			f.n--
			f.list[i] = f.list[f.n]
			continue
		}
		i++
	}
}

// MapFile maps n bytes of the file behind fd from off on over the region at a: shared, or
// copy-on-write. a, n and off are multiples of the page size, and what is asked for must
// be granted already. The file must not shrink, and nobody else may make holes in it.
// KVM learns of the change by itself. It does not allocate.
func (m *Memory) MapFile(a Addr, n uint64, fd int, off int64, shared bool) unix.Errno {
	o, ok := m.granted(a, n)
	if !ok {
		return unix.ENOMEM
	}
	g := &m.region
	if !g.files.add(o, o+n) {
		return unix.ENOMEM
	}
	flags := unix.MAP_PRIVATE
	if shared {
		flags = unix.MAP_SHARED
	}
	e := mapOver(g.mem[o:o+n], flags, fd, off)
	if e != 0 {
		g.files.n--
	}
	return e
}

// granted is the offset of the n bytes at a if they lie in what MapRegion has granted.
func (m *Memory) granted(a Addr, n uint64) (o uint64, ok bool) {
	o = uint64(a) - abi.RegionBase
	return o, uint64(a) >= abi.RegionBase && n != 0 && o >= m.region.lo && o < m.region.hi && n <= m.region.hi-o
}

// release gives the memory in [lo, hi) back: it reads as zeros.
func (g *region) release(lo, hi uint64) unix.Errno {
	if !g.files.overlap(lo, hi) && (lo >= g.fileHi || g.fileLo >= hi) {
		return madvise(g.mem[lo:hi], unix.MADV_DONTNEED)
	}
	e := mapOver(g.mem[lo:hi], unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE, -1, 0)
	if e == 0 {
		madvise(g.mem[lo:hi], unix.MADV_DONTDUMP)
		g.files.remove(lo, hi)
	}
	return e
}

// MapPrivate maps a file copy-on-write in the place of the guest's memory at a: of what
// was granted of the region, or of one writable segment of the image. It is for a machine
// that has not run, any number of times; a, n and off are multiples of the page size.
func (m *Memory) MapPrivate(a Addr, n uint64, fd int, off int64) unix.Errno {
	if uint64(a)%page != 0 || n%page != 0 || off%page != 0 || off < 0 || n == 0 {
		return unix.EINVAL
	}
	if uint64(a) >= abi.VMStackBase { // memory of the machine's own
		return unix.EFAULT
	}
	b := m.Bytes(a, n, true)
	if b == nil {
		return unix.EFAULT
	}
	if e := mapOver(b, unix.MAP_PRIVATE, fd, off); e != 0 {
		return e
	}
	if uint64(a) >= abi.RegionBase {
		g, o := &m.region, uint64(a)-abi.RegionBase
		if g.fileLo == g.fileHi {
			g.fileLo, g.fileHi = o, o+n
		}
		g.fileLo, g.fileHi = min(g.fileLo, o), max(g.fileHi, o+n)
	}
	return 0
}

// Grant makes the first n bytes of the region the guest's, as if it had asked for them.
// It may have them already.
func (m *Memory) Grant(n uint64) unix.Errno {
	g := &m.region
	if g.lo == 0 && n != 0 && n <= g.hi {
		return 0
	}
	if n == 0 || n > uint64(len(g.mem)) || n%page != 0 || g.lo != g.hi {
		return unix.ENOMEM
	}
	return m.grant(0, n)
}

func (m *Memory) grant(o, n uint64) unix.Errno {
	m.region.lo, m.region.hi = o, o+n
	// What lies in the slot that is there anyway.
	for at := o; at < min(o+n, uint64(m.home)*slotSize); at += stride {
		if m.populate(at) != nil {
			return unix.ENOMEM
		}
	}
	return 0
}

// Populate gives the guest's writable pages in [a, a+n) memory of their own, where there are
// such, and makes the first of them accessible. It does not allocate.
func (m *Memory) Populate(a Addr, n uint64) {
	if b := m.Bytes(a, n, true); b != nil {
		populate(b, true)
		if o, ok := m.granted(a, n); ok && m.region.slots[o/slotSize] == 0 {
			m.populate(o) // if it cannot be, the guest's touch says so
		}
	}
}
