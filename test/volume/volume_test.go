package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/guest/linux"
	"noyau.dev/test/fsdiff"
)

var g = fsdiff.Guest

func open(t *testing.T, path string, flags int) uintptr {
	t.Helper()
	fd := g.Must(t, linux.SYS_OPEN, path, flags, 0o644)
	t.Cleanup(func() { g.Do(linux.SYS_CLOSE, fd) })
	return fd
}

func content(t *testing.T, path string) string {
	t.Helper()
	b := make([]byte, 1000)
	return string(b[:g.Must(t, linux.SYS_READ, open(t, path, linux.O_RDONLY), b, len(b))])
}

func write(t *testing.T, path, s string) {
	t.Helper()
	g.Must(t, linux.SYS_WRITE, open(t, path, linux.O_WRONLY|linux.O_CREAT|linux.O_TRUNC), []byte(s), len(s))
}

// TestLinks follows links that leave the volume: they mean what is there inside
// the pVM, never what is there at the host.
func TestLinks(t *testing.T) {
	write(t, "/tmp/inside", "of the pVM")
	g.Must(t, linux.SYS_MKDIR, "/v/links", 0o755)
	dir := filepath.Join(rw, "links")
	write(t, "/v/links/file", "of the volume")
	for link, target := range map[string]string{
		"abs": "/tmp/inside", "up": "../../tmp/inside", "hosts": "/etc/hostname", "self": "/v/links/file", "rel": "file",
		"dir": "/tmp", "chain": "abs", "dangling": "/tmp/made", "loop": "/v/links/loop", "root": "/", "vroot": "../..",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"abs": "of the pVM", "up": "of the pVM", "hosts": "noyau\n", "self": "of the volume", "rel": "of the volume",
		"dir/inside": "of the pVM", "chain": "of the pVM", "root/v/links/file": "of the volume", "vroot/tmp/inside": "of the pVM",
		"dir/../v/links/dir/../etc/hostname": "noyau\n", "../links/file": "of the volume", "../../tmp/inside": "of the pVM",
	} {
		if got := content(t, "/v/links/"+path); got != want {
			t.Errorf("%s: %q; want %q", path, got, want)
		}
	}
	write(t, "/v/links/dangling", "through")
	if got := content(t, "/tmp/made"); got != "through" {
		t.Errorf("what was made through the dangling link: %q", got)
	}
	if _, e := g.Do(linux.SYS_OPEN, "/v/links/loop", 0, 0); e != linux.ELOOP {
		t.Errorf("loop: %v", e)
	}
	var st linux.Stat
	g.Must(t, linux.SYS_LSTAT, "/v/links/abs", &st)
	if st.Mode&linux.S_IFMT != linux.S_IFLNK {
		t.Errorf("lstat: mode %o", st.Mode)
	}
	g.Must(t, linux.SYS_MKDIR, "/v/links/dir/made-through", 0o755)
	g.Must(t, linux.SYS_RMDIR, "/tmp/made-through")
	if _, e := g.Do(linux.SYS_RENAME, "/v/links/file", "/v/links/dir/x"); e != linux.EXDEV {
		t.Errorf("rename out of the volume: %v", e)
	}
	if _, e := g.Do(linux.SYS_LINK, "/v/links/file", "/tmp/x"); e != linux.EXDEV {
		t.Errorf("link out of the volume: %v", e)
	}
}

func TestPositions(t *testing.T) {
	write(t, "/v/pos", "0123456789")
	fd := open(t, "/v/pos", linux.O_RDWR)
	b := make([]byte, 4)
	g.Must(t, linux.SYS_READ, fd, b, 4)
	g.Must(t, linux.SYS_WRITE, fd, []byte("ab"), 2)
	g.Must(t, linux.SYS_READ, fd, b, 4)
	if string(b) != "6789" {
		t.Errorf("read %q", b)
	}
	if n := g.Must(t, linux.SYS_READ, fd, b, 4); n != 0 {
		t.Errorf("read %d at the end", n)
	}
	app := open(t, "/v/pos", linux.O_RDWR|linux.O_APPEND)
	g.Must(t, linux.SYS_WRITE, app, []byte("xy"), 2)
	if at := g.Must(t, linux.SYS_LSEEK, app, 0, linux.SEEK_CUR); at != 12 {
		t.Errorf("after appending the position is %d", at)
	}
	g.Must(t, linux.SYS_PWRITE64, app, []byte("z"), 1, 0) // appends too
	g.Must(t, linux.SYS_LSEEK, app, 1, linux.SEEK_SET)
	g.Must(t, linux.SYS_READ, app, b, 4)
	if string(b) != "123a" {
		t.Errorf("read %q", b)
	}
	g.Must(t, linux.SYS_FSYNC, fd)
	g.Must(t, linux.SYS_FDATASYNC, fd)
	if got, _ := os.ReadFile(filepath.Join(rw, "pos")); string(got) != "0123ab6789xyz" {
		t.Errorf("the host sees %q", got)
	}
	g.Must(t, linux.SYS_TRUNCATE, "/v/pos", 3)
	g.Must(t, linux.SYS_UTIMENSAT, linux.AT_FDCWD, "/v/pos", &[2]linux.Timespec{{Sec: 5}, {Sec: 6, Nsec: 7}}, 0)
	var st linux.Stat
	g.Must(t, linux.SYS_FSTAT, fd, &st)
	if st.Size != 3 || st.Mtim != (linux.Timespec{Sec: 6, Nsec: 7}) || st.Atim.Sec != 5 {
		t.Errorf("%+v", st)
	}
}

