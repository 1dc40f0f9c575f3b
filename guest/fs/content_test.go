package fs

import (
	"bytes"
	"fmt"
	"math/rand"
	"testing"

	"noyau.dev/guest/linux"
	"noyau.dev/test/fsdiff"
)

func TestSparse(t *testing.T) {
	root := fresh(t)
	g := fsdiff.Guest
	before := root.quota.used
	fd := g.Must(t, linux.SYS_OPEN, "/tmp/sparse", linux.O_RDWR|linux.O_CREAT, 0o600)
	const far = 1 << 40
	g.Must(t, linux.SYS_PWRITE64, fd, []byte("end"), 3, far)
	g.Must(t, linux.SYS_PWRITE64, fd, []byte("start"), 5, 0)
	if used := root.quota.used - before; used > 200<<10 {
		t.Errorf("a file of a terabyte of holes is charged %d bytes", used)
	}
	var st linux.Stat
	g.Must(t, linux.SYS_FSTAT, fd, &st)
	if st.Size != far+3 || st.Blocks > 400 {
		t.Errorf("size %d, blocks %d", st.Size, st.Blocks)
	}
	b := make([]byte, 100)
	if n := g.Must(t, linux.SYS_PREAD64, fd, b, 100, far-10); n != 13 || !bytes.Equal(b[:13], append(make([]byte, 10), "end"...)) {
		t.Errorf("around the end: %q", b[:n])
	}
	for _, c := range []struct{ whence, off, want int }{
		{linux.SEEK_DATA, 0, 0}, {linux.SEEK_HOLE, 0, chunkSize}, {linux.SEEK_DATA, chunkSize, far}, {linux.SEEK_HOLE, far, far + 3},
	} {
		if at := g.Must(t, linux.SYS_LSEEK, fd, c.off, c.whence); int(at) != c.want {
			t.Errorf("seek %d from %d: %d; want %d", c.whence, c.off, at, c.want)
		}
	}
	g.Must(t, linux.SYS_FTRUNCATE, fd, 2)
	g.Must(t, linux.SYS_FTRUNCATE, fd, 5)
	if n := g.Must(t, linux.SYS_PREAD64, fd, b, 100, 0); string(b[:n]) != "st\x00\x00\x00" {
		t.Errorf("after cutting and growing: %q", b[:n])
	}
	g.Must(t, linux.SYS_CLOSE, fd)
	g.Must(t, linux.SYS_UNLINK, "/tmp/sparse")
	if root.quota.used != before {
		t.Errorf("%d bytes were not given back", root.quota.used-before)
	}
}

// TestNoSpace fills the tree: writes get short and then ENOSPC, nothing breaks,
// and what is removed can be used again.
func TestNoSpace(t *testing.T) {
	root := fresh(t)
	g := fsdiff.Guest
	fd := g.Must(t, linux.SYS_OPEN, "/tmp/big", linux.O_RDWR|linux.O_CREAT, 0o600)
	b := make([]byte, 3<<20)
	var e linux.Errno
	for e == 0 {
		_, e = g.Do(linux.SYS_WRITE, fd, b, len(b))
	}
	if e != linux.ENOSPC || root.quota.used > root.quota.limit {
		t.Fatalf("full: %v, %d of %d used", e, root.quota.used, root.quota.limit)
	}
	for i := 0; e == linux.ENOSPC && i < 1000; i++ {
		_, e = g.Do(linux.SYS_MKDIR, fmt.Sprint("/tmp/d", i), 0o755)
		if e == 0 {
			e = linux.ENOSPC
			continue
		}
		break
	}
	if _, e := g.Do(linux.SYS_FALLOCATE, fd, 0, 1<<30, 1<<30); e != linux.ENOSPC {
		t.Errorf("fallocate of more than there is: %v", e)
	}
	g.Must(t, linux.SYS_FTRUNCATE, fd, 0)
	g.Must(t, linux.SYS_WRITE, fd, b, len(b))
	g.Must(t, linux.SYS_CLOSE, fd)
}

// TestContentRandom compares a content with a plain slice.
func TestContentRandom(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	q := &quota{limit: 1 << 30}
	var c content
	var want []byte
	for i := range 5000 {
		off := r.Intn(5 * chunkSize)
		switch r.Intn(5) {
		case 0, 1:
			p := bytes.Repeat([]byte{byte(i)}, r.Intn(chunkSize+100))
			if n, e := c.writeAt(p, int64(off), q); n != len(p) || e != 0 {
				t.Fatal(n, e)
			}
			if need := off + len(p); len(p) > 0 && need > len(want) {
				want = append(want, make([]byte, need-len(want))...)
			}
			if len(p) > 0 {
				copy(want[off:], p)
			}
		case 2:
			c.truncate(int64(off), q)
			if off <= len(want) {
				want = want[:off:off]
			} else {
				want = append(want, make([]byte, off-len(want))...)
			}
		case 3:
			n := r.Intn(2*chunkSize) + 1
			c.punch(int64(off), int64(n), q)
			if off < len(want) {
				clear(want[off:min(off+n, len(want))])
			}
		case 4:
			got := make([]byte, r.Intn(2*chunkSize))
			n := c.readAt(got, int64(off))
			w := want[min(off, len(want)):]
			w = w[:min(len(w), len(got))]
			if !bytes.Equal(got[:n], w) {
				t.Fatalf("step %d: read at %d differs", i, off)
			}
		}
		if c.size != int64(len(want)) {
			t.Fatalf("step %d: size %d; want %d", i, c.size, len(want))
		}
	}
	if c.free(q); q.used != 0 {
		t.Errorf("%d bytes were not given back", q.used)
	}
}

// TestGetdentsStable removes and adds entries while a directory is read: each
// entry that stays is seen exactly once.
func TestGetdentsStable(t *testing.T) {
	fresh(t)
	g := fsdiff.Guest
	for i := range 300 {
		g.Must(t, linux.SYS_MKDIR, fmt.Sprintf("/tmp/%03d", i), 0o755)
	}
	fd := g.Must(t, linux.SYS_OPEN, "/tmp", linux.O_RDONLY|linux.O_DIRECTORY, 0)
	seen := map[string]int{}
	b := make([]byte, 400)
	for round := 0; ; round++ {
		n := g.Must(t, linux.SYS_GETDENTS64, fd, b, len(b))
		if n == 0 {
			break
		}
		for r := b[:n]; len(r) > 0; r = r[int(r[16])|int(r[17])<<8:] {
			name := string(r[19 : 19+bytes.IndexByte(r[19:], 0)])
			seen[name]++
			if name != "." && name != ".." && name[len(name)-1]%2 == 0 {
				g.Must(t, linux.SYS_RMDIR, "/tmp/"+name)
			}
		}
	}
	g.Must(t, linux.SYS_CLOSE, fd)
	if len(seen) != 302 {
		t.Errorf("saw %d entries; want 302", len(seen))
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("saw %s %d times", name, n)
		}
	}
}
