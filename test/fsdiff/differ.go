// Package fsdiff runs the same random file system calls on the library OS and on
// the real kernel and compares every result. It is for tests.
package fsdiff

import (
	"fmt"
	"math/rand"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"noyau.dev/guest/linux"
)

type differ struct {
	t     *testing.T
	r     *rand.Rand
	home  [2]string // the two directories
	o     Options
	order map[[2]linux.Errno]int // calls that failed for different reasons
	fds   [6][2]uint             // descriptors of both sides, plus one; 0: none
	plain [6]bool                // not opened with O_PATH
	log   []string
	sides [2]Side
}

// Options say what the guest's side cannot do.
type Options struct {
	// Volume: the guest's directory is in a volume: no O_TMPFILE, set-id bits,
	// sockets, FIFOs or other owners.
	Volume bool
}

// Run makes steps random calls below the directory guestDir of the library OS
// and below nativeDir, both empty and with mode 0755, and compares. seed makes it
// repeatable. It changes both working directories.
func Run(t *testing.T, seed int64, guestDir, nativeDir string, o Options, steps int) {
	old := syscall.Umask(0o022)
	t.Cleanup(func() { syscall.Umask(old) })
	d := &differ{t: t, r: rand.New(rand.NewSource(seed)), home: [2]string{guestDir, nativeDir}, o: o, order: make(map[[2]linux.Errno]int), sides: [2]Side{Guest, Native}}
	// Both work in a directory w, so that ".." leads to something equal too.
	t.Chdir(nativeDir)
	Guest.Must(t, linux.SYS_CHDIR, guestDir)
	d.both(linux.SYS_MKDIR, "w", 0o755)
	d.both(linux.SYS_CHDIR, "w")
	for range steps {
		d.step()
	}
	for i := range d.fds {
		d.close(i)
	}
	d.compare(".")
	d.close(0)
	for pair, n := range d.order {
		t.Logf("%d calls failed with %v, and natively with %v", n, syscall.Errno(pair[0]), syscall.Errno(pair[1]))
	}
}

func (d *differ) fail(format string, args ...any) {
	d.t.Helper()
	from := max(0, len(d.log)-40)
	d.t.Fatalf("%s\nlast calls:\n%s", fmt.Sprintf(format, args...), strings.Join(d.log[from:], "\n"))
}

// both makes a call on both sides, each with its own copy of what it may write
// to, and compares errors. fd arguments are given as fdSlot(i).
func (d *differ) both(nr int, args ...any) (r [2]uintptr, e linux.Errno) {
	d.t.Helper()
	var es [2]linux.Errno
	for i, s := range d.sides {
		a := make([]any, len(args))
		for j, v := range args {
			if f, ok := v.(fdSlot); ok {
				v = uintptr(d.fds[f][i]) - 1
				if d.fds[f][i] == 0 {
					v = uintptr(9999)
				}
			}
			a[j] = v
		}
		r[i], es[i] = s.Do(nr, a...)
	}
	shown := slices.Clone(args)
	for j, v := range shown {
		switch v := v.(type) {
		case []byte:
			shown[j] = fmt.Sprintf("<%d bytes>", len(v))
		case string:
			shown[j] = fmt.Sprintf("%.30q", v)
		}
	}
	d.log = append(d.log, fmt.Sprintf("%d%v = %v, %v", nr, shown, r, es))
	if !d.equal(es[0], es[1]) {
		d.fail("the guest says %v (%d), the kernel %v (%d)", syscall.Errno(es[0]), es[0], syscall.Errno(es[1]), es[1])
	}
	return r, es[0]
}

// equal reports whether two errors are the same, or as good as the same: where
// there are two reasons to refuse, it may be nobody's concern which is told.
func (d *differ) equal(a, b linux.Errno) bool {
	if a == b || a == linux.EBADF && b == linux.ESPIPE {
		return true
	}
	if !d.o.Volume || a == 0 || b == 0 {
		return false
	}
	d.order[[2]linux.Errno{a, b}]++ // these calls are made in two places
	return true
}

type fdSlot int

func (d *differ) close(i int) {
	if d.fds[i][0] != 0 {
		d.both(linux.SYS_CLOSE, fdSlot(i))
		d.fds[i] = [2]uint{}
	}
}

var pieces = []string{"a", "b", "c", "d", "e", "f", "a", "b", "c", ".", "..", "d"}

// path makes a path that stays within the two directories at the top.
func (d *differ) path() string {
	n := 1 + d.r.Intn(3)
	var parts []string
	for range n {
		parts = append(parts, pieces[d.r.Intn(len(pieces))])
	}
	p := strings.Join(parts, "/")
	if strings.Count(p, "..") > 1 || strings.HasPrefix(p, "..") {
		p = "a"
	}
	switch d.r.Intn(24) {
	case 0, 1:
		p += "/"
	case 2:
		p = strings.Replace(p, "/", "//", 1)
	case 3:
		p += "/."
	case 4:
		p = ""
	case 5:
		p = "a/" + strings.Repeat("n", 250+d.r.Intn(10))
	}
	return p
}

// target makes the text of a symbolic link, never leading out.
func (d *differ) target() string {
	p := pieces[d.r.Intn(6)]
	if d.r.Intn(3) == 0 {
		p += "/" + pieces[d.r.Intn(6)]
	}
	return p
}

// data is slot for calls that no descriptor of O_PATH answers.
func (d *differ) data() fdSlot {
	s := d.slot()
	for !d.plain[s] && d.fds[s][0] != 0 {
		s = d.slot()
		if d.r.Intn(20) == 0 {
			d.close(int(s))
		}
	}
	return s
}

func (d *differ) slot() fdSlot { return fdSlot(d.r.Intn(len(d.fds))) }

func (d *differ) flags() int {
	f := []int{linux.O_RDONLY, linux.O_WRONLY, linux.O_RDWR, linux.O_RDWR}[d.r.Intn(4)]
	for _, x := range []int{linux.O_CREAT, linux.O_CREAT, linux.O_EXCL, linux.O_TRUNC, linux.O_APPEND, linux.O_DIRECTORY, linux.O_NOFOLLOW, linux.O_PATH} {
		if d.r.Intn(4) == 0 {
			f |= x
		}
	}
	if d.r.Intn(40) == 0 && !d.o.Volume {
		f = f&linux.O_ACCMODE | linux.O_TMPFILE
	}
	return f | linux.O_NONBLOCK | linux.O_CLOEXEC
}

// compare checks that both trees are the same.
func (d *differ) compare(dir string) {
	d.close(0)
	d.open(0, -100, dir, linux.O_RDONLY|linux.O_DIRECTORY, 0)
	if d.fds[0][0] == 0 {
		return
	}
	list := d.names(0)
	d.close(0)
	for _, n := range list {
		name := n[:len(n)-1]
		if name == "." || name == ".." {
			continue
		}
		p := filepath.Join(dir, name)
		d.stat(linux.SYS_LSTAT, p)
		if strings.HasSuffix(n, "4") {
			d.compare(p)
		}
		if strings.HasSuffix(n, "8") {
			d.open(0, -100, p, linux.O_RDONLY, 0)
			d.read(0, 1<<17)
		}
	}
}
