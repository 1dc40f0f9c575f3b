package mem

import (
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// span checks the range of a call: page-aligned, rounded up to pages.
func span(addr, n uintptr) (start, end uintptr, errno linux.Errno) {
	end = addr + (n+page-1)&^(page-1)
	if addr%page != 0 || end < addr {
		return 0, 0, linux.EINVAL
	}
	return addr, end, 0
}

// mapped is span for calls that want everything in the range to be mapped.
func mapped(addr, n uintptr) (start, end uintptr, errno linux.Errno) {
	start, end, errno = span(addr, n)
	if errno != 0 {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	if !covered(start, end-start) {
		errno = linux.ENOMEM
	}
	return
}

func munmap(a kernel.Args) (uintptr, linux.Errno) {
	start, end, e := span(a.A1, a.A2)
	if e != 0 || start == end {
		return 0, linux.EINVAL
	}
	unmap(start, end)
	return 0, 0
}

func unmap(start, end uintptr) {
	writeBack(start, end)
	mu.Lock()
	cut := remove(start, end)
	mu.Unlock()
	for _, m := range cut {
		if m.host {
			host.Unmap(m.start, m.end-m.start)
		}
		rt.FreePages(m.start, m.end-m.start)
	}
	putAll(cut)
}

func mremap(a kernel.Args) (uintptr, linux.Errno) {
	start, end, e := mapped(a.A1, a.A2)
	n := (a.A3 + page - 1) &^ (page - 1)
	switch {
	case e == linux.ENOMEM:
		return 0, linux.EFAULT
	case e != 0 || n == 0 || start == end || a.A4&^linux.MREMAP_MAYMOVE != 0:
		return 0, linux.EINVAL
	case n <= end-start:
		if start+n < end {
			unmap(start+n, end)
		}
		return start, 0
	case a.A4&linux.MREMAP_MAYMOVE == 0:
		return 0, linux.ENOMEM
	}
	writeBack(start, end)
	mu.Lock()
	ps := pieces(start, end)
	mu.Unlock()
	defer putAll(ps)
	if len(ps) != 1 {
		return 0, linux.EFAULT
	}
	p := rt.Pages(n)
	if p == 0 {
		return 0, linux.ENOMEM
	}
	m := ps[0].piece(start, end)
	m.start, m.end, m.host, m.key = p, p+n, false, nil
	if e := m.fill(); e != 0 {
		rt.FreePages(p, n)
		putAll([]*mapping{m})
		return 0, e
	}
	if !m.shared && !m.host || m.desc == nil {
		copy(bytesAt(p, end-start), bytesAt(start, end-start))
	}
	mu.Lock()
	insert(m)
	mu.Unlock()
	unmap(start, end)
	return p, 0
}

func mprotect(a kernel.Args) (uintptr, linux.Errno) {
	start, end, e := mapped(a.A1, a.A2)
	if e != 0 {
		return 0, e
	}
	prot := uint32(a.A3)
	if prot&linux.PROT_EXEC != 0 {
		return 0, linux.EACCES
	}
	mu.Lock()
	for i := from(start); i < len(maps) && maps[i].start < end; i++ {
		if m := maps[i]; prot&linux.PROT_WRITE != 0 && m.shared && m.desc != nil && !m.desc.Writable() {
			mu.Unlock()
			return 0, linux.EACCES
		}
	}
	cut := remove(start, end)
	for _, m := range cut {
		if m.host {
			if err := m.protect(prot&linux.PROT_WRITE != 0); err != 0 {
				e = err
			}
		}
		m.prot = prot
		m.stored = m.stored || prot&linux.PROT_WRITE != 0
		insert(m)
	}
	mu.Unlock()
	return 0, e
}

// protect changes a map of the host's. mu is held.
func (m *mapping) protect(write bool) linux.Errno {
	if h, ok := m.desc.File.(kernel.Mapper).MapHandle(); ok && (m.shared || !write) {
		return host.Map(m.start, m.end-m.start, write, h, m.off)
	}
	// A private map is about to be written: it becomes a copy.
	m.host = false
	if e := host.Unmap(m.start, m.end-m.start); e != 0 {
		return e
	}
	return m.load(m.off, int64(m.end-m.start))
}

func msync(a kernel.Args) (uintptr, linux.Errno) {
	if a.A3&^(linux.MS_ASYNC|linux.MS_INVALIDATE|linux.MS_SYNC) != 0 || a.A3&linux.MS_ASYNC != 0 && a.A3&linux.MS_SYNC != 0 {
		return 0, linux.EINVAL
	}
	start, end, e := mapped(a.A1, a.A2)
	if e != 0 {
		return 0, e
	}
	if e := writeBack(start, end); e != 0 || a.A3&linux.MS_SYNC == 0 {
		return 0, e
	}
	mu.Lock()
	ps := pieces(start, end)
	mu.Unlock()
	defer putAll(ps)
	for _, m := range ps {
		if m.desc == nil || !m.shared {
			continue
		}
		if s, ok := m.desc.File.(kernel.Syncer); ok {
			if e := s.Sync(true); e != 0 {
				return 0, e
			}
		}
	}
	return 0, 0
}

func madvise(a kernel.Args) (uintptr, linux.Errno) {
	start, end, e := mapped(a.A1, a.A2)
	if e != 0 || a.A3 != linux.MADV_DONTNEED {
		return 0, e // the rest are hints
	}
	mu.Lock()
	ps := pieces(start, end)
	mu.Unlock()
	defer putAll(ps)
	for _, m := range ps {
		switch {
		case m.host, m.shared && m.desc != nil:
		case m.desc != nil:
			e = m.load(m.off, int64(m.end-m.start))
		default:
			e = host.Unmap(m.start, m.end-m.start) // fresh zero pages
		}
		if e != 0 {
			return 0, e
		}
	}
	return 0, 0
}

func mincore(a kernel.Args) (uintptr, linux.Errno) {
	start, end, e := mapped(a.A1, a.A2)
	if e != 0 {
		return 0, e
	}
	vec, e := kernel.Bytes(a.A3, (end-start)/page)
	for i := range vec {
		vec[i] = 1
	}
	return 0, e
}
