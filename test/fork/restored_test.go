package fork

import (
	"bufio"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

// TestForkOfRestored: what was made of a snapshot forks, and both answer.
func TestForkOfRestored(t *testing.T) {
	c := config(t, "http", "1")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	c.Restore = filepath.Join(t.TempDir(), "snapshot")
	if err := i.Snapshot(t.Context(), c.Restore, monitor.SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Kill()
	i.Wait()
	r := pvms.Start(t, c)
	for range 3 {
		if _, err := r.Fork(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if list := r.Members(); len(list) != 4 {
		t.Errorf("%+v", list)
	}
	seen := everyone(t, r, 4)
	if len(seen) != 4 {
		t.Errorf("only %v answer", seen)
	}
}

// everyone asks until n members have answered, or for some seconds.
func everyone(t *testing.T, i *monitor.Instance, n int) map[int]bool {
	t.Helper()
	seen := map[int]bool{}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	for end := time.Now().Add(20 * time.Second); len(seen) < n && time.Now().Before(end); {
		// Several at once, as the one that is awake takes what it can.
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 8 {
			wg.Go(func() {
				a, err := client.Get("http://" + i.Info().Ports[0].Host)
				if err != nil {
					return // the port listens when the restored pVM has asked for it
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
	return seen
}
