package machine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// Memory slots of the region are made as it grows: KVM keeps metadata in
// proportion to a slot's size.
const (
	slotFirst = 64 << 20
	slotMost  = 1 << 30
)

// InitRegion reserves the region, limit bytes of it (0: RegionMax). Nothing is
// touched and nothing is mapped in the guest before MapRegion.
func (m *Memory) InitRegion(limit uint64) error {
	if limit == 0 || limit > abi.RegionMax {
		limit = abi.RegionMax
	}
	limit &^= chunk - 1
	if limit == 0 {
		return fmt.Errorf("vm: the memory limit must be at least %d bytes", chunk)
	}
	var err error
	if m.region, err = reserve(int(limit), chunk, true); err != nil {
		return err
	}
	m.present = make([]bool, limit/chunk)
	m.slots = slotRegion
	return nil
}

// MapRegion answers CallMap for n bytes at a, both multiples of the page size:
// whatever was there is given back to the host, and with write it reads as zeros
// from now on and may be written. What was never mapped faults. It returns an
// error number of Linux.
func (m *Memory) MapRegion(a Addr, n uint64, write bool) unix.Errno {
	o := uint64(a) - abi.RegionBase
	size := uint64(len(m.region))
	if uint64(a) < abi.RegionBase || o >= size || n == 0 || n > size-o {
		return unix.ENOMEM
	}
	for b := o; b < o+n; {
		c := b / chunk
		e := min((c+1)*chunk, o+n)
		if !m.present[c] && write {
			if err := m.addChunk(c); err != nil {
				return unix.ENOMEM
			}
		} else if m.present[c] {
			for e < o+n && m.present[e/chunk] {
				e = min((e/chunk+1)*chunk, o+n)
			}
			if err := unix.Madvise(m.region[b:e], unix.MADV_DONTNEED); err != nil {
				return unix.ENOMEM
			}
		}
		b = e
	}
	return 0
}

func (m *Memory) addChunk(c uint64) error {
	for (c+1)*chunk > uint64(m.slotted) {
		n := min(max(slotFirst, m.slotted), slotMost, len(m.region)-m.slotted)
		if err := m.vm.SetMemory(m.slots, gpaRegion+uint64(m.slotted), m.region[m.slotted:][:n:n]); err != nil {
			return err
		}
		m.slots++
		m.slotted += n
	}
	if err := m.t.mapChunk(abi.RegionBase+c*chunk, gpaRegion+c*chunk); err != nil {
		return err
	}
	m.present[c] = true
	return nil
}
