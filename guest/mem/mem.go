// Package mem is the brick of memory maps: mmap and its family for apps. The Go
// heap is not its business. It is linked if the program can make maps.
//
// Anonymous maps are pages of rt. A file of the host is mapped by the host,
// shared, where the isolation can do that; every other file map is a copy that
// is kept coherent: calls that write to the file update the copies at once, and
// what the app stored in a shared writable copy reaches the file at msync and
// munmap, and at exit if that is a system call of the app's. Protections of files that the host maps are enforced, others
// are recorded and answered only. Nothing is ever executable.
package mem

import (
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Start registers the brick's system calls and hooks.
func Start() {
	kernel.Register(linux.SYS_MMAP, mmap)
	kernel.Register(linux.SYS_MUNMAP, munmap)
	kernel.Register(linux.SYS_MREMAP, mremap)
	kernel.Register(linux.SYS_MPROTECT, mprotect)
	kernel.Register(linux.SYS_MSYNC, msync)
	kernel.Register(linux.SYS_MADVISE, madvise)
	kernel.Register(linux.SYS_MINCORE, mincore)
	for _, nr := range [...]int{linux.SYS_MLOCK, linux.SYS_MLOCK2, linux.SYS_MUNLOCK, linux.SYS_MLOCKALL, linux.SYS_MUNLOCKALL} {
		kernel.Register(nr, func(kernel.Args) (uintptr, linux.Errno) { return 0, 0 })
	}
	exist = kernel.SetMaps(written)
	kernel.OnSnapshot(freeze, thaw)
	kernel.OnExit(func() { writeBack(0, ^uintptr(0)) })
}

const page = abi.PageSize

// A mapping is a range of pages of one kind. Splitting one copies it.
type mapping struct {
	start, end uintptr
	desc       *kernel.Desc // nil: anonymous
	key        any          // of a copy: the inode
	off        int64        // of start, in the file
	host       bool         // the host maps it
	shared     bool
	prot       uint32
	stored     bool // was writable at some time
}

// maps are all mappings, in the order of their addresses, disjoint. mu is never
// held while a file is written.
var (
	mu    sync.Mutex
	maps  []*mapping
	exist *atomic.Bool // some mapping is a copy of a file
)

func mmap(a kernel.Args) (uintptr, linux.Errno) {
	n := (a.A2 + page - 1) &^ (page - 1)
	flags := uint32(a.A4)
	m := &mapping{prot: uint32(a.A3), off: int64(a.A6)}
	switch flags & linux.MAP_TYPE {
	case linux.MAP_SHARED, linux.MAP_SHARED_VALIDATE:
		m.shared = true
	case linux.MAP_PRIVATE:
	default:
		return 0, linux.EINVAL
	}
	switch {
	case a.A2 == 0, m.off%page != 0, a.A1%page != 0 && flags&(linux.MAP_FIXED|linux.MAP_FIXED_NOREPLACE) != 0:
		return 0, linux.EINVAL
	case n == 0 || n > abi.RegionMax:
		return 0, linux.ENOMEM
	case m.prot&linux.PROT_EXEC != 0:
		return 0, linux.EACCES
	}
	m.stored = m.prot&linux.PROT_WRITE != 0
	if flags&linux.MAP_ANONYMOUS == 0 {
		d, e := kernel.Get(a.A5)
		if e != 0 {
			return 0, e
		}
		if m.desc = d; m.off < 0 || m.off+int64(n) < 0 {
			e = linux.EOVERFLOW
		} else if !d.Readable() || m.shared && m.prot&linux.PROT_WRITE != 0 && !d.Writable() {
			e = linux.EACCES
		} else if _, ok := d.File.(kernel.Mapper); !ok {
			e = linux.ENODEV
		}
		if e != 0 {
			d.Put()
			return 0, e
		}
	}
	p, e := place(a.A1, n, flags)
	if e == 0 {
		m.start, m.end = p, p+n
		if e = m.fill(); e != 0 {
			rt.FreePages(p, n)
		}
	}
	if e != 0 {
		if m.desc != nil {
			m.desc.Put()
		}
		return 0, e
	}
	mu.Lock()
	insert(m)
	mu.Unlock()
	return p, 0
}

// place finds n bytes of zeroed pages. Addresses are wishes; a fixed one must
// lie within what is mapped already, which it replaces.
func place(addr, n uintptr, flags uint32) (uintptr, linux.Errno) {
	if flags&linux.MAP_FIXED != 0 {
		mu.Lock()
		ok := covered(addr, n)
		mu.Unlock()
		if !ok {
			return 0, linux.ENOMEM
		}
		writeBack(addr, addr+n)
		mu.Lock()
		cut := remove(addr, addr+n)
		mu.Unlock()
		putAll(cut)
		return addr, host.Unmap(addr, n)
	}
	if flags&linux.MAP_FIXED_NOREPLACE != 0 {
		return 0, linux.EEXIST
	}
	p := rt.Pages(n)
	if p == 0 {
		return 0, linux.ENOMEM
	}
	return p, 0
}

// fill gives a file mapping its content. Its pages are zero before.
func (m *mapping) fill() linux.Errno {
	if m.desc == nil {
		return 0
	}
	f := m.desc.File.(kernel.Mapper)
	write := m.prot&linux.PROT_WRITE != 0
	if h, ok := f.MapHandle(); ok && (m.shared || !write) {
		if host.Map(m.start, m.end-m.start, write, h, m.off) == 0 {
			m.host = true
			return 0
		}
	}
	if m.shared {
		m.key = f.MapKey()
	}
	return m.load(m.off, int64(m.end-m.start))
}

// load reads n bytes at off of the file into their place, and zeros behind the
// file's end.
func (m *mapping) load(off, n int64) linux.Errno {
	p := m.bytes(off, n)
	for len(p) > 0 {
		c, e := m.desc.Pread(p, off)
		if e != 0 {
			return e
		}
		if c == 0 {
			clear(p)
			break
		}
		p, off = p[c:], off+int64(c)
	}
	return 0
}

// bytes is the memory of the n bytes at off of the file.
func (m *mapping) bytes(off, n int64) []byte {
	return bytesAt(m.start+uintptr(off-m.off), uintptr(n))
}
