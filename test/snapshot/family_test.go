package snapshot

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/monitor"
	"noyau.dev/host/snapshot"
	"noyau.dev/host/volume"
	"noyau.dev/test/internal/pvms"
)

var cycles = flag.Int("snapshot.cycles", 5, "snapshots of a family, each of what was restored of the one before")

// familyConfig is that of a guest that forks or starts itself.
func familyConfig(t testing.TB, isolation string, args ...string) monitor.Config {
	c := config(t, isolation, args...)
	c.Forks = 16
	c.Exec = []monitor.Exec{{Name: monitor.ExecSelf}}
	c.Env = []string{"PATH=/bin"}
	return c
}

// begin starts a pVM; its output ends when it does.
func begin(t testing.TB, c monitor.Config) (*monitor.Instance, *bufio.Reader) {
	t.Helper()
	w, out := pvms.Pipe(t)
	c.Stdout = w
	i := pvms.Start(t, c)
	go func() {
		i.Wait()
		w.Close()
	}()
	return i, out
}

// saveOn makes a snapshot of a guest that says ready, tells the original that one was made, and
// sees it to its end: a snapshot changes nothing for it.
func saveOn(t testing.TB, c monitor.Config) string {
	t.Helper()
	i, out := begin(t, c)
	pvms.Expect(t, out, 1, "ready")
	f := filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), f, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := i.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	pvms.Expect(t, out, 1, "done")
	if e := i.Wait(); e.Code != 0 {
		t.Fatalf("the original: %+v", e)
	}
	return f
}

// TestFamilies: families go on where they were, with all that connects their members; so do
// the originals.
func TestFamilies(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		for _, g := range []string{"traffic", "tree", "programs", "names", "post", "busy"} {
			t.Run(g, func(t *testing.T) {
				c := familyConfig(t, from, g)
				file := saveOn(t, c)
				for range 2 {
					_, out := restore(t, c, to, file)
					pvms.Expect(t, out, 1, "done")
				}
			})
		}
		t.Run("files", func(t *testing.T) {
			c := familyConfig(t, from, "files", "/data/f")
			dir := t.TempDir()
			c.Volumes = []volume.Spec{{Host: dir, Guest: "/data"}}
			i, out := begin(t, c)
			pvms.Expect(t, out, 1, "ready")
			file := filepath.Join(t.TempDir(), "snapshot")
			if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
				t.Fatal(err)
			}
			i.Kill()
			i.Wait()
			_, out = restore(t, c, to, file)
			pvms.Expect(t, out, 1, "done")
		})
	})
}

// answers asks until n members have answered.
func answers(t testing.TB, i *monitor.Instance, n int) {
	t.Helper()
	seen := map[int]bool{}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	var mu sync.Mutex
	for end := time.Now().Add(time.Minute); len(seen) < n; {
		if time.Now().After(end) {
			t.Fatalf("only %v answer, want %d", seen, n)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				a, err := client.Get("http://" + i.Info().Ports[0].Host)
				if err != nil {
					return // the port listens when a restored member has asked for it
				}
				defer a.Body.Close()
				var pid int
				if _, err := fmt.Fscan(a.Body, &pid); err == nil {
					mu.Lock()
					seen[pid] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
}

// TestPrefork: all workers of a server answer, of the original and of two families at once.
// What they have in common is in the file once.
func TestPrefork(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		const mb = 16
		c := familyConfig(t, from, "prefork", "4", fmt.Sprint(mb))
		pvms.Publish(&c)
		i, out := begin(t, c)
		pvms.Expect(t, out, 4, "serving")
		answers(t, i, 4)
		file := filepath.Join(t.TempDir(), "snapshot")
		if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d MiB, of members that have %d", st.Size()>>20, mapped(t, file)>>20)
		if st.Size() > 2*mb<<20 {
			t.Errorf("the file has %d MiB: what four members have in common is in it more than once", st.Size()>>20)
		}
		answers(t, i, 4)
		var all []*monitor.Instance
		for range 2 {
			r, _ := restore(t, c, to, file)
			all = append(all, r)
		}
		for _, r := range all {
			if n := len(r.Members()); n != 4 {
				t.Errorf("%d members", n)
			}
			answers(t, r, 4)
		}
		answers(t, i, 4)
	})
}

// mapped is how many bytes of a file its members map, all together.
func mapped(t *testing.T, file string) (n uint64) {
	t.Helper()
	s, err := snapshot.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	b := make([]byte, abi.SnapData)
	for i, h := range s.Headers {
		if _, err := data.ReadAt(b, s.Family.Members[i].At); err != nil {
			t.Fatal(err)
		}
		for k := range int(h.Extents) {
			n += abi.SnapExtentAt(b, k).Len
		}
	}
	return n
}

// TestForkMeanwhile: members that are forked and end while the order to stop is given are in
// the snapshot, or are not; nobody waits for ever.
func TestForkMeanwhile(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := familyConfig(t, from, "storm")
		i, out := begin(t, c)
		pvms.Expect(t, out, 1, "ready")
		for n := range 5 {
			file := filepath.Join(t.TempDir(), "snapshot")
			var err error
			for range 20 { // a child may end just while it is written
				if err = i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err == nil || !strings.Contains(err.Error(), "has ended") {
					break
				}
			}
			if err != nil {
				t.Fatal(n, err)
			}
			_, out := restore(t, c, to, file)
			pvms.Expect(t, out, 1, "done")
		}
		i.Signal(unix.SIGUSR1)
		pvms.Expect(t, out, 1, "done")
	})
}

