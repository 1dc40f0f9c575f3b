package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

func withVolume(t testing.TB, readOnly bool) (*guest, string) {
	dir := t.TempDir()
	return start(t, setup{volumes: []volume.Spec{{Host: dir, Guest: "/data", ReadOnly: readOnly}}}), dir
}

func stat(t testing.TB, p []byte) abi.Stat {
	t.Helper()
	st, rest, ok := abi.TakeStat(p)
	if !ok || len(rest) != 0 {
		t.Fatalf("payload of %d bytes is no Stat", len(p))
	}
	return st
}

func TestFiles(t *testing.T) {
	g, dir := withVolume(t, false)
	a := g.open("f", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	st := stat(t, a.payload)
	if st.Mode != unix.S_IFREG|0o644 || st.UID != 1000 || st.GID != 1000 || st.Dev != 1 {
		t.Errorf("new file: %+v", st)
	}
	if _, err := unix.Pwrite(a.fd, []byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	g.must(abi.Msg{Op: abi.OpSync, Handle: a.Handle}, nil)
	g.must(abi.Msg{Op: abi.OpSync, Handle: a.Handle, A: 1}, nil)
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "hello" {
		t.Errorf("the host sees %q", b)
	}
	g.must(abi.Msg{Op: abi.OpTruncate, Handle: a.Handle, A: 2}, nil)
	g.must(abi.Msg{Op: abi.OpFalloc, Handle: a.Handle, B: 0, C: 4096}, nil)
	if st := stat(t, g.must(abi.Msg{Op: abi.OpFstat, Handle: a.Handle}, nil).payload); st.Size != 4096 {
		t.Errorf("size %d; want 4096", st.Size)
	}
	g.refused(unix.EEXIST, abi.Msg{Op: abi.OpOpen, B: unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY}, str("f"))

	g.must(abi.Msg{Op: abi.OpMkdir, C: 0o777}, str("d"))
	if st := stat(t, g.must(abi.Msg{Op: abi.OpStat}, str("d")).payload); st.Mode != unix.S_IFDIR|0o777 {
		t.Errorf("mode of d is %o; the monitor's umask must not count", st.Mode)
	}
	g.must(abi.Msg{Op: abi.OpRename}, str("f", "d/g"))
	g.must(abi.Msg{Op: abi.OpLink}, str("d/g", "h"))
	g.must(abi.Msg{Op: abi.OpSymlink}, str("d/g", "s"))
	if s, _, _ := abi.TakeString(g.must(abi.Msg{Op: abi.OpReadlink}, str("s")).payload); s != "d/g" {
		t.Errorf("readlink: %q", s)
	}
	if st := stat(t, g.must(abi.Msg{Op: abi.OpStat}, str("s")).payload); st.Nlink != 2 {
		t.Errorf("links: %d; want 2", st.Nlink)
	}
	if st := stat(t, g.must(abi.Msg{Op: abi.OpStat, B: unix.AT_SYMLINK_NOFOLLOW}, str("s")).payload); st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("lstat followed the link: mode %o", st.Mode)
	}
	g.must(abi.Msg{Op: abi.OpChmod, C: 0o600}, str("h"))
	g.must(abi.Msg{Op: abi.OpChmod, Handle: a.Handle, C: 0o640}, nil)
	g.must(abi.Msg{Op: abi.OpTimes, C: 1e9 + 5, D: abi.TimeOmit}, str("h"))
	g.must(abi.Msg{Op: abi.OpTimes, Handle: a.Handle, C: abi.TimeOmit, D: ^uint64(0)}, nil) // 1 ns before 1970
	st = stat(t, g.must(abi.Msg{Op: abi.OpFstat, Handle: a.Handle}, nil).payload)
	if st.Mode&0o777 != 0o640 || st.Atime != 1e9+5 || st.Mtime != -1 {
		t.Errorf("after chmod and utimes: %+v", st)
	}
	g.must(abi.Msg{Op: abi.OpChown, B: 1000, C: ^uint64(0)}, str("h"))
	g.refused(unix.EPERM, abi.Msg{Op: abi.OpChown, B: 4321, C: ^uint64(0)}, str("h"))
	g.refused(unix.EPERM, abi.Msg{Op: abi.OpChmod, C: 0o4755}, str("h"))
	g.must(abi.Msg{Op: abi.OpAccess, B: unix.R_OK}, str("h"))
	g.must(abi.Msg{Op: abi.OpMknod, C: unix.S_IFREG | 0o600}, str("node"))
	g.refused(unix.EPERM, abi.Msg{Op: abi.OpMknod, C: unix.S_IFCHR | 0o600}, str("null"))
	if st, _, ok := abi.TakeStatfs(g.must(abi.Msg{Op: abi.OpStatfs}, nil).payload); !ok || st.Bsize == 0 {
		t.Errorf("statfs: %+v", st)
	}
	g.must(abi.Msg{Op: abi.OpUnlink}, str("h"))
	g.refused(unix.ENOTEMPTY, abi.Msg{Op: abi.OpUnlink, B: unix.AT_REMOVEDIR}, str("d"))
	g.must(abi.Msg{Op: abi.OpUnlink}, str("d/g"))
	g.must(abi.Msg{Op: abi.OpUnlink, B: unix.AT_REMOVEDIR}, str("d"))
	g.send(abi.Msg{Op: abi.OpDrop, Handle: a.Handle}, nil)
	g.refused(unix.EBADF, abi.Msg{Op: abi.OpFstat, Handle: a.Handle}, nil)
}

func TestCreateFollowsDanglingLinkInside(t *testing.T) {
	g, dir := withVolume(t, false)
	os.Symlink("target", filepath.Join(dir, "link"))
	g.open("link", unix.O_CREAT|unix.O_WRONLY)
	if _, err := os.Stat(filepath.Join(dir, "target")); err != nil {
		t.Error(err)
	}
	g.refused(unix.ELOOP, abi.Msg{Op: abi.OpOpen, B: unix.O_NOFOLLOW}, str("link"))
}

func TestReadDir(t *testing.T) {
	g, dir := withVolume(t, false)
	var want []string
	for n := range 300 {
		name := fmt.Sprintf("file-%03d", n)
		want = append(want, name)
		os.WriteFile(filepath.Join(dir, name), nil, 0o600)
	}
	d := g.open("", unix.O_RDONLY|unix.O_DIRECTORY)
	if err := unix.Fstatat(d.fd, "file-000", &unix.Stat_t{}, 0); err == nil {
		t.Error("the guest got a descriptor of a directory")
	}
	var got []string
	calls := 0
	for cookie := uint64(0); ; calls++ {
		a := g.must(abi.Msg{Op: abi.OpReadDir, Handle: d.Handle, A: cookie, B: 1024}, nil)
		if len(a.payload) == 0 {
			break
		}
		cookie = a.A
		for b := a.payload; len(b) > 0; {
			size := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := bytes.Cut(b[19:size], []byte{0})
			if s := string(name); s != "." && s != ".." {
				got = append(got, s)
			}
			b = b[size:]
		}
	}
	sort.Strings(got)
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %d names; want %d", len(got), len(want))
	}
	if calls < 3 {
		t.Errorf("%d calls for 300 names in 1,024 bytes each", calls)
	}
	f := g.open("file-000", unix.O_RDONLY)
	g.refused(unix.ENOTDIR, abi.Msg{Op: abi.OpReadDir, Handle: f.Handle, B: 4096}, nil)
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpReadDir, Handle: d.Handle, A: 1 << 63, B: 4096}, nil)
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpReadDir, Handle: d.Handle, B: 3}, nil)
}

