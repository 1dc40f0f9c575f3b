package fs

import (
	"testing"
	"time"

	"noyau.dev/guest/linux"
	"noyau.dev/test/fsdiff"
)

// waits checks that f does not return before release is called, and then does.
func waits(t *testing.T, what string, f func() linux.Errno, release func()) {
	t.Helper()
	done := make(chan linux.Errno, 1)
	go func() { done <- f() }()
	select {
	case e := <-done:
		t.Fatalf("%s did not wait: %v", what, e)
	case <-time.After(20 * time.Millisecond):
	}
	release()
	select {
	case e := <-done:
		if e != 0 {
			t.Errorf("%s: %v", what, e)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s still waits", what)
	}
}

func TestFlock(t *testing.T) {
	fresh(t)
	g := fsdiff.Guest
	writeFile(t, "/tmp/f", "")
	a := g.Must(t, linux.SYS_OPEN, "/tmp/f", linux.O_RDONLY, 0)
	b := g.Must(t, linux.SYS_OPEN, "/tmp/f", linux.O_RDONLY, 0)
	g.Must(t, linux.SYS_FLOCK, a, linux.LOCK_EX)
	if _, e := g.Do(linux.SYS_FLOCK, b, linux.LOCK_SH|linux.LOCK_NB); e != linux.EAGAIN {
		t.Errorf("a second lock: %v", e)
	}
	lock := func() linux.Errno { _, e := g.Do(linux.SYS_FLOCK, b, linux.LOCK_EX); return e }
	waits(t, "flock", lock, func() { g.Must(t, linux.SYS_FLOCK, a, linux.LOCK_UN) })
	g.Must(t, linux.SYS_FLOCK, b, linux.LOCK_UN)
	g.Must(t, linux.SYS_FLOCK, a, linux.LOCK_SH)
	waits(t, "flock until close", lock, func() { g.Must(t, linux.SYS_CLOSE, a) })
	g.Must(t, linux.SYS_CLOSE, b)
}

// TestRecordLocks shows who owns what: POSIX locks the process, OFD locks the
// description; and that closing any descriptor ends the former.
func TestRecordLocks(t *testing.T) {
	fresh(t)
	g := fsdiff.Guest
	writeFile(t, "/tmp/f", "")
	open := func() uintptr { return g.Must(t, linux.SYS_OPEN, "/tmp/f", linux.O_RDWR, 0) }
	a, b := open(), open()
	set := func(fd uintptr, cmd int, typ int16, start, n int64) linux.Errno {
		_, e := g.Do(linux.SYS_FCNTL, fd, cmd, &linux.Flock{Type: typ, Start: start, Len: n})
		return e
	}
	if e := set(a, linux.F_SETLK, linux.F_WRLCK, 0, 10); e != 0 {
		t.Fatal(e)
	}
	if e := set(b, linux.F_SETLK, linux.F_WRLCK, 5, 10); e != 0 {
		t.Errorf("the process locks itself out: %v", e)
	}
	if e := set(b, linux.F_OFD_SETLK, linux.F_RDLCK, 14, 1); e != linux.EAGAIN {
		t.Errorf("an OFD lock over a POSIX lock: %v", e)
	}
	l := &linux.Flock{Type: linux.F_RDLCK, Start: 3, Len: 1}
	g.Must(t, linux.SYS_FCNTL, b, linux.F_OFD_GETLK, l)
	if *l != (linux.Flock{Type: linux.F_WRLCK, Start: 0, Len: 15, PID: 7}) {
		t.Errorf("the lock in the way: %+v", *l)
	}
	waits(t, "an OFD lock", func() linux.Errno { return set(b, linux.F_OFD_SETLKW, linux.F_WRLCK, 0, 0) },
		func() { g.Must(t, linux.SYS_CLOSE, open()) })
	if e := set(a, linux.F_OFD_SETLK, linux.F_RDLCK, 100, 1); e != linux.EAGAIN {
		t.Errorf("another description: %v", e)
	}
	waits(t, "an OFD lock until close", func() linux.Errno { return set(a, linux.F_OFD_SETLKW, linux.F_RDLCK, 100, 1) },
		func() { g.Must(t, linux.SYS_CLOSE, b) })
	g.Must(t, linux.SYS_CLOSE, a)
}

func TestFifo(t *testing.T) {
	fresh(t)
	g := fsdiff.Guest
	g.Must(t, linux.SYS_MKNOD, "/tmp/p", linux.S_IFIFO|0o600, 0)
	if _, e := g.Do(linux.SYS_OPEN, "/tmp/p", linux.O_WRONLY|linux.O_NONBLOCK, 0); e != linux.ENXIO {
		t.Errorf("a writer without a reader: %v", e)
	}
	var w uintptr
	for range 2 {
		var r uintptr
		waits(t, "open for reading", func() (e linux.Errno) {
			r, e = g.Do(linux.SYS_OPEN, "/tmp/p", linux.O_RDONLY, 0)
			return e
		}, func() { w = g.Must(t, linux.SYS_OPEN, "/tmp/p", linux.O_WRONLY, 0) })
		b := make([]byte, 10)
		waits(t, "read", func() linux.Errno { _, e := g.Do(linux.SYS_READ, r, b, 10); return e },
			func() { g.Must(t, linux.SYS_WRITE, w, []byte("hello"), 5) })
		if string(b[:5]) != "hello" {
			t.Errorf("read %q", b)
		}
		g.Must(t, linux.SYS_CLOSE, w)
		if n := g.Must(t, linux.SYS_READ, r, b, 10); n != 0 {
			t.Errorf("read %d bytes after the writer has closed", n)
		}
		g.Must(t, linux.SYS_CLOSE, r)
	}
	var st linux.Stat
	g.Must(t, linux.SYS_STAT, "/tmp/p", &st)
	if st.Mode != linux.S_IFIFO|0o600 {
		t.Errorf("mode %o", st.Mode)
	}
}

func TestPermissions(t *testing.T) {
	root := fresh(t)
	g := fsdiff.Guest
	writeFile(t, "/tmp/private", "x")
	g.Must(t, linux.SYS_CHMOD, "/tmp/private", 0o600)
	g.Must(t, linux.SYS_MKDIR, "/root/d", 0o755)
	root.SetCred(1000, 1000, []uint32{50})
	for _, c := range []struct {
		what string
		nr   int
		args []any
		want linux.Errno
	}{
		{"open another's file", linux.SYS_OPEN, []any{"/tmp/private", linux.O_RDONLY, 0}, linux.EACCES},
		{"sticky", linux.SYS_UNLINK, []any{"/tmp/private"}, linux.EPERM},
		{"search", linux.SYS_ACCESS, []any{"/root/d", 0}, linux.EACCES},
		{"make in /", linux.SYS_MKDIR, []any{"/x", 0o755}, linux.EACCES},
		{"make in /tmp", linux.SYS_MKDIR, []any{"/tmp/mine", 0o755}, 0},
		{"chmod another's", linux.SYS_CHMOD, []any{"/tmp/private", 0o644}, linux.EPERM},
		{"chmod one's own", linux.SYS_CHMOD, []any{"/tmp/mine", 0o700}, 0},
		{"chown", linux.SYS_CHOWN, []any{"/tmp/mine", 0, 0}, linux.EPERM},
		{"own group", linux.SYS_CHOWN, []any{"/tmp/mine", 1000, 50}, 0},
		{"write /etc/hosts", linux.SYS_OPEN, []any{"/etc/hosts", linux.O_WRONLY, 0}, linux.EACCES},
		{"read /etc/hosts", linux.SYS_ACCESS, []any{"/etc/hosts", linux.R_OK}, 0},
	} {
		if _, e := g.Do(c.nr, c.args...); e != c.want {
			t.Errorf("%s: %v; want %v", c.what, e, c.want)
		}
	}
}
