package image

import (
	"bytes"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestReadLarge: the beginning of a file that was not in the page cache is there, and
// all in there is as it was, whatever its size.
func TestReadLarge(t *testing.T) {
	for _, size := range []int{0, 1, largePage - 1, largePage, 3*largePage + 5, mostLarge + largePage} {
		f, err := os.Create(t.TempDir() + "/file")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		if _, err := f.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		readLarge(int(f.Fd()), int64(size))
		if size >= largePage {
			for o := 0; o < min(size, mostLarge)&^(largePage-1); o += largePage {
				if !resident(t, f, o) {
					t.Errorf("of %d bytes those at %d are not there", size, o)
				}
			}
		}
		if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("a file of %d bytes is another afterwards (%v)", size, err)
		}
	}
	readLarge(-1, largePage)
}

// resident reports whether the page at an offset of a file is in the page cache.
func resident(t *testing.T, f *os.File, off int) bool {
	t.Helper()
	b, err := unix.Mmap(int(f.Fd()), int64(off), 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	var in [1]byte
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), 4096, uintptr(unsafe.Pointer(&in[0]))); e != 0 {
		t.Fatal(e)
	}
	return in[0]&1 != 0
}