func TestReadOnly(t *testing.T) {
	g, dir := withVolume(t, true)
	os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o666)
	os.Mkdir(filepath.Join(dir, "d"), 0o777)
	f := g.open("f", unix.O_RDONLY)
	if _, err := unix.Pwrite(f.fd, []byte("y"), 0); err == nil {
		t.Error("a file of a read-only volume was written")
	}
	g.open("f", unix.O_RDONLY|unix.O_CREAT) // exists: nothing to change
	for _, m := range []struct {
		m abi.Msg
		p []byte
	}{
		{abi.Msg{Op: abi.OpOpen, B: unix.O_WRONLY}, str("f")},
		{abi.Msg{Op: abi.OpOpen, B: unix.O_RDWR}, str("f")},
		{abi.Msg{Op: abi.OpOpen, B: unix.O_RDONLY | unix.O_TRUNC}, str("f")},
		{abi.Msg{Op: abi.OpOpen, B: unix.O_CREAT | unix.O_WRONLY, C: 0o600}, str("new")},
		{abi.Msg{Op: abi.OpMkdir, C: 0o700}, str("new")},
		{abi.Msg{Op: abi.OpMknod, C: 0o700}, str("new")},
		{abi.Msg{Op: abi.OpUnlink}, str("f")},
		{abi.Msg{Op: abi.OpUnlink, B: unix.AT_REMOVEDIR}, str("d")},
		{abi.Msg{Op: abi.OpRename}, str("f", "g")},
		{abi.Msg{Op: abi.OpLink}, str("f", "g")},
		{abi.Msg{Op: abi.OpSymlink}, str("f", "g")},
		{abi.Msg{Op: abi.OpChmod, C: 0o600}, str("f")},
		{abi.Msg{Op: abi.OpChmod, Handle: f.Handle, C: 0o600}, nil},
		{abi.Msg{Op: abi.OpChown, B: 1000, C: 1000}, str("f")},
		{abi.Msg{Op: abi.OpChown, Handle: f.Handle, B: 1000, C: 1000}, nil},
		{abi.Msg{Op: abi.OpTimes}, str("f")},
		{abi.Msg{Op: abi.OpTimes, Handle: f.Handle}, nil},
		{abi.Msg{Op: abi.OpTruncate, Handle: f.Handle}, nil},
		{abi.Msg{Op: abi.OpFalloc, Handle: f.Handle, C: 100}, nil},
		{abi.Msg{Op: abi.OpAccess, B: unix.W_OK}, str("f")},
	} {
		g.refused(unix.EROFS, m.m, m.p)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "x" {
		t.Errorf("the file is now %q", b)
	}
	if d, _ := os.ReadDir(dir); len(d) != 2 {
		t.Errorf("the directory has now %d entries", len(d))
	}
}

