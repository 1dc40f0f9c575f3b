package fork

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/host/volume"
	"noyau.dev/test/internal/pvms"
)

// ask gets a page of a pVM, when it answers.
func ask(t testing.TB, i *monitor.Instance, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		r, err := client.Get("http://" + i.Info().Ports[0].Host + path)
		if err != nil {
			select {
			case <-i.Done():
				t.Fatalf("%s: it has ended: %+v", path, i.Wait())
			default:
			}
			// The port listens when a restored pVM has asked for it.
			if time.Now().After(end) {
				t.Fatal(err)
			}
			continue
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			t.Fatal(path, err)
		}
		return string(b)
	}
}

func check(t testing.TB, i *monitor.Instance, path, want string) {
	t.Helper()
	if got := ask(t, i, path); got != want {
		t.Errorf("%s: %q, want %q", path, got, want)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// withFiles runs the guest that has files open, and makes a snapshot of it.
func withFiles(t *testing.T, args ...string) (c monitor.Config, dir string, i *monitor.Instance) {
	t.Helper()
	c = config(t, append([]string{"files"}, args...)...)
	dir = t.TempDir()
	write(t, filepath.Join(dir, "read"), "one.two.thr.fou.")
	os.Mkdir(filepath.Join(dir, "dir"), 0o755)
	for _, name := range []string{"a", "b", "c"} {
		write(t, filepath.Join(dir, "dir", name), "")
	}
	c.Volumes = []monitor.Volume{volume.Spec{Host: dir, Guest: "/data"}}
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i = pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	check(t, i, "/read", "two. <nil>")
	check(t, i, "/write?second", "<nil> <nil>")
	c.Restore = filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), c.Restore, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	return c, dir, i
}

// TestReopen: files of volumes are open in a restored pVM as they were, at the same
// positions, and maps show them.
func TestReopen(t *testing.T) {
	c, dir, i := withFiles(t)
	check(t, i, "/map", "first,second,") // the original goes on
	i.Kill()
	i.Wait()
	write(t, filepath.Join(dir, "other"), "nobody has this open")
	r := pvms.Start(t, c)
	goesOn(t, r)
	check(t, r, "/dir", "2 <nil> <nil>")
	check(t, r, "/mem", "in memory")
	check(t, r, "/open", "<nil>")
	check(t, r, "/read", "fou. <nil>")
	check(t, r, "/close", "<nil><nil><nil><nil><nil>")
	if b, _ := os.ReadFile(filepath.Join(dir, "log")); string(b) != "begin\nsecond\nthird\n" {
		t.Errorf("log: %q", b)
	}
	// The listener is left, and the file that is mapped.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s, err := r.Stats()
		if err == nil && s.Handles <= 2 {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("%d handles are left, %v", s.Handles, err)
		}
	}
}

// goesOn checks that the files which withFiles left open are where they were.
func goesOn(t *testing.T, r *monitor.Instance) {
	t.Helper()
	check(t, r, "/read", "thr. <nil>")
	check(t, r, "/map", "first,second,")
	check(t, r, "/write?third", "<nil> <nil>")
	check(t, r, "/map", "first,second,third,")
	check(t, r, "/grow", "<nil>far")
}

// TestReopenAcross: files are open under the other isolation as well.
func TestReopenAcross(t *testing.T) {
	other := "vm"
	if isolation() == "vm" {
		other = "process"
	}
	pvms.Need(t, other)
	c, dir, i := withFiles(t)
	i.Kill()
	i.Wait()
	c.Isolation = other
	r := pvms.Start(t, c)
	goesOn(t, r)
	check(t, r, "/close", "<nil><nil><nil><nil><nil>")
	if b, _ := os.ReadFile(filepath.Join(dir, "log")); string(b) != "begin\nsecond\nthird\n" {
		t.Errorf("log: %q", b)
	}
}

