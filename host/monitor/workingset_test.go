package monitor

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// TestWritten: of a process that has mapped a snapshot, wherever that is, the pages are found
// that it has written, by the addresses that its guest has for them.
func TestWritten(t *testing.T) {
	const page = abi.PageSize
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 64*page)); err != nil {
		t.Fatal(err)
	}
	const vars = 0x600000
	w := &workingSet{
		table: []abi.Extent{
			{Addr: vars, Len: 4 * page, At: 8 * page},
			{Addr: abi.RegionBase, Len: page, At: 12 * page},
			{Addr: abi.RegionBase + 16*page, Len: 8 * page, At: 20 * page},
		},
		parts: [2]abi.Extent{{Addr: vars, Len: 8 * page}, {Addr: abi.RegionBase, Len: 32 * page}},
	}
	// As a runner has it: somewhere, with memory of no file in between.
	for i, part := range w.parts {
		where, err := unix.Mmap(-1, 0, int(part.Len), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			t.Fatal(err)
		}
		unix.Madvise(where, unix.MADV_NOHUGEPAGE)
		for _, e := range w.table {
			if (e.Addr >= abi.RegionBase) != (i == 1) {
				continue
			}
			piece := where[e.Addr-part.Addr:][:e.Len]
			if err := mapOver(piece, f, int64(e.At)); err != nil {
				t.Fatal(err)
			}
			_ = piece[0] // a page that is read is not written
		}
		where[page]++
		if i == 1 {
			where[17*page]++ // of the file
			where[30*page]++ // of none
		}
	}
	got, err := w.written(os.Getpid())
	if errors.Is(err, unix.ENOTTY) {
		t.Skipf("SKIPPED: this kernel cannot tell (PAGEMAP_SCAN, Linux 6.7): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := []uint64{vars + page, abi.RegionBase + page, abi.RegionBase + 17*page, abi.RegionBase + 30*page}
	if !slices.Equal(got, want) {
		t.Errorf("written: %#x\nwant %#x", got, want)
	}
	w.table = []abi.Extent{{Addr: vars, Len: page, At: 60 * page}}
	if got, err := w.written(os.Getpid()); err == nil {
		t.Errorf("of a snapshot that is not mapped, %d pages are written", len(got))
	}
	if _, err := w.written(1 << 30); err == nil {
		t.Error("a process that is not there has written something")
	}
}

// TestLearn: all pages of the first, those that two in a row have written besides, and never
// more than the bound.
func TestLearn(t *testing.T) {
	w := new(workingSet)
	for _, c := range []struct{ written, known []uint64 }{
		{nil, nil},
		{[]uint64{1, 5, 9}, []uint64{1, 5, 9}},
		{[]uint64{1, 2, 5, 9}, []uint64{1, 5, 9}},
		{[]uint64{2, 3}, []uint64{1, 2, 5, 9}},
		{[]uint64{3, 4}, []uint64{1, 2, 3, 5, 9}},
		{[]uint64{5}, []uint64{1, 2, 3, 5, 9}},
	} {
		if w.add(c.written); !slices.Equal(w.known(), c.known) {
			t.Fatalf("after %d: %d, want %d", c.written, w.known(), c.known)
		}
	}
	for n := 0; w.wanted(); n++ {
		if n == enough {
			t.Fatal("it never knows enough")
		}
		w.add([]uint64{7})
	}
	many := make([]uint64, 3*maxPages)
	for i := range many {
		many[i] = uint64(i)
	}
	w = new(workingSet)
	for range 3 {
		w.add(many)
	}
	if n := len(w.known()); n != maxPages {
		t.Errorf("%d pages are known, want %d", n, maxPages)
	}
}
