package fs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"noyau.dev/guest/linux"
	"noyau.dev/test/fsdiff"
)

func readLink(t *testing.T, path string) string {
	t.Helper()
	b := make([]byte, 200)
	return string(b[:fsdiff.Guest.Must(t, linux.SYS_READLINK, path, b, len(b))])
}

func TestProc(t *testing.T) {
	fresh(t)
	old := os.Args
	os.Args = []string{"/bin/prog", "-x", "y z"}
	defer func() { os.Args = old }()
	t.Setenv("NOYAU_FS_TEST", "1")
	if env := readFile(t, "/proc/self/environ"); !strings.Contains(env, "\x00NOYAU_FS_TEST=1\x00") && !strings.HasPrefix(env, "NOYAU_FS_TEST=1\x00") {
		t.Errorf("/proc/self/environ: %q", env)
	}
	for _, c := range []struct{ path, want string }{
		{"/proc/self/cmdline", "/bin/prog\x00-x\x00y z\x00"},
		{"/proc/self/comm", "prog\n"},
		{"/proc/7/comm", "prog\n"},
		{"/proc/thread-self/comm", "prog\n"},
		{"/proc/self/task/7/comm", "prog\n"},
		{"/proc/self/cgroup", "0::/\n"},
		{"/proc/sys/kernel/hostname", "noyau\n"},
		{"/proc/sys/net/core/somaxconn", "4096\n"},
		{"/proc/mounts", "none / tmpfs rw,relatime 0 0\nproc /proc proc rw,relatime 0 0\n"},
	} {
		if got := readFile(t, c.path); got != c.want {
			t.Errorf("%s: %q; want %q", c.path, got, c.want)
		}
	}
	for path, want := range map[string]string{"/proc/self": "7", "/proc/self/exe": "/bin/prog", "/proc/self/cwd": "/", "/proc/self/root": "/"} {
		if got := readLink(t, path); got != want {
			t.Errorf("%s -> %q; want %q", path, got, want)
		}
	}
	for _, path := range []string{
		"/proc/self/status", "/proc/self/statm", "/proc/self/maps", "/proc/self/limits", "/proc/self/mountinfo",
		"/proc/cpuinfo", "/proc/meminfo", "/proc/uptime", "/proc/loadavg", "/proc/version", "/proc/stat", "/proc/filesystems",
		"/proc/sys/kernel/osrelease", "/proc/sys/kernel/random/boot_id",
	} {
		if s := readFile(t, path); s == "" || s[len(s)-1] != '\n' {
			t.Errorf("%s: %q is no text of whole lines", path, s)
		}
	}
	if a, b := readFile(t, "/proc/sys/kernel/random/uuid"), readFile(t, "/proc/sys/kernel/random/uuid"); a == b || len(a) != 37 {
		t.Errorf("two uuids: %q %q", a, b)
	}
	stat := strings.Fields(readFile(t, "/proc/self/stat"))
	if len(stat) != 52 || stat[0] != "7" || stat[1] != "(prog)" {
		t.Errorf("/proc/self/stat has %d fields: %q", len(stat), stat)
	}
	if rss, err := strconv.Atoi(stat[23]); err != nil || rss < 100 {
		t.Errorf("resident pages: %q", stat[23])
	}
	for _, path := range []string{"/proc/x", "/proc/self/task/7/x"} {
		if _, e := fsdiff.Guest.Do(linux.SYS_OPEN, path, linux.O_CREAT|linux.O_WRONLY, 0o644); e == 0 {
			t.Errorf("%s could be created", path)
		}
	}
	if _, e := fsdiff.Guest.Do(linux.SYS_UNLINK, "/proc/version"); e != linux.EPERM {
		t.Errorf("unlinking a file of /proc: %v", e)
	}
}

