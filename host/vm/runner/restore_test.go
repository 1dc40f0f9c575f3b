package runner

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// TestHostileSnapshot: a snapshot that nobody has checked is refused, or mapped where only
// its guest can see it: never over the machine's own memory, nor where the image has none.
func TestHostileSnapshot(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		name, want string
		region     uint64
		extents    []abi.Extent
		change     func(b []byte) []byte
	}{
		{name: "good", region: 4 << 20, extents: []abi.Extent{{Addr: abi.RegionBase, Len: 4096}, {Addr: abi.RegionBase + 4<<20 - 4096, Len: 4096}}},
		{name: "variables without an image", want: "another image", region: 4 << 20, extents: []abi.Extent{{Addr: 0x500000, Len: 4096}}},
		{name: "over the stack", want: "impossible place", region: 4 << 20, extents: []abi.Extent{{Addr: abi.VMStackBase, Len: 4096}}},
		{name: "over the ring", want: "impossible place", region: 4 << 20, extents: []abi.Extent{{Addr: abi.VMRing, Len: 4096}}},
		{name: "outside the region", want: "impossible place", region: 4 << 20, extents: []abi.Extent{{Addr: abi.RegionBase + 4<<20, Len: 4096}}},
		{name: "larger than the region there is", want: "memory region", region: 16 << 20},
		{name: "as large as it gets", want: "memory region", region: abi.RegionMax},
		{name: "no region", want: "memory region"},
		{name: "huge count", want: "too many", region: 4 << 20, change: func(b []byte) []byte { le.PutUint32(b[12:], 1<<31); return b }},
		{name: "huge size", want: "cut off", region: 4 << 20, change: func(b []byte) []byte { le.PutUint64(b[16:], 1<<62); return b }},
		{name: "cut in its header", want: "no header", region: 4 << 20, change: func(b []byte) []byte { return b[:4000] }},
		{name: "cut in its table", want: "no header", region: 4 << 20, extents: []abi.Extent{{Addr: abi.RegionBase, Len: 4096}}, change: func(b []byte) []byte { return b[:abi.SnapHead+8] }},
		{name: "cut", want: "cut off", region: 4 << 20, change: func(b []byte) []byte { return b[:5000] }},
		{name: "empty", want: "no header", change: func(b []byte) []byte { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := make([]byte, abi.SnapData+len(c.extents)*4096)
			for i, v := range []uint64{abi.SnapMagic, uint64(len(c.extents))<<32 | abi.SnapVersion, uint64(len(b)), 1, 2, 3, c.region, 0x400000, 0x600000, 0x400000, 64} {
				le.PutUint64(b[8*i:], v)
			}
			for i, e := range c.extents {
				at := b[abi.SnapHead+i*abi.SnapExtent:]
				le.PutUint64(at, e.Addr)
				le.PutUint64(at[8:], e.Len)
				le.PutUint64(at[16:], uint64(abi.SnapData+i*4096))
				b[abi.SnapData+i*4096] = 7
			}
			if c.change != nil {
				b = c.change(b)
			}
			f, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			f.Write(b)
			m := detached(t, 8<<20)
			_, err = mapSnapshot(m, int(f.Fd()), 0)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range c.extents {
				p := m.Bytes(machine.Addr(e.Addr), e.Len, true)
				if p == nil || p[0] != 7 {
					t.Errorf("%#x is not what the file has", e.Addr)
					continue
				}
				p[0] = 8
				// What is given back reads as zeros, not as the file.
				if errno := m.MapRegion(machine.Addr(e.Addr), e.Len, true); errno != 0 || p[0] != 0 {
					t.Errorf("%#x was given back (%v) and has %d", e.Addr, errno, p[0])
				}
			}
			if n, err := f.ReadAt(b[:1], abi.SnapData); n != 1 || b[0] != 7 {
				t.Errorf("the file has %d (%v) after the guest has written", b[0], err)
			}
		})
	}
}

// detached is a machine that cannot run, with a region of so many bytes.
func detached(t *testing.T, region uint64) *machine.Machine {
	t.Helper()
	m, err := machine.Detached()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Unmap)
	if err := m.InitRegion(region); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTouch: pages that a guest is to have of its own are given, with what was in them;
// runs that lead elsewhere do nothing.
func TestTouch(t *testing.T) {
	m := detached(t, 8<<20)
	if e := m.Grant(4 << 20); e != 0 {
		t.Fatal(e)
	}
	m.Bytes(abi.RegionBase, 1, true)[0] = 7
	r := &Runner{m: m}
	var list []byte
	for _, run := range []uint64{
		abi.RegionBase | 3, 0, 1<<64 - 1, abi.RegionBase - abi.PageSize | 1, abi.RegionBase + 4<<20 - abi.PageSize | 1, abi.RegionBase | abi.PageSize - 1,
		abi.VMInfoPage, abi.VMHypercallPage, 0xffff800000000000,
	} {
		list = binary.LittleEndian.AppendUint64(list, run)
	}
	for cut := range 8 {
		r.touch(list[:len(list)-cut])
	}
	if b := m.Bytes(abi.RegionBase, 4<<20, true); b[0] != 7 || slices.IndexFunc(b[1:], func(v byte) bool { return v != 0 }) >= 0 {
		t.Error("what was touched has changed")
	}
}
