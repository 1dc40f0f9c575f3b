package machine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

const (
	// slotSize is how much of the region one memory slot covers. KVM keeps
	// metadata in proportion, so slots are made where memory is used.
	slotSize = 16 << 20
	// homeSlots of them are in the slot of the system area and the image: the room for
	// metadata (abi.RegionLow) and the heap of a small program. For the heap of a snapshot
	// it may be mostHome.
	homeSlots, mostHome = 2, 4
	// stride is how much becomes accessible at once: an exit each time.
	stride = 16 << 20
	// firstHeap is what a program touches of the heap before main, and a little more.
	firstHeap = 448 << 10
	// firstSystem pages of the system area and firstTables of tables are written at each start.
	firstSystem, firstTables = 5, 12
	// smallHeap is how much of the heap is in small pages in any case.
	smallHeap = 2 * abi.HeapArena
	// Of each segment of an image, how much is populated at the start.
	firstText, firstData = 4 << 20, 512 << 10
)

// firstMeta are the pages of metadata that the Go runtime touches before main, offsets into
// the region: the entries for its first heap arena in tables that are otherwise empty. It is
// a hint: of others the first touch costs more. Some it reads before it writes, which
// would be three faults.
var firstMeta = [...]struct{ at, n uint64 }{
	{0, 0x10000}, {0x40000, 0x2000}, {0x48000, page}, {0x7a000, page}, {0x20a000, page}, {0x40a000, page}, {0x48a000, page},
	{0x60a000, page}, {0x68a000, 0x2000}, {0x69b000, page}, {0x6ab000, page}, {0x80b000, page},
}

// region is the memory at RegionBase. The guest asks for all of it at once and
// touches little, so page table entries and memory slots are made at the first
// touch, a stride at a time.
type region struct {
	mem    []byte
	lo, hi uint64   // what CallMap has granted: offsets into mem
	slots  []uint32 // by slotSize: the number of the memory slot, 0 for none
	next   uint32
	made   []uint32 // the pieces whose slots were made
	files  fileMaps
	Faults int // first touches answered by an exit
	// All that MapPrivate has mapped lies in between.
	fileLo, fileHi uint64
}

// InitRegion reserves the region, limit bytes of it (0: RegionMax). Nothing is
// touched and nothing is mapped in the guest before MapRegion.
func (m *Memory) InitRegion(limit uint64) error {
	if limit == 0 || limit > abi.RegionMax {
		limit = abi.RegionMax
	}
	limit &^= chunk - 1
	if limit == 0 {
		return fmt.Errorf("vm: the memory region must have at least %d bytes", chunk)
	}
	m.region.room()
	m.region.mem, m.region.next = m.all[gpaRegion:][:limit:limit], slotRegion
	m.region.slots = m.region.slots[:(limit+slotSize-1)/slotSize]
	m.settle(m.home)
	// What the heap is of a program that uses it is in large pages, which take a
	// tenth of the time to touch. A small one would pay with memory.
	if lo, hi := uint64(abi.RegionLow+smallHeap), limit/2&^(chunk-1); lo < hi {
		largePages(m.region.mem[lo:hi])
	}
	return nil
}

// Expect says, before Attach, that a guest has something from a to b: if that is not far into
// the region, it takes no memory slot of its own.
func (m *Memory) Expect(a, b Addr) {
	lo, hi := uint64(a)-abi.RegionBase, uint64(b)-abi.RegionBase
	if !m.attached && lo < hi && lo < mostHome*slotSize {
		m.settle(int(min((hi+slotSize-1)/slotSize, mostHome)))
	}
}

// settle makes the first n pieces of the region, or those that there are, part of the first
// memory slot.
func (m *Memory) settle(n int) {
	m.home = max(m.home, n)
	for i := range min(m.home, len(m.region.slots)) {
		m.region.slots[i] = slotHome
	}
}

// room makes what a region of any size needs, if it has not been made.
func (g *region) room() {
	if g.slots == nil {
		g.slots, g.made = make([]uint32, abi.RegionMax/slotSize), make([]uint32, 0, abi.RegionMax/slotSize)
	}
}

// OpenRegion makes the first n bytes of the region the guest's before it asks for them,
// with memory for the pages that a runtime touches first.
func (m *Memory) OpenRegion(n uint64) error {
	if e := m.Grant(n); e != 0 {
		return fmt.Errorf("vm: a memory region of %d bytes: %w", n, e)
	}
	m.warm(0, n)
	return nil
}

// warm gives the pages that a runtime touches first their memory, if they are among the
// n bytes at offset o.
func (m *Memory) warm(o, n uint64) {
	if o != 0 || n < abi.RegionLow+firstHeap {
		return
	}
	for _, p := range firstMeta {
		populate(m.region.mem[p.at:][:p.n], true)
	}
	populate(m.region.mem[abi.RegionLow:][:firstHeap], true)
}

// MapRegion answers CallMap for n bytes at a, both multiples of the page size:
// whatever was there is given back to the host and reads as zeros from now on.
// What was never mapped with write faults. It returns an error number of Linux.
func (m *Memory) MapRegion(a Addr, n uint64, write bool) unix.Errno {
	g := &m.region
	o := uint64(a) - abi.RegionBase
	size := uint64(len(g.mem))
	if uint64(a) < abi.RegionBase || o >= size || n == 0 || n > size-o {
		return unix.ENOMEM
	}
	if lo, hi := max(o, g.lo), min(o+n, g.hi); lo < hi {
		if g.release(lo, hi) != 0 {
			return unix.ENOMEM
		}
	}
	if !write || o >= g.lo && o+n <= g.hi {
		return 0
	}
	if g.lo == g.hi {
		if e := m.grant(o, n); e != 0 {
			return e
		}
		m.warm(o, n)
	} else {
		g.lo, g.hi = min(g.lo, o), max(g.hi, o+n)
	}
	return 0
}

// Touch makes the stride around a accessible if a is in the region and was
// granted but not yet used. It reports whether it did: the guest then tries again.
func (m *Memory) Touch(a Addr) bool {
	g := &m.region
	o := uint64(a) - abi.RegionBase
	if uint64(a) < abi.RegionBase || o < g.lo || o >= g.hi {
		return false
	}
	g.Faults++
	return m.populate(o) == nil
}

// populate maps the chunks of the stride around offset o that are granted.
func (m *Memory) populate(o uint64) error {
	g := &m.region
	lo := max(o&^(stride-1), g.lo&^(chunk-1))
	hi := min(o&^(stride-1)+stride, (g.hi+chunk-1)&^(chunk-1), uint64(len(g.mem)))
	for b := lo; b < hi; b += chunk {
		if err := m.slotFor(b / slotSize); err != nil {
			return err
		}
		if err := m.t.mapLarge(abi.RegionBase+b, gpaRegion+b, Write.pte()); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) slotFor(i uint64) error {
	g := &m.region
	if g.slots[i] != 0 {
		return nil
	}
	if err := m.vm.SetMemory(g.next, gpaRegion+i*slotSize, g.slot(i)); err != nil {
		return err
	}
	g.slots[i] = g.next
	g.made = append(g.made, uint32(i))
	g.next++
	return nil
}

// slot is the memory of slot i of the region.
func (g *region) slot(i uint64) []byte {
	b := g.mem[i*slotSize:]
	n := min(len(b), slotSize)
	return b[:n:n]
}