func TestProcFD(t *testing.T) {
	fresh(t)
	g := fsdiff.Guest
	writeFile(t, "/tmp/f", "content")
	fd := g.Must(t, linux.SYS_OPEN, "/tmp/f", linux.O_RDONLY, 0)
	defer g.Do(linux.SYS_CLOSE, fd)
	link := fmt.Sprint("/proc/self/fd/", fd)
	if got := readLink(t, link); got != "/tmp/f" {
		t.Errorf("%s -> %q", link, got)
	}
	g.Must(t, linux.SYS_RENAME, "/tmp/f", "/tmp/g")
	if got := readLink(t, link); got != "/tmp/g" {
		t.Errorf("after a rename: %q", got)
	}
	g.Must(t, linux.SYS_UNLINK, "/tmp/g")
	if got := readLink(t, link); got != "/tmp/g (deleted)" {
		t.Errorf("after unlink: %q", got)
	}
	if got := readFile(t, fmt.Sprint("/dev/fd/", fd)); got != "content" {
		t.Errorf("the unlinked file reads %q when it is opened again", got)
	}
	dir := g.Must(t, linux.SYS_OPEN, "/proc/self/fd", linux.O_RDONLY|linux.O_DIRECTORY, 0)
	list, _ := g.Names(dir)
	g.Must(t, linux.SYS_CLOSE, dir)
	if want := strconv.Itoa(int(fd)) + "\x3a"; !strings.Contains(strings.Join(list, " "), want) {
		t.Errorf("/proc/self/fd lists %q, without %q", list, want)
	}
	r, w := pipe(t)
	defer g.Do(linux.SYS_CLOSE, r)
	if got := readLink(t, fmt.Sprint("/proc/self/fd/", r)); !strings.HasPrefix(got, "pipe:[") {
		t.Errorf("a pipe is shown as %q", got)
	}
	again := g.Must(t, linux.SYS_OPEN, fmt.Sprint("/dev/fd/", w), linux.O_WRONLY, 0)
	g.Must(t, linux.SYS_CLOSE, w)
	g.Must(t, linux.SYS_WRITE, again, []byte("x"), 1)
	g.Must(t, linux.SYS_CLOSE, again)
	b := make([]byte, 10)
	if n := g.Must(t, linux.SYS_READ, r, b, 10); n != 1 {
		t.Errorf("read %d bytes from the pipe", n)
	}
	if n := g.Must(t, linux.SYS_READ, r, b, 10); n != 0 {
		t.Errorf("read %d bytes at the end of the pipe", n)
	}
}

func pipe(t *testing.T) (r, w uintptr) {
	b := make([]byte, 8)
	fsdiff.Guest.Must(t, linux.SYS_PIPE2, b, 0)
	return uintptr(b[0]), uintptr(b[4])
}

func TestDev(t *testing.T) {
	fresh(t)
	g := fsdiff.Guest
	b := make([]byte, 64)
	for _, c := range []struct {
		path  string
		read  uintptr
		write linux.Errno
	}{
		{"/dev/null", 0, 0}, {"/dev/zero", 64, 0}, {"/dev/full", 64, linux.ENOSPC}, {"/dev/urandom", 64, 0}, {"/dev/random", 64, 0},
	} {
		fd := g.Must(t, linux.SYS_OPEN, c.path, linux.O_RDWR|linux.O_CREAT|linux.O_TRUNC, 0o666)
		for i := range b {
			b[i] = 1
		}
		if n := g.Must(t, linux.SYS_READ, fd, b, len(b)); n != c.read {
			t.Errorf("%s: read %d", c.path, n)
		}
		if zero := strings.Count(string(b), "\x00"); c.path == "/dev/zero" && zero != 64 || c.path == "/dev/urandom" && zero > 20 {
			t.Errorf("%s: %d zeros", c.path, zero)
		}
		if _, e := g.Do(linux.SYS_WRITE, fd, b, 4); e != c.write {
			t.Errorf("%s: write: %v", c.path, e)
		}
		var st linux.Stat
		g.Must(t, linux.SYS_FSTAT, fd, &st)
		if st.Mode&linux.S_IFMT != linux.S_IFCHR || st.Rdev>>8 != 1 {
			t.Errorf("%s: mode %o device %x", c.path, st.Mode, st.Rdev)
		}
		g.Must(t, linux.SYS_CLOSE, fd)
	}
	if _, e := g.Do(linux.SYS_OPEN, "/dev/tty", linux.O_RDWR, 0); e != linux.ENXIO {
		t.Errorf("/dev/tty without a terminal: %v", e)
	}
}