// TestNotSame: what was changed, deleted or replaced is refused before anything runs, and
// not if the caller wants it.
func TestNotSame(t *testing.T) {
	c, dir, i := withFiles(t)
	i.Kill()
	i.Wait()
	path := func(name string) string { return filepath.Join(dir, name) }
	keep := func(name string) (restore func()) {
		b, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		st, _ := os.Stat(path(name))
		return func() {
			os.Remove(path(name))
			write(t, path(name), string(b))
			os.Chtimes(path(name), time.Time{}, st.ModTime())
		}
	}
	refused := func(what, want string) {
		t.Helper()
		r, err := monitor.Start(t.Context(), c)
		if err == nil {
			r.Kill()
			t.Errorf("%s: it was started", what)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", what, err, want)
		}
	}
	back := keep("read")
	write(t, path("read"), "one.two.thr.fiv.")
	refused("changed", "/data/read: not as it was: it has been written since")
	write(t, path("read"), "one.two.thr.fou.fiv.")
	refused("longer", "/data/read: not as it was: it had 16 bytes and has 20")
	os.Remove(path("read"))
	refused("deleted", "no such file")
	os.Mkdir(path("read"), 0o755)
	refused("a directory", "a directory is in its place")
	os.Remove(path("read"))
	os.Symlink("write", path("read"))
	refused("a link", "too many levels of symbolic links")
	os.Remove(path("read"))

	c.Reopen = monitor.ReopenClose
	r := pvms.Start(t, c)
	check(t, r, "/read", " read /data/read: bad file descriptor")
	check(t, r, "/map", "first,second,")
	r.Kill()
	r.Wait()

	c.Reopen = monitor.ReopenAny
	refused("deleted", "no such file")
	write(t, path("read"), "another of another size")
	r = pvms.Start(t, c)
	check(t, r, "/read", "of a <nil>")
	r.Kill()
	r.Wait()
	c.Reopen = monitor.ReopenSame
	back() // another inode, with the same content and time
	r = pvms.Start(t, c)
	check(t, r, "/read", "thr. <nil>")
	r.Kill()
	r.Wait()

	volumes := c.Volumes
	c.Volumes = nil
	refused("no volume", "-v "+dir+":/data")
	c.Volumes = append(volumes, volume.Spec{Host: dir, Guest: "/more"})
	refused("a volume more", "cannot get one by being restored")
	c.Volumes = []monitor.Volume{volume.Spec{Host: dir, Guest: "/data", ReadOnly: true}}
	refused("read-only", "/data/write: not as it was: read-only file system")
}

// TestUnlinkedFile: a file without a name cannot be opened again.
func TestUnlinkedFile(t *testing.T) {
	c, dir, i := withFiles(t)
	os.Remove(filepath.Join(dir, "read"))
	os.Rename(filepath.Join(dir, "log"), filepath.Join(dir, "log.1"))
	if err := i.Snapshot(t.Context(), c.Restore, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Kill()
	i.Wait()
	if _, err := monitor.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "deleted while it was open") {
		t.Error(err)
	}
	c.Reopen = monitor.ReopenClose
	r := pvms.Start(t, c)
	check(t, r, "/write?renamed", "<nil> <nil>")
	if b, _ := os.ReadFile(filepath.Join(dir, "log.1")); !strings.HasSuffix(string(b), "renamed\n") {
		t.Errorf("log.1: %q", b)
	}
}

// TestRelock: locks are taken again, and a second pVM of the file, or one beside the original,
// cannot have them.
func TestRelock(t *testing.T) {
	c, dir, i := withFiles(t, "lock")
	if _, err := monitor.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "lock: not as it was: its lock cannot be had") {
		t.Error("beside the original:", err)
	}
	i.Kill()
	i.Wait()
	r := pvms.Start(t, c)
	check(t, r, "/mem", "in memory")
	root, err := volume.Open(c.Volumes[0], 0, volume.IDs{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, _, err := root.Open("lock", uint64(os.O_RDWR), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Flock(2); err == nil {
		t.Error("nobody has the lock of", dir)
	}
	if typ, from, n, err := f.Locked(0, 0, 0); typ != 1 || from != 100 || n != 50 || err != nil {
		t.Errorf("record lock: %d, %d+%d, %v", typ, from, n, err)
	}
	check(t, r, "/close", "<nil><nil><nil><nil><nil>")
	for end := time.Now().Add(20 * time.Second); f.Flock(2) != nil || f.Lock(1, 0, 0) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the lock outlives its file")
		}
	}
}

// TestRestoredUDP: published UDP ports work in a restored pVM.
func TestRestoredUDP(t *testing.T) {
	c := config(t, "udp")
	pvms.Publish(&c)
	c.Publish[0].UDP, c.Publish[0].GuestPort = true, 53
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	answer := func(i *monitor.Instance, want string) {
		t.Helper()
		conn, err := net.Dial("udp", i.Info().Ports[0].Host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		b := make([]byte, 100)
		for end := time.Now().Add(20 * time.Second); ; {
			conn.Write([]byte("hello"))
			conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			n, err := conn.Read(b)
			if err == nil {
				if string(b[:n]) != want {
					t.Errorf("%q, want %q", b[:n], want)
				}
				return
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	answer(i, "1 hello")
	c.Restore = filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), c.Restore, monitor.SnapshotOptions{Compress: true}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		answer(pvms.Start(t, c), "2 hello")
	}
	answer(i, "2 hello")
}
