package machine

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
)

// lookup returns the page table entry for va and the level at which it is (2: 2 MiB).
func (t *tables) lookup(va uint64) (pte uint64, level int) {
	table := t.root
	for l := 4; ; l-- {
		v := binary.LittleEndian.Uint64(t.entry(table, va>>(12+9*(l-1))&511))
		if v&ptePresent == 0 || l == 1 || l == 2 && v&pteLarge != 0 {
			return v, l
		}
		table = v & pteAddr
	}
}

// TestSegments: pages that hold only text, only constants or only variables are large, each leads to its own bytes
// of the file, nothing outside the segments is mapped, and no page allows more or less
// than its segment does: read-only data is not executable.
func TestSegments(t *testing.T) {
	const mb = 1 << 20
	f, err := os.Create(t.TempDir() + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var content []byte // each 8 bytes are their own offset, and 1
	for i := range uint64(16 * mb / 8) {
		content = binary.LittleEndian.AppendUint64(content, i*8+1)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		segs  []Segment
		large []uint64 // where large pages begin
	}{
		{"small", []Segment{
			{Addr: 4 * mb, File: 5000, Size: 5000, Prot: Exec},
			{Addr: 4*mb + 0x2000, Offset: 0x2000, File: 100, Size: 100},
			{Addr: 4*mb + 0x3000, Offset: 0x3000, File: 100, Size: 9000, Prot: Write},
		}, nil},
		{"mixed", []Segment{
			{Addr: 4 * mb, File: mb, Size: mb, Prot: Exec},
			{Addr: 5 * mb, Offset: mb, File: 4*mb + 0x3000, Size: 4*mb + 0x3000},
			{Addr: 9*mb + 0x3000, Offset: 5*mb + 0x3000, File: mb, Size: 3 * mb, Prot: Write},
		}, []uint64{6 * mb, 10 * mb}},
		{"apart", []Segment{
			{Addr: 4 * mb, File: 2*mb + 0x3000, Size: 2*mb + 0x3000, Prot: Exec},
			{Addr: 8 * mb, Offset: 2*mb + 0x3000, File: 3 * mb, Size: 3 * mb},
			{Addr: 12 * mb, Offset: 5*mb + 0x3000, File: mb, Size: 3 * mb, Prot: Write},
		}, []uint64{4 * mb, 8 * mb, 12 * mb}},
		{"two of a kind", []Segment{
			{Addr: 4 * mb, File: mb, Size: mb},
			{Addr: 5 * mb, Offset: mb, File: mb, Size: mb},
		}, []uint64{4 * mb}},
		{"gap", []Segment{
			{Addr: 4 * mb, File: 3 * mb, Size: 3 * mb, Prot: Exec},
			{Addr: 7*mb + 0x1000, Offset: 3*mb + 0x1000, File: 2 * mb, Size: 2 * mb},
		}, []uint64{4 * mb}},
		{"odd base", []Segment{
			{Addr: 4*mb + 0x1000, Offset: 0x1000, File: 6 * mb, Size: 6 * mb, Prot: Exec},
		}, nil},
		{"writable alone", []Segment{
			{Addr: 4 * mb, File: 2 * mb, Size: 2 * mb, Prot: Exec},
			{Addr: 6 * mb, Offset: 2 * mb, File: 4 * mb, Size: 4 * mb, Prot: Write},
		}, []uint64{4 * mb, 6 * mb, 8 * mb}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Detached()
			if err != nil {
				t.Fatal(err)
			}
			defer m.Unmap()
			if err := m.MapImage(int(f.Fd()), c.segs, false); err != nil {
				t.Fatal(err)
			}
			base := c.segs[0].Addr
			in := func(va uint64) *Segment {
				for i := range c.segs {
					if s := &c.segs[i]; va >= s.Addr && va < s.Addr+(s.Size+page-1)&^(page-1) {
						return s
					}
				}
				return nil
			}
			var large []uint64
			for va := base - 2*mb; va < base+16*mb; va += page {
				e, level := m.t.lookup(va)
				s := in(va)
				if (s != nil) != (e&ptePresent != 0) {
					t.Fatalf("%#x: entry %#x, segment %+v", va, e, s)
				}
				if s == nil {
					continue
				}
				gpa := e & pteAddr
				if level == 2 {
					if va%chunk == 0 {
						large = append(large, va)
					}
					gpa += va % chunk
				}
				writes, runs := e&pteWrite != 0, e&pteNX == 0
				if gpa != gpaImage+va-base || e&pteUser == 0 || writes != (s.Prot&Write != 0) || runs != (s.Prot&Exec != 0) || writes && runs {
					t.Fatalf("%#x: entry %#x of level %d for %+v", va, e, level, s)
				}
			}
			if len(large) != len(c.large) {
				t.Fatalf("large pages at %#x, want %#x", large, c.large)
			}
			for i, va := range c.large {
				if large[i] != va {
					t.Fatalf("large pages at %#x, want %#x", large, c.large)
				}
			}
			checkBytes(t, m, c.segs, content, false)
			m, err = Detached()
			if err != nil {
				t.Fatal(err)
			}
			defer m.Unmap()
			if err := m.MapImage(int(f.Fd()), c.segs, true); err != nil {
				t.Fatal(err)
			}
			checkBytes(t, m, c.segs, content, true)
		})
	}
}

// checkBytes wants the file's bytes in the segments, and zeros after them; only zeros in what can
// be written if a snapshot has that.
func checkBytes(t *testing.T, m *Machine, segs []Segment, content []byte, saved bool) {
	t.Helper()
	for _, s := range segs {
		got := m.image[s.Addr-m.imgBase:][:s.Size]
		want := make([]byte, s.Size)
		if s.Prot&Write == 0 || !saved {
			copy(want, content[s.Offset:][:s.File])
		}
		if !bytes.Equal(got, want) {
			t.Errorf("the segment at %#x has not its bytes (saved: %v)", s.Addr, saved)
		}
	}
}
