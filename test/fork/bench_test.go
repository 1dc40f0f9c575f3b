package fork

import (
	"bufio"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
	"time"
)

// BenchmarkRestore measures from monitor.Start until a line that the app prints right
// where the snapshot was made, and until the end.
func BenchmarkRestore(b *testing.B) {
	for _, mb := range []string{"16", "256"} {
		b.Run(mb+"MB", func(b *testing.B) {
			c := config(b, "template", mb)
			var out *bufio.Reader
			c.Stdout, out = pvms.Pipe(b)
			i := pvms.Start(b, c)
			pvms.Expect(b, out, 1, "ready")
			c.Hostname = "copy"
			c.Restore = filepath.Join(b.TempDir(), "snapshot")
			if err := i.Snapshot(b.Context(), c.Restore, monitor.SnapshotOptions{}); err != nil {
				b.Fatal(err)
			}
			i.Kill()
			i.Wait()
			var took []time.Duration
			for b.Loop() {
				t := time.Now()
				r := pvms.Start(b, c)
				pvms.Expect(b, out, 1, "restored")
				took = append(took, time.Since(t))
				r.Kill()
				r.Wait()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/restored")
		})
	}
}

// TestClones makes many pVMs of one snapshot, all of which answer.
func TestClones(t *testing.T) {
	n := 30
	c := config(t, "count")
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
	seen := map[string]bool{}
	for range n {
		r := pvms.Start(t, c)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for try := 0; ; try++ {
			a, err := client.Get("http://" + r.Info().Ports[0].Host)
			if err != nil && try < 20_000 { // the port listens when the clone has asked for it
				time.Sleep(time.Millisecond)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var count int
			var random string
			fmt.Fscan(a.Body, &count, &random)
			a.Body.Close()
			if count != 1 || seen[random] {
				t.Errorf("a clone counts %d, random %q", count, random)
			}
			seen[random] = true
			break
		}
	}
	if len(seen) != n {
		t.Errorf("%d different numbers of %d clones", len(seen), n)
	}
}
