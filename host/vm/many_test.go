package vm_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"noyau.dev/host/monitor"
)

var many = flag.Int("vm.many", 0, "`number` of virtual machines of one HTTP image that TestMany runs at once, 1000 for the bar")

func median(list []int64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return float64(list[len(list)/2]) / 1e3
}

// available is the memory of this host that is free or can be, bytes: MemAvailable.
func available(tb testing.TB) int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		tb.Skip(err)
	}
	for l := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(l, "MemAvailable:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(s), " kB"), 10, 64)
			return n << 10
		}
	}
	tb.Skip("no MemAvailable in /proc/meminfo")
	return 0
}

// TestMany runs many VMs of one HTTP server in this one process, all answering:
// -vm.many 1000. It prints the time of the starts and the memory that a VM takes,
// all in: the runner, KVM, the kernel and this monitor.
func TestMany(t *testing.T) {
	n := *many
	if n == 0 {
		n = 8
		if testing.Short() {
			t.Skip("-short")
		}
	}
	img := image(t, "web")
	client := &http.Client{Timeout: time.Minute}
	before := available(t)
	begin := time.Now()
	var urls []string
	var starts, launches []int64
	for i := range n {
		tm := new(monitor.Timing)
		tm.Mark("begin")
		_, addrs := startConfig(t, monitor.Config{Image: img, Timing: tm, Name: fmt.Sprint("web", i)}, 8080)
		launches = append(launches, stage(tm, "launched")-stage(tm, "handles and volumes opened"))
		dial(t, addrs[0]).Close()
		urls = append(urls, "http://"+addrs[0])
		// Its first answer belongs to its start.
		answer(t, client, urls[i])
		tm.Mark("answered")
		starts = append(starts, stage(tm, "answered")-stage(tm, "begin"))
	}
	took := time.Since(begin)
	// Each again, while all are there.
	for _, u := range urls {
		answer(t, client, u)
	}
	per := (before - available(t)) / int64(n)
	tenth := max(1, n/10)
	first, last := median(starts[:tenth]), median(starts[n-tenth:])
	t.Logf("launch of the runner: first tenth %.0f µs, last tenth %.0f µs", median(launches[:tenth]), median(launches[n-tenth:]))
	t.Logf("%d VMs: %v to start and answer, one after the other; start to answer: first tenth %.0f µs, last tenth %.0f µs (%.2f×); %.2f MB of memory each, all in",
		n, took.Round(time.Millisecond), first, last, last/first, float64(per)/1e6)
	client.CloseIdleConnections()
}

func answer(t *testing.T, client *http.Client, url string) {
	t.Helper()
	b := fetch(t, func() (*http.Response, error) {
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			return nil, err
		}
		r.Close = true
		return client.Do(r)
	})
	if string(b) != "hello\n" {
		t.Fatalf("%s answered %q", url, b)
	}
}

// TestFiles: answers with bodies of files never stall, on few and on many
// connections that stay open.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	sizes := []int{0, 1, 100, 4095, 4096, 5000, 16 << 10, 70000, 300000}
	for _, n := range sizes {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), make([]byte, n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, addrs := startConfig(t, monitor.Config{Image: image(t, "web"), Volumes: []monitor.Volume{{Host: dir, Guest: "/srv", ReadOnly: true}}}, 8080)
	dial(t, addrs[0]).Close()
	for _, conns := range []int{1, 4, 16} {
		tr := &http.Transport{MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns}
		client := &http.Client{Transport: tr, Timeout: 30 * time.Second}
		slowest := make(chan time.Duration, conns)
		for c := range conns {
			go func() {
				var most time.Duration
				defer func() { slowest <- most }()
				for i := range 400 / conns * 2 {
					n := sizes[(c+i)%len(sizes)]
					begin := time.Now()
					r, err := client.Get(fmt.Sprint("http://", addrs[0], "/files/", n))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.Copy(io.Discard, r.Body)
					r.Body.Close()
					if d := time.Since(begin); d > most {
						most = d
					}
					if err != nil || int(got) != n {
						t.Errorf("file of %d bytes: %d, %v", n, got, err)
						return
					}
				}
			}()
		}
		var most time.Duration
		for range conns {
			most = max(most, <-slowest)
		}
		tr.CloseIdleConnections()
		t.Logf("%d connections: the slowest answer took %v", conns, most)
		// Not a measurement: what is meant are the seconds of a lost wake-up.
		if most > 4*time.Second {
			t.Errorf("%d connections: an answer took %v", conns, most)
		}
	}
}