// members are those of a family, when the monitor knows of n: a fork runs before it does.
func members(t *testing.T, i *monitor.Instance, n int) []monitor.Member {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if list := i.Members(); len(list) == n {
			return list
		}
		if time.Now().After(end) {
			t.Fatalf("there are %+v, want %d", i.Members(), n)
		}
	}
}

// TestMemberKilled: a member that is killed while a snapshot is made is not in it, or there
// is none; the others go on.
func TestMemberKilled(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := familyConfig(t, isolation, "idle", "6")
		i, out := begin(t, c)
		pvms.Expect(t, out, 1, "ready")
		dir := t.TempDir()
		made := 0
		for _, m := range members(t, i, 6)[1:] {
			done := make(chan error, 1)
			go func() {
				done <- i.Snapshot(t.Context(), filepath.Join(dir, fmt.Sprint(m.PID)), monitor.SnapshotOptions{})
			}()
			time.Sleep(time.Duration(m.PID) * time.Millisecond)
			if err := unix.Kill(m.Pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err == nil {
				made++
			} else if !strings.Contains(err.Error(), "ended") {
				t.Error(err)
			}
		}
		list, _ := os.ReadDir(dir)
		if len(list) != made {
			t.Errorf("%d snapshots were made, there are %v", made, list)
		}
		for _, f := range list {
			c.Isolation, c.Restore = isolation, filepath.Join(dir, f.Name())
			pvms.Start(t, c)
		}
		if err := i.Snapshot(t.Context(), filepath.Join(dir, "last"), monitor.SnapshotOptions{}); err != nil {
			t.Error(err)
		}
		i.Signal(unix.SIGUSR1)
		pvms.Expect(t, out, 1, "done")
	})
}

// TestNotStopping: a member that does not stop, as it is paused, makes a snapshot fail in a
// bounded time, and nothing is left of it; the family goes on.
func TestNotStopping(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := familyConfig(t, isolation, "idle", "3")
		i, out := begin(t, c)
		pvms.Expect(t, out, 1, "ready")
		m := members(t, i, 3)[1]
		if err := unix.Kill(m.Pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := i.Snapshot(ctx, filepath.Join(dir, "s"), monitor.SnapshotOptions{}); err == nil {
			t.Error("a snapshot of a member that stands still")
		}
		if list, _ := os.ReadDir(dir); len(list) != 0 {
			t.Errorf("left behind: %v", list)
		}
		unix.Kill(m.Pid, unix.SIGCONT)
		if err := i.Snapshot(t.Context(), filepath.Join(dir, "s"), monitor.SnapshotOptions{}); err != nil {
			t.Error(err)
		}
		i.Signal(unix.SIGUSR1)
		pvms.Expect(t, out, 1, "done")
	})
}

// TestFamilyCycles: what was restored is saved and restored again, as often as wanted, from
// one isolation to the other; neither the file nor what the monitor holds grows.
func TestFamilyCycles(t *testing.T) {
	for _, to := range pvms.Names {
		pvms.Need(t, to)
	}
	c := familyConfig(t, "process", "traffic", "200")
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t) // of all of them
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "ready")
	dir := t.TempDir()
	var sizes []int64
	before := 0
	for n := range *cycles {
		file := filepath.Join(dir, fmt.Sprint(n%2))
		if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
			t.Fatal(n, err)
		}
		i.Kill()
		i.Wait()
		st, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, st.Size()>>20)
		c.Restore, c.Isolation = file, pvms.Names[n%2]
		c.Hostname = "" // as before: it goes on with its traffic
		i = pvms.Start(t, c)
		if n == 1 {
			before = descriptors(t)
		}
	}
	t.Log("MiB:", sizes)
	if now := descriptors(t); now > before+16 {
		t.Errorf("%d descriptors are open, %d after the first", now, before)
	}
	i.Signal(unix.SIGUSR1)
	pvms.Expect(t, out, 1, "done")
	if e := i.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
}

func descriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestFamilyRefused: what cannot become of a family's file is refused, and says what to do.
func TestFamilyRefused(t *testing.T) {
	c := familyConfig(t, "process", "idle", "3")
	file := save(t, c, "ready")
	try := func(want string, change func(c *monitor.Config)) {
		t.Helper()
		c := c
		c.Restore = file
		change(&c)
		if i, err := monitor.Start(t.Context(), c); err == nil {
			i.Kill()
			i.Wait()
			t.Errorf("%s: it was started", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	try("--fork 3", func(c *monitor.Config) { c.Forks = 2 })
	try("several members", func(c *monitor.Config) { c.Forks, c.Exec = 0, nil })
	c.Restore = file
	if tmpl, err := monitor.NewTemplate(c, 1); err == nil || !strings.Contains(err.Error(), "family") {
		t.Errorf("a template: %v", err)
		if err == nil {
			tmpl.Close()
		}
	}
	s, err := snapshot.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n := len(s.Family.Members); n != 3 {
		t.Errorf("%d members", n)
	}
}
