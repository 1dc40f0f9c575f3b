package fork

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/volume"
	"noyau.dev/test/internal/pvms"
)

var (
	manyClones = flag.Int("fork.clones", 20, "clones of TestManyClones, all alive at once")
	manyCycles = flag.Int("fork.cycles", 10, "snapshots of TestCycles, each of what was restored of the one before")
)

// TestManyClones makes many pVMs of one snapshot: each answers, and no random number, id or
// name is seen twice.
func TestManyClones(t *testing.T) {
	c := config(t, "count", "quietly")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	answer(t, i)
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), path, monitor.SnapshotOptions{Compress: true}); err != nil {
		t.Fatal(err)
	}
	i.Kill()
	i.Wait()
	s, err := snapshot.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	os.Remove(path) // what was unpacked is enough
	c.Snapshot, c.Stdout = s, nil

	clones := make([]*monitor.Instance, *manyClones)
	seen := make(map[string]bool)
	var mu sync.Mutex
	begin := time.Now()
	var work sync.WaitGroup
	next := make(chan int)
	for range 4 {
		work.Go(func() {
			for k := range next {
				c := c
				c.Name, c.Hostname = fmt.Sprint("clone-", k), fmt.Sprint("clone-", k)
				r, err := monitor.Start(t.Context(), c)
				if err != nil {
					t.Error(err)
					continue
				}
				clones[k] = r
				var n, ticks int
				var random, host string
				if _, err := fmt.Sscan(ask(t, r, "/"), &n, &random, &ticks, &host); err != nil || n != 2 || host != c.Hostname {
					t.Errorf("clone %d counts %d, is called %s, %v", k, n, host, err)
				}
				mu.Lock()
				if seen[random] {
					t.Errorf("random number %s was seen before", random)
				}
				seen[random] = true
				mu.Unlock()
			}
		})
	}
	for k := range clones {
		next <- k
	}
	close(next)
	work.Wait()
	took := time.Since(begin)
	var memory uint64
	for _, r := range clones {
		if r == nil {
			continue
		}
		st, err := r.Stats()
		if err != nil {
			t.Error(err)
		}
		memory += st.PrivateDirty
	}
	t.Logf("%d clones in %v, %v and %d kB of private memory each", len(clones), took, took/time.Duration(len(clones)), memory/uint64(len(clones))>>10)
	if len(seen) != len(clones) {
		t.Errorf("%d random numbers of %d clones", len(seen), len(clones))
	}
	for _, r := range clones {
		if r != nil {
			r.Kill()
		}
	}
	for _, r := range clones {
		if r != nil {
			r.Wait()
		}
	}
}

// TestCycles makes a snapshot of what was restored of the one before, again and again. It
// counts on, and neither side keeps anything.
func TestCycles(t *testing.T) {
	c := config(t, "files")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "read"), "one.two.thr.fou.")
	os.Mkdir(filepath.Join(dir, "dir"), 0o755)
	write(t, filepath.Join(dir, "dir", "a"), "")
	c.Volumes = []monitor.Volume{volume.Spec{Host: dir, Guest: "/data"}}
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	path := filepath.Join(t.TempDir(), "snapshot")
	want := "first,"
	var files, goroutines int
	var heap runtime.MemStats
	var rss uint64
	for n := range *manyCycles {
		check(t, i, fmt.Sprint("/write?", n), "<nil> <nil>")
		want += fmt.Sprint(n, ",")
		if err := i.Snapshot(t.Context(), path, monitor.SnapshotOptions{Compress: n%10 == 3}); err != nil {
			t.Fatal(n, err)
		}
		i.Kill()
		i.Wait()
		if n == 4 {
			files, goroutines, heap, rss = descriptors(t, "self"), runtime.NumGoroutine(), memory(), resident(t)
		}
		c.Restore = path
		var err error
		if i, err = monitor.Start(t.Context(), c); err != nil {
			t.Fatal(n, err)
		}
	}
	check(t, i, "/map", want[:min(len(want), 100)])
	st, err := i.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Handles > 8 {
		t.Errorf("%d handles", st.Handles)
	}
	i.Kill()
	i.Wait()
	t.Logf("%d cycles; the last pVM has %d kB of private memory", *manyCycles, st.PrivateDirty>>10)
	list, _ := os.ReadDir(filepath.Dir(path))
	if len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
	if *manyCycles < 6 {
		return
	}
	for end := time.Now().Add(20 * time.Second); descriptors(t, "self") > files+4 || runtime.NumGoroutine() > goroutines+8; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors and %d goroutines; %d and %d before", descriptors(t, "self"), runtime.NumGoroutine(), files, goroutines)
		}
	}
	if h := memory(); h.HeapAlloc > heap.HeapAlloc+2<<20 {
		t.Errorf("%d kB of heap; %d before", h.HeapAlloc>>10, heap.HeapAlloc>>10)
	}
	t.Logf("%d kB resident; %d before", resident(t)>>10, rss>>10)
}

func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

func resident(t *testing.T) uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	var size, pages uint64
	fmt.Sscan(string(b), &size, &pages)
	return pages * 4096
}

