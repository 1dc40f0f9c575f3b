package machine

import (
	"fmt"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
)

// segment is a part of the image in the guest's memory.
type segment struct {
	base, size uint64
	prot       Prot
}

// Memory is all of a guest's memory, as the runner sees it.
type Memory struct {
	vm     *kvm.VM
	t      tables
	all    []byte // where system area, image and region lie, by guest-physical address
	system []byte

	image    []byte // from imgBase on
	imgBase  uint64
	gpaImage uint64 // where it begins
	segments []segment

	region   region
	home     int  // pieces of the region that are in the first memory slot
	attached bool // there is that slot
}

// Bytes returns the n bytes of guest memory at a, or nil if any of them is not
// there or, with write, is read-only. It is the only way from a guest address to
// memory. n == 0 gives an empty slice that is not nil.
func (m *Memory) Bytes(a Addr, n uint64, write bool) []byte {
	if n == 0 {
		return []byte{}
	}
	v := uint64(a)
	end := v + n - 1 // last byte
	if end < v {
		return nil
	}
	switch {
	case v >= abi.RegionBase && v-abi.RegionBase < m.region.hi:
		o := v - abi.RegionBase
		if o < m.region.lo || n > m.region.hi-o {
			return nil
		}
		return m.region.mem[o : o+n : o+n]
	case v >= abi.VMStackBase && end < abi.VMStackBase+abi.VMStackSize:
		o := pageStack*page + v - abi.VMStackBase
		return m.system[o : o+n : o+n]
	case v >= abi.VMRing && end < abi.VMRing+abi.VMRingSize:
		o := pageRing*page + v - abi.VMRing
		return m.system[o : o+n : o+n]
	case v >= abi.VMSignals && end < abi.VMSignals+page:
		o := pageSignals*page + v - abi.VMSignals
		return m.system[o : o+n : o+n]
	case v >= abi.VMInfoPage && end < abi.VMInfoPage+page && !write:
		o := pageInfo*page + v - abi.VMInfoPage
		return m.system[o : o+n : o+n]
	}
	for i := range m.segments {
		s := &m.segments[i]
		if v >= s.base && v-s.base < s.size {
			if n > s.size-(v-s.base) || write && s.prot&Write == 0 {
				return nil
			}
			o := v - m.imgBase
			return m.image[o : o+n : o+n]
		}
	}
	return nil
}

// Info is the page that the guest can only read.
func (m *Memory) Info() []byte { return m.system[pageInfo*page:][:page] }

// Signals is the page by which the guest says how signals reach it: see abi.VMSig….
func (m *Memory) Signals() []byte { return m.system[pageSignals*page:][:page] }

// Ring is the memory shared with the guest for batches of data calls.
func (m *Memory) Ring() []byte { return m.system[pageRing*page:][:abi.VMRingSize] }

// initSystem makes the system area and everything that does not depend on the
// image.
func (m *Memory) initSystem(vm *kvm.VM) (err error) {
	m.vm, m.home = vm, homeSlots
	if m.all, err = reserve(gpaRegion+abi.RegionMax, chunk, true); err != nil {
		return err
	}
	m.system = m.all[:systemSize:systemSize]
	smallPages(m.all[:gpaRegion])
	populate(m.system[:firstSystem*page], true)
	populate(m.system[(pageRing-1)*page:][:3*page], true) // with the top of the stack
	populate(m.system[pageTable*page:][:firstTables*page], true)
	m.t.init(m.system)
	if err := buildSystem(m.system, &m.t); err != nil {
		return err
	}
	for _, p := range []struct {
		va, gpa, n uint64
		prot       Prot
	}{
		{abi.VMStackBase, gpaSystem + pageStack*page, abi.VMStackSize, Write},
		{abi.VMRing, gpaSystem + pageRing*page, abi.VMRingSize, Write},
		{abi.VMInfoPage, gpaSystem + pageInfo*page, page, Read},
		{abi.VMSignals, gpaSystem + pageSignals*page, page, Write},
		{abi.VMHypercallPage, gpaHypercall, page, Write},
	} {
		if err := m.t.mapPages(p.va, p.gpa, p.n, p.prot.pte()); err != nil {
			return err
		}
	}
	return nil
}

// Attach makes the memory slot of what every guest needs, if it has not been made. It must
// be called before the guest runs. What is mapped over guest memory before costs less, as KVM
// need not be told.
func (m *Memory) Attach() error {
	if m.attached {
		return nil
	}
	m.attached = true
	return m.vm.SetMemory(slotHome, gpaSystem, m.all[:gpaRegion+m.home*slotSize])
}

// A Segment is one PT_LOAD of an image, checked by the caller for its own
// consistency only.
type Segment struct {
	Addr   uint64 // page aligned
	Offset int64  // in the file, page aligned
	File   uint64 // bytes that come from the file
	Size   uint64 // bytes in memory, ≥ File
	Prot   Prot
}

