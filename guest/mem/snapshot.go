package mem

import (
	"slices"

	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// cut are the ranges that freeze has taken away, until thaw.
var cut []piece

type piece struct{ start, end uintptr }

// Freeze runs before package volume stops what uses its files, and thaw after it lets that go
// on: that one registers its functions in OnInit, when all bricks have.

// freeze takes away the pages of maps that lie behind the end of the file: whoever reads
// them gets SIGBUS, and a snapshot reads all. The content of other pages goes into the
// snapshot, and is what a restored pVM sees until thaw.
func freeze() {
	mu.Lock()
	list := append([]*mapping(nil), maps...)
	mu.Unlock()
	for _, m := range list {
		if !m.host {
			continue
		}
		var st linux.Stat
		if m.desc.File.Stat(&st) != 0 {
			st.Size = 0
		}
		end := m.start
		if st.Size > m.off {
			end = min(m.end, m.start+uintptr(st.Size-m.off+page-1)&^(page-1))
		}
		if end < m.end && host.Unmap(end, m.end-end) == 0 {
			cut = append(cut, piece{end, m.end})
		}
	}
}

// thaw makes the maps of the host's again: those that freeze has cut, and in a restored
// pVM all. What cannot be mapped any more stays a copy of what was in it.
func thaw() {
	gone := cut
	cut = nil
	mu.Lock()
	defer mu.Unlock()
	if !kernel.Restored() {
		for _, m := range maps {
			if m.host && slices.ContainsFunc(gone, func(p piece) bool { return p.start < m.end && m.start < p.end }) {
				m.remap()
			}
		}
		return
	}
	for _, m := range maps {
		switch {
		case m.host:
			m.remap()
		case m.key != nil:
			m.key = m.desc.File.(kernel.Mapper).MapKey() // it may be another file, with the same content
		}
	}
	update()
}

// remap has the host map m again. mu is held.
func (m *mapping) remap() {
	f := m.desc.File.(kernel.Mapper)
	h, ok := f.MapHandle()
	m.host = ok && host.Map(m.start, m.end-m.start, m.prot&linux.PROT_WRITE != 0, h, m.off) == 0
	if !m.host && m.shared { // another isolation: it is a copy from now on
		m.key = f.MapKey()
	}
}
