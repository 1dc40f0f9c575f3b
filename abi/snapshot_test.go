package abi

import (
	"strings"
	"testing"
)

// put encodes a header, and the extents as the table.
func putSnap(h SnapHeader, list ...Extent) []byte {
	b := Append32(Append32(Append64(nil, h.Magic), h.Version), h.Extents)
	for _, v := range []uint64{h.Size, h.SP, h.BP, h.PC, h.Region, h.DataLo, h.DataHi, h.Open, h.Handles, uint64(h.Mono), uint64(h.Wall), h.Areas, uint64(h.AreaN) | uint64(h.Shared)<<32} {
		b = Append64(b, v)
	}
	b = append(b, make([]byte, SnapData-len(b))...)
	for i, e := range list {
		copy(b[SnapHead+i*SnapExtent:], Append64(Append64(Append64(nil, e.Addr), e.Len), e.At))
	}
	return b
}

// TestSnap: each number of a header and of its table that makes no sense is found.
func TestSnap(t *testing.T) {
	good := SnapHeader{Magic: SnapMagic, Version: SnapVersion, Extents: 3, Size: SnapData + 5*PageSize, SP: 1, BP: 2, PC: 3,
		Region: 1 << 24, DataLo: 0x500000, DataHi: 0x600000, Open: 0x510000, Handles: 65, Mono: 4, Wall: 5}
	table := []Extent{{0x500000, PageSize, SnapData}, {RegionBase, 2 * PageSize, SnapData + PageSize}, {RegionBase + 1<<24 - 2*PageSize, 2 * PageSize, SnapData + 3*PageSize}}
	if h, wrong := TakeSnap(putSnap(good, table...), good.Size); wrong != "" || h != good {
		t.Fatalf("%+v: %q", h, wrong)
	}
	for _, c := range []struct {
		wrong  string
		change func(h *SnapHeader, e []Extent)
	}{
		{"begin", func(h *SnapHeader, e []Extent) { h.Magic++ }},
		{"version", func(h *SnapHeader, e []Extent) { h.Version++ }},
		{"cut off", func(h *SnapHeader, e []Extent) { h.Size++ }},
		{"cut off", func(h *SnapHeader, e []Extent) { h.Size = 0 }},
		{"too many", func(h *SnapHeader, e []Extent) { h.Extents = SnapExtents + 1 }},
		{"too many", func(h *SnapHeader, e []Extent) { h.Extents = 1<<32 - 1 }},
		{"region", func(h *SnapHeader, e []Extent) { h.Region = RegionMax + PageSize }},
		{"region", func(h *SnapHeader, e []Extent) { h.Region++ }},
		{"variables", func(h *SnapHeader, e []Extent) { h.DataLo = h.DataHi + PageSize }},
		{"variables", func(h *SnapHeader, e []Extent) { h.DataLo++ }},
		{"variables", func(h *SnapHeader, e []Extent) { h.DataHi = RegionBase + PageSize }},
		{"handles", func(h *SnapHeader, e []Extent) { h.Handles = SnapHandles + 1 }},
		{"handles", func(h *SnapHeader, e []Extent) { h.Open = h.DataHi - 8 }},
		{"handles", func(h *SnapHeader, e []Extent) { h.Open = h.DataLo - 8 }},
		{"handles", func(h *SnapHeader, e []Extent) { h.Open = 1<<64 - 8 }},
		{"whole pages", func(h *SnapHeader, e []Extent) { e[0].Addr++ }},
		{"whole pages", func(h *SnapHeader, e []Extent) { e[1].Len-- }},
		{"whole pages", func(h *SnapHeader, e []Extent) { e[1].Len = 0 }},
		{"impossible", func(h *SnapHeader, e []Extent) { e[0].Addr = h.DataLo - PageSize }},
		{"impossible", func(h *SnapHeader, e []Extent) { e[0].Addr = h.DataHi }},
		{"impossible", func(h *SnapHeader, e []Extent) { e[0].Addr, e[0].Len = h.DataHi-PageSize, 2*PageSize }},
		{"impossible", func(h *SnapHeader, e []Extent) { e[0].Addr = 0 }},
		{"impossible", func(h *SnapHeader, e []Extent) { e[2].Addr += PageSize }},
		{"impossible", func(h *SnapHeader, e []Extent) { e[2].Addr = VMStackBase }},
		{"impossible", func(h *SnapHeader, e []Extent) { e[2].Len = 1<<64 - PageSize }},
		{"out of order", func(h *SnapHeader, e []Extent) { e[1].Addr, e[2].Addr = e[2].Addr, e[1].Addr }},
		{"in common", func(h *SnapHeader, e []Extent) { e[2].Addr = e[1].Addr + PageSize }},
		{"in the file", func(h *SnapHeader, e []Extent) { e[1].At++ }},
		{"in the file", func(h *SnapHeader, e []Extent) { e[1].At = 0 }},
		{"in the file", func(h *SnapHeader, e []Extent) { e[1].At = 1<<64 - PageSize }},
		{"too many", func(h *SnapHeader, e []Extent) { h.Shared = SnapExtents }},
		{"shared", func(h *SnapHeader, e []Extent) { h.AreaN = SnapAreas + 1 }},
		{"shared", func(h *SnapHeader, e []Extent) { h.AreaN = 1 }},
		{"shared", func(h *SnapHeader, e []Extent) { h.AreaN, h.Areas = 2, RegionBase+h.Region-SnapArea }},
		{"shared", func(h *SnapHeader, e []Extent) { h.AreaN, h.Areas = 2, 1<<64-8 }},
		{"in the file", func(h *SnapHeader, e []Extent) { h.Size -= PageSize }},
	} {
		h, e := good, append([]Extent(nil), table...)
		c.change(&h, e)
		if _, wrong := TakeSnap(putSnap(h, e...), good.Size); !strings.Contains(wrong, c.wrong) {
			t.Errorf("%+v %v: %q, want %q", h, e, wrong, c.wrong)
		}
	}
	if _, wrong := TakeSnap(make([]byte, SnapData-1), 1<<40); wrong == "" {
		t.Error("a short one is ok")
	}
}

// FuzzSnap: what TakeSnap lets through lies where a host can map it.
func FuzzSnap(f *testing.F) {
	f.Add(uint64(SnapData+PageSize), uint32(1), uint64(1<<24), uint64(0x500000), uint64(0x600000), uint64(0x500000), uint64(64),
		uint64(RegionBase), uint64(PageSize), uint64(0x500000), uint64(PageSize))
	f.Fuzz(func(t *testing.T, size uint64, n uint32, region, lo, hi, open, handles, a0, n0, a1, n1 uint64) {
		h := SnapHeader{Magic: SnapMagic, Version: SnapVersion, Extents: n, Size: size, Region: region, DataLo: lo, DataHi: hi, Open: open, Handles: handles}
		b := putSnap(h, Extent{a0, n0, SnapData}, Extent{a1, n1, SnapData + n0})
		if _, wrong := TakeSnap(b, size); wrong != "" {
			return
		}
		end := uint64(0)
		for i := range int(n) {
			e := SnapExtentAt(b, i)
			last := e.Addr + e.Len - 1
			if last < e.Addr || e.Addr < end || e.At+e.Len > size || e.Addr%PageSize != 0 || e.Len%PageSize != 0 || e.Len == 0 ||
				!(e.Addr >= RegionBase && last-RegionBase < region && region <= RegionMax || e.Addr >= lo && last < hi && hi <= RegionBase) {
				t.Fatalf("%+v of %+v", e, h)
			}
			end = last + 1
		}
	})
}