// TestAlone: --alone takes the first of a family out of it.
func TestAlone(t *testing.T) {
	c := config(t, "http", "3")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 3, "serving")
	c.Restore = filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), c.Restore, monitor.SnapshotOptions{Alone: true}); err != nil {
		t.Fatal(err)
	}
	i.Kill()
	i.Wait()
	r := pvms.Start(t, c)
	if pid, _, _ := strings.Cut(ask(t, r, "/"), " "); pid != "1" {
		t.Errorf("answer of %s", pid)
	}
	if n := len(r.Members()); n != 1 {
		t.Errorf("%d members", n)
	}
}

// TestFamily: a family that was restored answers as a whole, by one listener.
func TestFamily(t *testing.T) {
	c := config(t, "http", "3")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 3, "serving")
	c.Restore = filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), c.Restore, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	if seen := everyone(t, i, 3); len(seen) != 3 {
		t.Errorf("of the original only %v answer", seen)
	}
	r := pvms.Start(t, c)
	if n := len(r.Members()); n != 3 {
		t.Errorf("%d members", n)
	}
	if seen := everyone(t, r, 3); len(seen) != 3 {
		t.Errorf("only %v answer", seen)
	}
}

// TestFullDisk: whatever does not fit any more, there is an error, no half snapshot, the
// older one stays, and the pVM goes on. It runs in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	const inside = "NOYAU_TEST_FULL_DISK"
	if dir := os.Getenv(inside); dir != "" {
		t.Run("alone", func(t *testing.T) { fullDisk(t, dir, 0) })
		t.Run("family", func(t *testing.T) { fullDisk(t, dir, 2) })
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	b, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, unix.EPERM), strings.Contains(string(b), "--- SKIP"):
		t.Skipf("no mount namespace of its own: %v %s", err, b)
	case err != nil:
		t.Errorf("%v\n%s", err, b)
	}
}

func fullDisk(t *testing.T, dir string, forks int) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skip(err)
	}
	size := func(n int64, flags uintptr) {
		t.Helper()
		err := error(unix.EINVAL)
		// Guests may have what they had begun to write open for a moment more.
		for end := time.Now().Add(time.Minute); err == unix.EINVAL && time.Now().Before(end); time.Sleep(time.Millisecond) {
			err = unix.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%d", n&^4095))
		}
		if err != nil {
			t.Skip(err)
		}
	}
	size(64<<20, 0)
	c := config(t, "count")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	for range forks {
		if _, err := i.Fork(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "s")
	take := func(o monitor.SnapshotOptions) (int64, error) {
		err := i.Snapshot(t.Context(), path, o)
		st, serr := os.Stat(path)
		if serr != nil {
			t.Fatal(serr)
		}
		return st.Size(), err
	}
	n, err := take(monitor.SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	packed, err := take(monitor.SnapshotOptions{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, %d compressed", n, packed)
	failed := 0
	// try wants all or nothing, and nothing for certain if it must fail.
	try := func(room int64, must bool, o monitor.SnapshotOptions) {
		t.Helper()
		size(64<<20, unix.MS_REMOUNT)
		write(t, path, "an older one")
		size(room, unix.MS_REMOUNT)
		_, err := take(o)
		list, _ := os.ReadDir(dir)
		if len(list) != 1 {
			t.Errorf("room for %d of %d bytes, %+v: left are %v", room, n, o, list)
		}
		if err == nil && !must {
			s, err := snapshot.Open(path)
			if err != nil {
				t.Errorf("room for %d of %d bytes, %+v: no error, and %v", room, n, o, err)
				return
			}
			s.Close()
			return
		}
		failed++
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("room for %d of %d bytes, %+v: %v", room, n, o, err)
		}
		if b, _ := os.ReadFile(path); string(b) != "an older one" {
			t.Errorf("room for %d of %d bytes, %+v: the older one is %.20q", room, n, o, b)
		}
		answer(t, i)
	}
	for _, o := range []monitor.SnapshotOptions{{}, {Compress: true}} {
		for _, room := range []int64{8192, n / 2} {
			try(room, true, o)
		}
		// Its size varies a little: somewhere here all fits but the description.
		for room := n - 64<<10; room < n+16<<10; room += 4096 {
			try(room, false, o)
		}
		try(n+packed, false, o)
	}
	t.Logf("%d attempts failed", failed)
	// What has no room to be unpacked is not begun.
	size(64<<20, unix.MS_REMOUNT)
	if _, err := take(monitor.SnapshotOptions{Compress: true}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err == nil {
		c.Restore = filepath.Join(t.TempDir(), "s")
		err = os.WriteFile(c.Restore, b, 0o600)
	}
	os.Remove(path)
	size(1<<20, unix.MS_REMOUNT)
	os.Setenv("XDG_CACHE_HOME", dir)
	if r, err := monitor.Start(t.Context(), c); err == nil {
		r.Kill()
		t.Error("it was unpacked into nothing")
	} else if !strings.Contains(err.Error(), "XDG_CACHE_HOME") {
		t.Error(err)
	}
	i.Kill()
	i.Wait()
}
