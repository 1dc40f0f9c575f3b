// Package snapshot tests snapshots of real images, under each isolation and from one to
// the other.
package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

func TestMain(m *testing.M) { os.Exit(pvms.Main(m)) }

// config is how the guest is run with these arguments.
func config(t testing.TB, isolation string, args ...string) monitor.Config {
	t.Helper()
	pvms.Need(t, isolation)
	c := pvms.Config(t, isolation, args...)
	c.Env = []string{"A=B"}
	return c
}

// pairs runs f for each two isolations that a snapshot is made and restored under.
func pairs(t *testing.T, f func(t *testing.T, from, to string)) {
	for _, from := range pvms.Names {
		for _, to := range pvms.Names {
			t.Run(from+" to "+to, func(t *testing.T) {
				pvms.Need(t, from)
				pvms.Need(t, to)
				f(t, from, to)
			})
		}
	}
}

// ready runs a guest until it says this.
func ready(t testing.TB, c monitor.Config, word string) *monitor.Instance {
	t.Helper()
	i, out := begin(t, c)
	pvms.Expect(t, out, 1, word)
	return i
}

// save runs a guest until it says word and makes a snapshot of it, which ends it.
func save(t testing.TB, c monitor.Config, word string) string {
	t.Helper()
	i := ready(t, c, word)
	f := filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), f, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Kill()
	i.Wait()
	return f
}

// restore makes a pVM of a snapshot.
func restore(t testing.TB, c monitor.Config, to, file string) (*monitor.Instance, *bufio.Reader) {
	t.Helper()
	pvms.Need(t, to)
	w, out := pvms.Pipe(t)
	c.Stdout = w
	c.Isolation, c.Restore, c.Hostname = to, file, "restored"
	i := pvms.Start(t, c)
	go func() {
		if e := i.Wait(); e.Code != 0 || e.Signal != 0 {
			fmt.Fprintf(w, "%+v\n", e)
		}
		w.Close() // whoever waits for more learns that there is none
	}()
	return i, out
}

// answer asks a server until it listens.
func answer(t testing.TB, i *monitor.Instance) (count int, random string, ticks int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r, err := client.Get("http://" + i.Info().Ports[0].Host)
		if err != nil {
			if time.Now().After(end) {
				t.Fatal(err)
			}
			continue
		}
		defer r.Body.Close()
		if _, err := fmt.Fscan(r.Body, &count, &random, &ticks); err != nil {
			t.Fatal(err)
		}
		return
	}
}

// TestServer: pVMs made of a snapshot go on from it, each for itself.
func TestServer(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := config(t, from, "count")
		pvms.Publish(&c)
		i := ready(t, c, "serving")
		for range 5 {
			answer(t, i)
		}
		file := filepath.Join(t.TempDir(), "snapshot")
		if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
			t.Fatal(err)
		}
		if n, _, _ := answer(t, i); n != 6 {
			t.Errorf("the original counts %d after the snapshot", n)
		}
		seen := map[string]bool{}
		for range 3 {
			r, _ := restore(t, c, to, file)
			n, random, ticks := answer(t, r)
			if n != 6 || seen[random] {
				t.Errorf("a restored pVM counts %d, random %s", n, random)
			}
			seen[random] = true
			for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
				if _, _, later := answer(t, r); later > ticks {
					break
				} else if time.Now().After(end) {
					t.Fatal("timers stand still")
				}
			}
		}
		if n, _, _ := answer(t, i); n != 7 {
			t.Errorf("the original counts %d at last", n)
		}
	})
}

// TestAgain: a restored pVM can be saved, and restored elsewhere, as often as wanted.
func TestAgain(t *testing.T) {
	c := config(t, "process", "count")
	pvms.Publish(&c)
	file := save(t, c, "serving")
	for n, to := range []string{"vm", "vm", "process", "process", "vm", "process"} {
		i, _ := restore(t, c, to, file)
		if k, _, _ := answer(t, i); k != n+1 {
			t.Fatalf("it counts %d, want %d", k, n+1)
		}
		file = filepath.Join(t.TempDir(), "again")
		if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
			t.Fatal(err)
		}
		i.Kill()
		i.Wait()
	}
}

// TestOften: each pVM that is made of one file is as it was when that was written, also when
// it is known from the ones before which pages it will write.
func TestOften(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "heap")
		file := save(t, c, "ready")
		for range 6 {
			i, out := restore(t, c, isolation, file)
			pvms.Expect(t, out, 1, "done")
			time.Sleep(5 * time.Millisecond) // it is learned from
			i.Kill()
			i.Wait()
		}
	})
}

// TestSparse: of memory that holds little, little is written, if it is in more places than a
// snapshot has extents too.
func TestSparse(t *testing.T) {
	for what, args := range map[string][]string{"few": {"sparse"}, "many": {"sparse", "more"}} {
		t.Run(what, func(t *testing.T) {
			pvms.Isolations(t, func(t *testing.T, isolation string) {
				sparse(t, config(t, isolation, args...), isolation)
			})
		})
	}
}

