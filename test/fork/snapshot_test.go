package fork

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

func answer(t testing.TB, i *monitor.Instance) (count int, random string, ticks int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + i.Info().Ports[0].Host)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(b), &count, &random, &ticks); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return
}

// TestSnapshot: pVMs made of a snapshot go on from it, each for itself, and the one that
// it was made of goes on as well.
func TestSnapshot(t *testing.T) {
	c := config(t, "count")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	for range 5 {
		answer(t, i)
	}
	f := filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), f, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := answer(t, i); n != 6 {
		t.Errorf("the original counts %d after the snapshot", n)
	}
	c.Restore = f
	seen := map[string]bool{}
	for range 5 {
		r := pvms.Start(t, c)
		n, random, ticks := 0, "", 0
		for try := 0; ; try++ {
			// The port listens when the restored pVM has asked for it.
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			if a, err := client.Get("http://" + r.Info().Ports[0].Host); err == nil {
				a.Body.Close()
				break
			} else if try == 20_000 {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		n, random, ticks = answer(t, r)
		if n != 7 || seen[random] {
			t.Errorf("a restored pVM counts %d, random %s", n, random)
		}
		seen[random] = true
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if _, _, later := answer(t, r); later > ticks {
				break
			} else if time.Now().After(end) {
				t.Fatal("timers stand still")
			}
		}
		r.Kill()
		r.Wait()
	}
	if n, _, _ := answer(t, i); n != 7 {
		t.Errorf("the original counts %d at last", n)
	}
}

// TestDamagedSnapshot: what is not whole is refused, and nothing of it runs.
func TestDamagedSnapshot(t *testing.T) {
	c := config(t, "count")
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	if err := i.Snapshot(t.Context(), whole, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Kill()
	good, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"a bit":       func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"the header":  func(b []byte) []byte { b[0]++; return b },
		"cut":         func(b []byte) []byte { return b[:len(b)/2] },
		"end cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"empty":       func(b []byte) []byte { return nil },
		"description": func(b []byte) []byte { return bytes.Replace(b, []byte(`"Env":`), []byte(`"Enw":`), 1) },
		"image":       func(b []byte) []byte { return bytes.Replace(b, []byte(`"ImageSum":"`), []byte(`"ImageSum":"0`), 1) },
	} {
		file := filepath.Join(dir, "damaged")
		if err := os.WriteFile(file, change(bytes.Clone(good)), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Restore = file
		if r, err := monitor.Start(t.Context(), c); err == nil {
			r.Kill()
			t.Errorf("%s: it was started", name)
		} else {
			t.Log(name+":", err)
		}
	}
	if err := i.Snapshot(t.Context(), filepath.Join(dir, "late"), monitor.SnapshotOptions{}); err == nil {
		t.Error("a snapshot of a pVM that has ended")
	}
	list, _ := os.ReadDir(dir)
	if len(list) != 2 {
		t.Errorf("left behind: %v", list)
	}
}