func TestLocks(t *testing.T) {
	g, _ := withVolume(t, false)
	a := g.open("f", unix.O_RDWR|unix.O_CREAT)
	b := g.open("f", unix.O_RDWR)

	g.must(abi.Msg{Op: abi.OpFlock, Handle: a.Handle, A: unix.LOCK_EX}, nil)
	g.refused(unix.EAGAIN, abi.Msg{Op: abi.OpFlock, Handle: b.Handle, A: unix.LOCK_EX | unix.LOCK_NB}, nil)
	id := g.send(abi.Msg{Op: abi.OpFlock, Handle: b.Handle, A: unix.LOCK_EX}, nil)
	g.must(abi.Msg{Op: abi.OpFstat, Handle: a.Handle}, nil) // others go on meanwhile
	unlock := g.send(abi.Msg{Op: abi.OpFlock, Handle: a.Handle, A: unix.LOCK_UN}, nil)
	for range 2 {
		if r := g.recv(); r.Errno != 0 || r.ID != id && r.ID != unlock {
			t.Errorf("answer %+v", r.Msg)
		}
	}

	g.must(abi.Msg{Op: abi.OpLock, Handle: a.Handle, A: unix.F_WRLCK, B: 10, C: 10}, nil)
	r := g.must(abi.Msg{Op: abi.OpLock, Handle: b.Handle, A: unix.F_RDLCK, B: 0, C: 0, D: 2}, nil)
	if r.A != unix.F_WRLCK || r.B != 10 || r.C != 10 {
		t.Errorf("the lock in the way: %+v", r.Msg)
	}
	g.refused(unix.EAGAIN, abi.Msg{Op: abi.OpLock, Handle: b.Handle, A: unix.F_RDLCK, B: 15, C: 1}, nil)
	id = g.send(abi.Msg{Op: abi.OpLock, Handle: b.Handle, A: unix.F_RDLCK, B: 15, C: 1, D: 1}, nil)
	g.send(abi.Msg{Op: abi.OpDrop, A: uint64(id)}, nil) // given up
	if r := g.recv(); r.ID != id || r.err() != unix.EINTR {
		t.Errorf("a lock that was given up: %+v", r.Msg)
	}
	for _, m := range []abi.Msg{
		{Op: abi.OpLock, Handle: a.Handle, A: 3},
		{Op: abi.OpLock, Handle: a.Handle, A: 1, B: 1 << 63},
		{Op: abi.OpLock, Handle: a.Handle, A: 1, D: 3},
		{Op: abi.OpFlock, Handle: a.Handle, A: 0},
		{Op: abi.OpFlock, Handle: a.Handle, A: 1 << 40},
	} {
		g.refused(unix.EINVAL, m, nil)
	}
	// A guest that ends while it waits for a lock: the clean-up must not hang.
	g.must(abi.Msg{Op: abi.OpFlock, Handle: b.Handle, A: unix.LOCK_UN}, nil)
	g.must(abi.Msg{Op: abi.OpFlock, Handle: a.Handle, A: unix.LOCK_EX}, nil)
	g.send(abi.Msg{Op: abi.OpFlock, Handle: b.Handle, A: unix.LOCK_SH}, nil)
}