func sparse(t *testing.T, c monitor.Config, isolation string) {
	i := ready(t, c, "ready")
	written := func() (n int) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", i.Info().Pid))
		if err != nil {
			t.Skip("what a process writes cannot be seen here: ", err)
		}
		if _, err := fmt.Sscanf(string(b), "rchar: %d\nwchar: %d", new(int), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := written()
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := (written() - before) >> 20; n > 40 { // 5 or 16 MB hold something
		t.Errorf("%d MB were written", n)
	}
	i.Kill()
	i.Wait()
	_, out := restore(t, c, isolation, file)
	pvms.Expect(t, out, 1, "done")
}

// TestFileTooLarge: a file that may not become as large as the snapshot is an error, and the
// pVM goes on. It may be saved elsewhere afterwards.
func TestFileTooLarge(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "count")
		pvms.Publish(&c)
		i := ready(t, c, "serving")
		var old unix.Rlimit
		if err := unix.Prlimit(i.Info().Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 256 << 10, Max: unix.RLIM_INFINITY}, &old); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		dir := t.TempDir()
		if err := i.Snapshot(ctx, filepath.Join(dir, "snapshot"), monitor.SnapshotOptions{}); !errors.Is(err, unix.EFBIG) {
			t.Fatal("the snapshot:", err)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
			t.Errorf("files %v, %v", list, err)
		}
		answer(t, i)
		if err := unix.Prlimit(i.Info().Pid, unix.RLIMIT_FSIZE, &old, nil); err != nil {
			t.Fatal(err)
		}
		if err := i.Snapshot(ctx, filepath.Join(dir, "snapshot"), monitor.SnapshotOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestImageChanged: while another image has the name of the one that runs there is no snapshot,
// since it could not be restored; with the same one there is, if it is another file too.
func TestImageChanged(t *testing.T) {
	for _, forks := range []int{0, 4} {
		pvms.Isolations(t, func(t *testing.T, isolation string) {
			c := config(t, isolation, "count")
			c.Forks = forks
			pvms.Publish(&c)
			b, err := os.ReadFile(c.Image)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			c.Image = filepath.Join(dir, "app.img")
			build := func(b []byte) {
				t.Helper()
				fresh := filepath.Join(dir, "fresh")
				if err := os.WriteFile(fresh, b, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(fresh, c.Image); err != nil {
					t.Fatal(err)
				}
			}
			build(b)
			i := ready(t, c, "serving")
			file := filepath.Join(dir, "snapshot")
			build(append([]byte("x"), b...))
			if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err == nil || !strings.Contains(err.Error(), "is not the image that the pVM runs") {
				t.Error("another image:", err)
			}
			os.Remove(c.Image)
			if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); !errors.Is(err, os.ErrNotExist) {
				t.Error("no image:", err)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("there is a snapshot")
			}
			build(b)
			if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
				t.Fatal("the same image:", err)
			}
			r, _ := restore(t, c, isolation, file)
			answer(t, r)
		})
	}
}

// TestGuests runs what guests check themselves.
func TestGuests(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		for _, g := range []struct {
			name string
			args []string
			want string
		}{
			{"args", []string{"one", "two words"}, "guest args one two wordsB"},
			{"heap", nil, "done"},
			{"fault", nil, "done"},
		} {
			t.Run(g.name, func(t *testing.T) {
				c := config(t, from, append([]string{g.name}, g.args...)...)
				c.Arg0 = "guest"
				_, out := restore(t, c, to, save(t, c, "ready"))
				pvms.Expect(t, out, 1, g.want)
			})
		}
	})
}

// TestConnection: a connection of before fails at once, a new one does not.
func TestConnection(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := config(t, from, "connection")
		pvms.Publish(&c)
		i := ready(t, c, "listening")
		echo := func(i *monitor.Instance) net.Conn {
			var d net.Conn
			var err error
			for range 5000 {
				if d, err = net.Dial("tcp", i.Info().Ports[0].Host); err == nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 5)
			d.Write([]byte("hello"))
			if _, err := io.ReadFull(d, b); err != nil || string(b) != "hello" {
				t.Fatalf("%q, %v", b, err)
			}
			return d
		}
		d := echo(i)
		defer d.Close()
		file := filepath.Join(t.TempDir(), "snapshot")
		if err := i.Snapshot(t.Context(), file, monitor.SnapshotOptions{}); err != nil {
			t.Fatal(err)
		}
		i.Kill()
		i.Wait()
		r, out := restore(t, c, to, file)
		line, err := out.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "read: true") {
			t.Fatalf("%q, %v", line, err)
		}
		n := echo(r)
		n.Close()
		pvms.Expect(t, out, 1, "done")
	})
}