// MapImage maps the segments of the file behind fd, ascending by address and
// without a page in common. The pages of the file are shared with all other VMs
// of the same image until they are written to. saved: what can be written is not mapped, as a
// snapshot has it.
func (m *Memory) MapImage(fd int, segs []Segment, saved bool) error {
	if len(segs) == 0 {
		return fmt.Errorf("vm: the image has nothing to load")
	}
	m.imgBase = segs[0].Addr
	last := segs[len(segs)-1]
	end := (last.Addr + last.Size + page - 1) &^ (page - 1)
	if m.imgBase < imageLow || end > imageHigh || end <= m.imgBase {
		return fmt.Errorf("vm: the image spans %#x–%#x; it must lie within %#x–%#x", m.imgBase, end, imageLow, imageHigh)
	}
	var err error
	m.gpaImage = gpaImage
	if n := end - m.imgBase; n <= imageRoom {
		m.image = m.all[gpaImage:][:n:n]
	} else {
		m.gpaImage = gpaLarge
		if m.image, err = reserve(int(n), chunk, false); err != nil {
			return err
		}
	}
	floor, maps := m.imgBase, make([]Segment, 0, len(segs))
	for _, s := range segs {
		size := (s.Size + page - 1) &^ (page - 1)
		if s.Addr < floor || s.Addr%page != 0 || s.Offset%page != 0 || s.File > s.Size || size > end-s.Addr {
			return fmt.Errorf("vm: the segment at %#x is out of order or overlaps", s.Addr)
		}
		if s.Prot&Write != 0 && s.Prot&Exec != 0 {
			return fmt.Errorf("vm: the segment at %#x is writable and executable", s.Addr)
		}
		if size == 0 {
			continue
		}
		floor = s.Addr + size
		m.segments = append(m.segments, segment{s.Addr, size, s.Prot})
		if s.Prot&Write == 0 || !saved {
			maps = appendMap(maps, s)
		}
	}
	for _, s := range maps {
		if err := mapFile(m.image, s.Addr-m.imgBase, fd, s); err != nil {
			return err
		}
	}
	// Now that neighbours are one mapping, the host can use large pages for them.
	for _, s := range m.segments {
		if s.prot&Write == 0 {
			populate(m.image[s.base-m.imgBase:][:min(s.size, firstText)], false)
		} else if !saved {
			populate(m.image[s.base-m.imgBase:][:min(s.size, firstData)], true)
		}
	}
	if err := m.mapSegments(); err != nil {
		return err
	}
	if m.gpaImage == gpaLarge {
		return m.vm.SetMemory(slotLarge, gpaLarge, m.image)
	}
	return nil
}

// appendMap appends s, or makes the last one longer if both are constants that lie behind each
// other in memory and in the file: the host need not tell text from other constants.
func appendMap(maps []Segment, s Segment) []Segment {
	if n := len(maps); n > 0 && s.Prot&Write == 0 {
		l := &maps[n-1]
		size, file := (l.Size+page-1)&^(page-1), (l.File+page-1)&^(page-1)
		if l.Prot&Write == 0 && file == size && l.Addr+size == s.Addr && l.Offset+int64(size) == s.Offset {
			l.Size, l.File = size+s.Size, size+s.File
			return maps
		}
	}
	return append(maps, s)
}

// mapSegments makes the guest's page table entries of the image. Where 2 MiB hold
// nothing but text, nothing but read-only data, or nothing but variables, they have one entry.
// If the host has the file in pages of that size, a guest touches constants once instead of
// 512 times; of variables, which are in small pages there, only the table is smaller.
func (m *Memory) mapSegments() error {
	gpa := func(va uint64) uint64 { return m.gpaImage + va - m.imgBase }
	for i := range m.segments {
		s := &m.segments[i]
		for va := s.base; va < s.base+s.size; {
			if prot, ok := m.uniform(va); ok {
				if err := m.t.mapLarge(va, gpa(va), prot.pte()); err != nil {
					return err
				}
				va += chunk
				continue
			}
			// Up to the next place where a large page could begin.
			next := min((va+chunk)&^(chunk-1), s.base+s.size)
			if !m.t.isLarge(va) {
				if err := m.t.mapPages(va, gpa(va), next-va, s.prot.pte()); err != nil {
					return err
				}
			}
			va = next
		}
	}
	return nil
}

// uniform reports whether the 2 MiB from va on are all in segments of the same kind, and
// what a guest may do with them.
func (m *Memory) uniform(va uint64) (prot Prot, ok bool) {
	if va%chunk != 0 || (va-m.imgBase)%chunk != 0 {
		return 0, false
	}
	at := va
	for _, s := range m.segments {
		if s.base > at || s.base+s.size <= at {
			continue
		}
		if at != va && s.prot != prot {
			return 0, false
		}
		prot = s.prot
		if at = s.base + s.size; at >= va+chunk {
			return prot, true
		}
	}
	return 0, false
}
