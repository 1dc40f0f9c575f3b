// Package snapshot tests snapshots of real images, under each isolation and from one to
// the other.
package snapshot

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"noyau.dev/host/build"
	"noyau.dev/host/monitor"
	"noyau.dev/host/policy"
	"noyau.dev/host/vm"
)

// TestMain builds the runner of virtual machines.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "noyau-runner-")
	if err != nil {
		panic(err)
	}
	os.Chmod(dir, 0o755)
	cmd := exec.Command("go", "build", "-o", dir, "noyau.dev/host/vm/noyau-vm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the runner: %v\n%s", err, out)
	} else {
		vm.RunnerPath = filepath.Join(dir, vm.RunnerName)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var img = sync.OnceValues(func() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	r, err := build.Build(context.Background(), build.Options{Package: "./guest", Dir: wd, Stderr: os.Stderr})
	return r.Path, err
})

// config is how the guest is run with these arguments.
func config(t testing.TB, isolation string, args ...string) monitor.Config {
	t.Helper()
	path, err := img()
	if err != nil {
		t.Skip("no image can be built here: ", err)
	}
	return monitor.Config{Image: path, Args: args, Env: []string{"A=B"}, Isolation: isolation, Stderr: os.Stderr}
}

// pairs runs f for each isolation that a snapshot is made and restored under.
func pairs(t *testing.T, f func(t *testing.T, from, to string)) {
	for _, from := range []string{"process", "vm"} {
		for _, to := range []string{"process", "vm"} {
			t.Run(from+" to "+to, func(t *testing.T) { f(t, from, to) })
		}
	}
}

func start(t testing.TB, c monitor.Config) *monitor.Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	i, err := monitor.Start(ctx, c)
	if err != nil {
		cancel()
		if c.Isolation == "vm" && strings.Contains(err.Error(), "isolation vm cannot") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Kill(); i.Wait(); cancel() })
	return i
}

// pipe has room for what nobody reads.
func pipe(t testing.TB) (io.Writer, *bufio.Reader) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	return w, bufio.NewReader(r)
}

func expect(t testing.TB, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); err != nil || strings.TrimSuffix(got, "\n") != want {
		t.Fatalf("the guest says %q, %v; want %q", got, err, want)
	}
}

// save runs a guest until it says ready and makes a snapshot of it, which ends it.
func save(t testing.TB, c monitor.Config, ready string) string {
	t.Helper()
	var out *bufio.Reader
	c.Stdout, out = pipe(t)
	i := start(t, c)
	expect(t, out, ready)
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
	var out *bufio.Reader
	c.Stdout, out = pipe(t)
	w := c.Stdout.(*os.File)
	c.Isolation, c.Restore, c.Hostname = to, file, "restored"
	i := start(t, c)
	go func() {
		if e := i.Wait(); e.Code != 0 || e.Signal != 0 {
			fmt.Fprintf(w, "%+v\n", e)
		}
		w.Close() // whoever waits for more learns that there is none
	}()
	return i, out
}

func publish(c *monitor.Config) {
	p, err := policy.ParsePublish("127.0.0.1:0:80")
	if err != nil {
		panic(err)
	}
	c.Publish = append(c.Publish, p)
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
		publish(&c)
		var out *bufio.Reader
		c.Stdout, out = pipe(t)
		i := start(t, c)
		expect(t, out, "serving")
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
	publish(&c)
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
				expect(t, out, g.want)
			})
		}
	})
}

// TestConnection: a connection of before fails at once, a new one does not.
func TestConnection(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		c := config(t, from, "connection")
		publish(&c)
		var out *bufio.Reader
		c.Stdout, out = pipe(t)
		i := start(t, c)
		expect(t, out, "listening")
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
		expect(t, out, "done")
	})
}
