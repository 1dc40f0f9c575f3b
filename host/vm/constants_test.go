package vm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/host/build"
	"noyau.dev/host/image"
)

// TestSpread: text and read-only data begin at multiples of 2 MiB of the copy and share
// no page of that size, and images for which that cannot be are left as they are.
func TestSpread(t *testing.T) {
	const mb, r, x, w = 1 << 20, 4, 5, 6
	for _, c := range []struct {
		name            string
		segs            []image.Segment
		to              []uint64
		constants, size uint64
	}{
		{"small", []image.Segment{
			{Addr: 4 * mb, Memory: mb, File: mb, Flags: x},
			{Addr: 6 * mb, Memory: 5000, Offset: mb, File: 5000, Flags: r},
			{Addr: 8 * mb, Memory: 3 * mb, Offset: mb + 0x2000, File: 9000, Flags: w},
		}, []uint64{0, 2 * mb, 4 * mb}, 4 * mb, 4*mb + 9000},
		{"large", []image.Segment{
			{Addr: 4 * mb, Memory: 2*mb + 1, File: 2*mb + 1, Flags: x},
			{Addr: 8 * mb, Memory: 4 * mb, Offset: 3 * mb, File: 4 * mb, Flags: r},
			{Addr: 12*mb + 0x123, Memory: mb, Offset: 7*mb + 0x123, File: 0, Flags: w},
			{Addr: 14*mb + 0x1000, Memory: mb, Offset: 7*mb + 0x1000, File: 10, Flags: w},
		}, []uint64{0, 4 * mb, 8*mb + 0x123, 8*mb + 0x1000}, 8 * mb, 8*mb + 0x100a},
		{"behind one another", []image.Segment{
			{Addr: 4 * mb, Memory: mb, File: mb, Flags: x},
			{Addr: 5 * mb, Memory: mb, Offset: mb, File: mb, Flags: r},
		}, nil, 0, 0},
		{"data beside constants", []image.Segment{
			{Addr: 4 * mb, Memory: mb, File: mb, Flags: x},
			{Addr: 5 * mb, Memory: mb, Offset: mb, File: mb, Flags: w},
		}, nil, 0, 0},
		{"odd address", []image.Segment{{Addr: 4*mb + 0x1000, Memory: mb, File: mb, Flags: x}}, nil, 0, 0},
		{"too large", []image.Segment{{Addr: 4 * mb, Memory: 65 * mb, File: 65 * mb, Flags: x}}, nil, 0, 0},
		{"backwards", []image.Segment{
			{Addr: 8 * mb, Memory: mb, File: mb, Flags: x}, {Addr: 4 * mb, Memory: mb, File: mb, Flags: r},
		}, nil, 0, 0},
		{"none", nil, nil, 0, 0},
	} {
		to, constants, size, err := spread(c.segs)
		if c.to == nil {
			if !errors.Is(err, errNoCopy) {
				t.Errorf("%s: %#x, %v", c.name, to, err)
			}
			continue
		}
		same := len(to) == len(c.to)
		for i := range to {
			same = same && to[i] == c.to[i]
		}
		if err != nil || !same || constants != c.constants || size != c.size {
			t.Errorf("%s: %#x, %#x constant of %#x, %v; want %#x, %#x of %#x", c.name, to, constants, size, err, c.to, c.constants, c.size)
		}
	}
}

func imageOf(t *testing.T, name string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), name)
	var said bytes.Buffer
	if _, err := build.Build(context.Background(), build.Options{Package: ".", Dir: "testdata/" + name, Output: img, Stdout: &said, Stderr: &said}); err != nil {
		t.Fatalf("build: %v\n%s", err, said.Bytes())
	}
	return img
}

// copyOf is the copy of an image in large pages.
func copyOf(t *testing.T, f *os.File) *os.File {
	t.Helper()
	c, err := inLargePages(f)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOMEM) {
		t.Skip(err) // no large pages here
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCopy: what is loaded of the copy is what is loaded of the image, executable pages
// hold nothing besides, and nobody can change it.
func TestCopy(t *testing.T) {
	f, err := os.Open(imageOf(t, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := copyOf(t, f)
	defer c.Close()
	was, err := image.ReadFacts(f)
	if err != nil {
		t.Fatal(err)
	}
	// Sections are not copied, so only program headers can be looked at.
	st, _ := c.Stat()
	all := make([]byte, st.Size())
	if _, err := c.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	to, _, size, err := spread(was.Segments)
	if err != nil || size != uint64(len(all)) {
		t.Fatalf("%d bytes, want %d (%v)", len(all), size, err)
	}
	for i, s := range was.Segments {
		want := make([]byte, s.File)
		if _, err := f.ReadAt(want, int64(s.Offset)); err != nil {
			t.Fatal(err)
		}
		got := all[to[i]:][:s.File]
		if i == 0 { // the headers differ
			want, got = want[4096:], got[4096:]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("segment %d differs", i)
		}
		if s.Flags&1 != 0 {
			rest := all[to[i]+s.File:][:-(to[i]+s.File)&(largePage-1)]
			if len(bytes.Trim(rest, "\xcc")) != 0 {
				t.Error("something else is in a page of text")
			}
		}
	}
	if _, err := c.WriteAt([]byte{1}, 0); err == nil {
		t.Error("the copy can be written to")
	}
	if err := c.Truncate(0); err == nil {
		t.Error("the copy can be cut off")
	}
}

// TestCopies: an image that is started again is loaded from a copy; there is a bound to
// how many are kept, and a changed file is another image.
func TestCopies(t *testing.T) {
	path := imageOf(t, "hello")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	copyOf(t, f).Close()
	if best(f) != f {
		t.Error("there is a copy before the first start")
	}
	c := ready(f)
	if c == f || ready(f) != c || best(f) != c {
		t.Error("no copy, or more than one")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range mostCopies {
		other := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(other, b, 0o755); err != nil {
			t.Fatal(err)
		}
		o, err := os.Open(other)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		if best(o) != o {
			t.Errorf("a copy of another image for image %d", i)
		}
	}
	if len(copies.list) != mostCopies || best(f) != f {
		t.Errorf("%d copies are kept, want %d, without the first", len(copies.list), mostCopies)
	}
}
