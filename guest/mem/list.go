package mem

import "slices"

// All functions here want mu held.

// from is the index of the first mapping that ends behind addr.
func from(addr uintptr) int {
	lo, hi := 0, len(maps)
	for lo < hi {
		if mid := (lo + hi) / 2; maps[mid].end > addr {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// insert adds m; nothing is mapped in its range.
func insert(m *mapping) {
	maps = slices.Insert(maps, from(m.start), m)
	update()
}

// covered reports whether all of [addr, addr+n) is mapped.
func covered(addr, n uintptr) bool {
	end := addr + n
	if end < addr {
		return false
	}
	for i := from(addr); i < len(maps) && addr < end && maps[i].start <= addr; i++ {
		addr = maps[i].end
	}
	return addr >= end
}

// remove takes [start, end) out of all mappings and returns the pieces, which
// hold references to their descriptions.
func remove(start, end uintptr) (cut []*mapping) {
	var rest []*mapping
	i := from(start)
	j := i
	for ; j < len(maps) && maps[j].start < end; j++ {
		m := maps[j]
		if m.start < start {
			rest = append(rest, m.piece(m.start, start))
		}
		cut = append(cut, m.piece(max(m.start, start), min(m.end, end)))
		if m.end > end {
			rest = append(rest, m.piece(end, m.end))
		}
		if m.desc != nil {
			m.desc.Put() // the pieces have references of their own
		}
	}
	maps = slices.Replace(maps, i, j, rest...)
	update()
	return cut
}

// piece is a part of m, with a reference of its own.
func (m *mapping) piece(start, end uintptr) *mapping {
	p := *m
	p.start, p.end = start, end
	p.off += int64(start - m.start)
	if p.desc != nil {
		p.desc.Hold()
	}
	return &p
}

// update says whether writes to files matter to anybody.
func update() {
	for _, m := range maps {
		if m.key != nil {
			exist.Store(true)
			return
		}
	}
	exist.Store(false)
}

// pieces are the parts of all mappings within [start, end), with references.
func pieces(start, end uintptr) (ps []*mapping) {
	for i := from(start); i < len(maps) && maps[i].start < end; i++ {
		m := maps[i]
		ps = append(ps, m.piece(max(m.start, start), min(m.end, end)))
	}
	return ps
}

// putAll drops the references of pieces. mu is not held: the last reference
// releases the file.
func putAll(ps []*mapping) {
	for _, m := range ps {
		if m.desc != nil {
			m.desc.Put()
		}
	}
}