func TestReadOnly(t *testing.T) {
	os.WriteFile(filepath.Join(ro, "f"), []byte("fixed"), 0o666)
	os.Mkdir(filepath.Join(ro, "d"), 0o777)
	if got := content(t, "/srv/ro/f"); got != "fixed" {
		t.Errorf("read %q", got)
	}
	for _, c := range []struct {
		what string
		nr   int
		args []any
		want linux.Errno
	}{
		{"open for writing", linux.SYS_OPEN, []any{"/srv/ro/f", linux.O_WRONLY, 0}, linux.EROFS},
		{"truncate", linux.SYS_OPEN, []any{"/srv/ro/f", linux.O_TRUNC, 0}, linux.EROFS},
		{"create", linux.SYS_OPEN, []any{"/srv/ro/new", linux.O_WRONLY | linux.O_CREAT, 0o644}, linux.EROFS},
		{"missing", linux.SYS_OPEN, []any{"/srv/ro/new", linux.O_WRONLY, 0}, linux.ENOENT},
		{"directory", linux.SYS_OPEN, []any{"/srv/ro/d", linux.O_WRONLY, 0}, linux.EISDIR},
		{"mkdir", linux.SYS_MKDIR, []any{"/srv/ro/new", 0o755}, linux.EROFS},
		{"unlink", linux.SYS_UNLINK, []any{"/srv/ro/f"}, linux.EROFS},
		{"chmod", linux.SYS_CHMOD, []any{"/srv/ro/f", 0o600}, linux.EROFS},
		{"access", linux.SYS_ACCESS, []any{"/srv/ro/f", linux.W_OK}, linux.EROFS},
		{"access to read", linux.SYS_ACCESS, []any{"/srv/ro/f", linux.R_OK}, 0},
		{"unmount", linux.SYS_RMDIR, []any{"/srv/ro"}, linux.EBUSY},
		{"rename the mount", linux.SYS_RENAME, []any{"/v", "/w"}, linux.EBUSY},
		{"socket name", linux.SYS_MKNOD, []any{"/v/sock", linux.S_IFSOCK | 0o600, 0}, linux.EPERM},
	} {
		if _, e := g.Do(c.nr, c.args...); e != c.want {
			t.Errorf("%s: %v; want %v", c.what, e, c.want)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(ro, "f")); string(got) != "fixed" {
		t.Errorf("the host's file is now %q", got)
	}
	in := g.Must(t, linux.SYS_INOTIFY_INIT1, 0)
	defer g.Do(linux.SYS_CLOSE, in)
	if _, e := g.Do(linux.SYS_INOTIFY_ADD_WATCH, in, "/v", 0xfff); e != linux.ENOSYS {
		t.Errorf("watching a volume: %v", e)
	}
	if s := content(t, "/proc/mounts"); !strings.Contains(s, " /v noyau rw,") || !strings.Contains(s, " /srv/ro noyau ro,") {
		t.Errorf("/proc/mounts:\n%s", s)
	}
}

// TestLocks has a process of the host, here this one, and the pVM lock the same
// file.
func TestLocks(t *testing.T) {
	write(t, "/v/lock", "")
	a, b := open(t, "/v/lock", linux.O_RDWR), open(t, "/v/lock", linux.O_RDWR)
	out, err := os.OpenFile(filepath.Join(rw, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := unix.Flock(int(out.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, e := g.Do(linux.SYS_FLOCK, a, linux.LOCK_EX|linux.LOCK_NB); e != linux.EAGAIN {
		t.Errorf("flock against the host: %v", e)
	}
	done := make(chan linux.Errno)
	go func() { _, e := g.Do(linux.SYS_FLOCK, a, linux.LOCK_EX); done <- e }()
	time.Sleep(10 * time.Millisecond)
	unix.Flock(int(out.Fd()), unix.LOCK_UN)
	if e := <-done; e != 0 {
		t.Errorf("flock: %v", e)
	}
	if _, e := g.Do(linux.SYS_FLOCK, b, linux.LOCK_SH|linux.LOCK_NB); e != linux.EAGAIN {
		t.Errorf("flock by another description: %v", e)
	}

	set := func(fd uintptr, cmd int, typ int16, start, n int64) linux.Errno {
		_, e := g.Do(linux.SYS_FCNTL, fd, cmd, &linux.Flock{Type: typ, Start: start, Len: n})
		return e
	}
	// POSIX locks are the process's: b can lock what a has.
	if e := set(a, linux.F_SETLK, linux.F_WRLCK, 0, 10); e != 0 {
		t.Fatal(e)
	}
	if e := set(b, linux.F_SETLK, linux.F_WRLCK, 5, 10); e != 0 {
		t.Errorf("the process locks itself out: %v", e)
	}
	held := func() int16 {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: 12, Len: 1}
		if err := unix.FcntlFlock(out.Fd(), unix.F_OFD_GETLK, &l); err != nil {
			t.Fatal(err)
		}
		return l.Type
	}
	if held() != unix.F_WRLCK {
		t.Error("the host does not see the lock")
	}
	c := g.Must(t, linux.SYS_OPEN, "/v/lock", linux.O_RDONLY, 0)
	g.Must(t, linux.SYS_CLOSE, c) // ends all POSIX locks of the process on the file
	if held() != unix.F_UNLCK {
		t.Error("closing a descriptor left POSIX locks")
	}
	// OFD locks are the description's.
	if e := set(a, linux.F_OFD_SETLK, linux.F_WRLCK, 0, 0); e != 0 {
		t.Fatal(e)
	}
	if e := set(b, linux.F_OFD_SETLK, linux.F_RDLCK, 7, 1); e != linux.EAGAIN {
		t.Errorf("an OFD lock over another's: %v", e)
	}
}

// TestDirectories uses a directory of a volume as working directory and dirfd.
func TestDirectories(t *testing.T) {
	g.Must(t, linux.SYS_MKDIR, "/v/dirs", 0o755)
	g.Must(t, linux.SYS_CHDIR, "/v/dirs")
	defer g.Must(t, linux.SYS_CHDIR, "/")
	g.Must(t, linux.SYS_MKDIR, "sub", 0o755)
	write(t, "sub/f", "x")
	b := make([]byte, 100)
	if n := g.Must(t, linux.SYS_GETCWD, b, len(b)); string(b[:n]) != "/v/dirs\x00" {
		t.Errorf("getcwd: %q", b[:n])
	}
	fd := open(t, "sub", linux.O_RDONLY|linux.O_DIRECTORY)
	write(t, "../dirs/sub/g", "y")
	g.Must(t, linux.SYS_FACCESSAT, fd, "g", 0)
	g.Must(t, linux.SYS_RENAMEAT, fd, "g", linux.AT_FDCWD, "h")
	if list, e := g.Names(fd); e != 0 || strings.Join(list, " ") != "..4 .4 f8" {
		t.Errorf("the directory lists %q, %v", list, e)
	}
	g.Must(t, linux.SYS_LSEEK, fd, 0, 0)
	if list, _ := g.Names(fd); len(list) != 3 {
		t.Errorf("a second time: %q", list)
	}
	g.Must(t, linux.SYS_FCHDIR, fd)
	if _, e := g.Do(linux.SYS_ACCESS, "../h", 0); e != 0 {
		t.Errorf("../h: %v", e)
	}
	if _, e := g.Do(linux.SYS_ACCESS, "../../../tmp", 0); e != 0 {
		t.Errorf("../../../tmp: %v", e)
	}
	if _, e := g.Do(linux.SYS_RMDIR, "/v/dirs/sub"); e != linux.ENOTEMPTY {
		t.Errorf("rmdir: %v", e)
	}
	// os.Root and x/sys: beneath
	how := &[3]uint64{linux.O_RDONLY, 0, 8}
	if _, e := g.Do(linux.SYS_OPENAT2, fd, "../h", how, 24); e != linux.EXDEV {
		t.Errorf("openat2 beneath, of ..: %v", e)
	}
	n := g.Must(t, linux.SYS_OPENAT2, fd, "f", how, 24)
	g.Must(t, linux.SYS_CLOSE, n)
}

// TestRenamedDirectory keeps descriptors and the working directory with their
// directories when these are renamed.
func TestRenamedDirectory(t *testing.T) {
	g.Must(t, linux.SYS_MKDIR, "/v/old", 0o755)
	g.Must(t, linux.SYS_MKDIR, "/v/old/sub", 0o755)
	write(t, "/v/old/sub/f", "x")
	sub := open(t, "/v/old/sub", linux.O_RDONLY|linux.O_DIRECTORY)
	path := open(t, "/v/old", linux.O_PATH)
	g.Must(t, linux.SYS_CHDIR, "/v/old/sub")
	defer g.Must(t, linux.SYS_CHDIR, "/")
	g.Must(t, linux.SYS_RENAME, "/v/old", "/v/renamed")
	g.Must(t, linux.SYS_MKDIR, "/v/old", 0o755)
	for _, fd := range []any{sub, linux.AT_FDCWD} {
		if _, e := g.Do(linux.SYS_FACCESSAT, fd, "f", 0); e != 0 {
			t.Errorf("f at %v: %v", fd, e)
		}
	}
	if _, e := g.Do(linux.SYS_FACCESSAT, path, "sub/f", 0); e != 0 {
		t.Errorf("sub/f at an O_PATH descriptor: %v", e)
	}
	b := make([]byte, 100)
	if n := g.Must(t, linux.SYS_GETCWD, b, len(b)); string(b[:n]) != "/v/renamed/sub\x00" {
		t.Errorf("getcwd: %q", b[:n])
	}
}
