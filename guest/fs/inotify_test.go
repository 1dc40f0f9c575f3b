package fs

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"noyau.dev/guest/linux"
	"noyau.dev/test/fsdiff"
)

// events reads all pending events of fd as text. Cookies are numbered by their
// first appearance.
func events(t *testing.T, s fsdiff.Side, fd uintptr) (list []string) {
	t.Helper()
	b := make([]byte, 8192)
	cookies := map[uint32]int{0: 0}
	for {
		n, e := s.Do(linux.SYS_READ, fd, b, len(b))
		if e == linux.EAGAIN {
			return list
		}
		if e != 0 {
			t.Fatal(e)
		}
		for r := b[:n]; len(r) > 0; {
			u := binary.LittleEndian.Uint32
			name := r[16 : 16+u(r[12:])]
			if _, ok := cookies[u(r[8:])]; !ok {
				cookies[u(r[8:])] = len(cookies)
			}
			list = append(list, fmt.Sprintf("%d %x %d %s", int32(u(r)), u(r[4:]), cookies[u(r[8:])], strings.TrimRight(string(name), "\x00")))
			r = r[16+u(r[12:]):]
		}
	}
}

// TestInotify does the same things under watch on both sides and compares the
// events.
func TestInotify(t *testing.T) {
	fresh(t)
	base, err := os.MkdirTemp("/dev/shm", "noyau")
	if err != nil {
		base = t.TempDir()
	} else {
		defer os.RemoveAll(base)
	}
	defer syscall.Umask(syscall.Umask(0o022))
	open := func(s fsdiff.Side, path string, flags int) uintptr {
		return s.Must(t, linux.SYS_OPEN, path, flags, 0o644)
	}
	run := func(s fsdiff.Side, home string) []string {
		in := s.Must(t, linux.SYS_INOTIFY_INIT1, linux.O_NONBLOCK|linux.O_CLOEXEC)
		p := func(name string) string { return home + "/" + name }
		s.Must(t, linux.SYS_MKDIR, p("d"), 0o755)
		s.Must(t, linux.SYS_CLOSE, open(s, p("d/old"), linux.O_CREAT|linux.O_WRONLY))
		s.Must(t, linux.SYS_INOTIFY_ADD_WATCH, in, p("d"), inAllEvents)
		s.Must(t, linux.SYS_INOTIFY_ADD_WATCH, in, p("d/old"), inAllEvents)

		fd := open(s, p("d/new"), linux.O_CREAT|linux.O_RDWR)
		s.Must(t, linux.SYS_WRITE, fd, []byte("hello"), 5)
		s.Must(t, linux.SYS_WRITE, fd, []byte("hello"), 5)
		s.Must(t, linux.SYS_PREAD64, fd, make([]byte, 5), 5, 0)
		s.Must(t, linux.SYS_FTRUNCATE, fd, 2)
		s.Must(t, linux.SYS_FCHMOD, fd, 0o600)
		s.Must(t, linux.SYS_CLOSE, fd)
		s.Must(t, linux.SYS_RENAME, p("d/new"), p("d/newer"))
		s.Must(t, linux.SYS_MKDIR, p("d/sub"), 0o755)
		s.Must(t, linux.SYS_RENAME, p("d/newer"), p("d/sub/x"))
		s.Must(t, linux.SYS_LINK, p("d/sub/x"), p("d/link"))
		s.Must(t, linux.SYS_SYMLINK, "link", p("d/sym"))
		s.Must(t, linux.SYS_CHMOD, p("d/sub"), 0o700)
		s.Must(t, linux.SYS_UNLINK, p("d/sub/x"))
		s.Must(t, linux.SYS_RMDIR, p("d/sub"))
		s.Must(t, linux.SYS_RENAME, p("d/link"), p("d/old"))
		s.Must(t, linux.SYS_CLOSE, open(s, p("d/old"), linux.O_WRONLY|linux.O_TRUNC))
		s.Must(t, linux.SYS_RENAME, p("d"), p("e"))
		s.Must(t, linux.SYS_UNLINK, p("e/old"))
		s.Must(t, linux.SYS_UNLINK, p("e/sym"))
		s.Must(t, linux.SYS_RMDIR, p("e"))
		list := events(t, s, in)
		if _, e := s.Do(linux.SYS_INOTIFY_RM_WATCH, in, 1); e != linux.EINVAL {
			t.Errorf("%s: removing a watch that is gone: %v", home, e)
		}
		s.Must(t, linux.SYS_CLOSE, in)
		return list
	}
	got, want := run(fsdiff.Guest, "/tmp"), run(fsdiff.Native, base)
	if !slices.Equal(got, want) {
		t.Errorf("the guest:\n%s\nthe kernel:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestInotifyOverflow(t *testing.T) {
	fresh(t)
	g := fsdiff.Guest
	in := g.Must(t, linux.SYS_INOTIFY_INIT1, linux.O_NONBLOCK)
	defer g.Do(linux.SYS_CLOSE, in)
	g.Must(t, linux.SYS_INOTIFY_ADD_WATCH, in, "/tmp", inCreate|inDelete)
	for range maxEvents {
		g.Must(t, linux.SYS_MKDIR, "/tmp/d", 0o755)
		g.Must(t, linux.SYS_RMDIR, "/tmp/d")
	}
	list := events(t, g, in)
	if len(list) != maxEvents+1 || list[maxEvents] != fmt.Sprintf("-1 %x 0 ", inQOverflow) {
		t.Errorf("%d events, the last %q", len(list), list[len(list)-1])
	}
	if n := Root.watched; n != 1 {
		t.Errorf("%d watches", n)
	}
}
