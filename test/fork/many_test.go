package fork

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

var (
	manyForks   = flag.Int("fork.forks", 500, "forks of TestLeak and of TestStorm a fifth, one after the other")
	manyMembers = flag.Int("fork.members", 100, "members of TestCrowd, all alive at once")
)

// TestAhead: what was prepared ahead of need takes no place of others.
func TestAhead(t *testing.T) {
	c := config(t, "ahead")
	c.Forks = 4
	done(t, c)
}

func TestTogether(t *testing.T) { done(t, config(t, "together", "30")) }

// driven starts the guest with its standard input and lines of its output.
func driven(t *testing.T, forks int, args ...string) (i *monitor.Instance, in io.Writer, out *bufio.Reader) {
	c := config(t, args...)
	c.Forks = forks
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	c.Stdin = r
	c.Stdout, out = pvms.Pipe(t)
	return pvms.Start(t, c), w, out
}

// TestCrowd: a large family, all of which is there at once; nothing of it is left.
func TestCrowd(t *testing.T) {
	n := *manyMembers
	began := time.Now()
	i, in, out := driven(t, n, "crowd", strconv.Itoa(n))
	pvms.Expect(t, out, 1, "all")
	took := time.Since(began)
	// A child runs, and is heard of by its kin, while its parent still tells the monitor of it.
	got := len(i.Members())
	for end := time.Now().Add(time.Minute); got != n && time.Now().Before(end); got = len(i.Members()) {
		time.Sleep(time.Millisecond)
	}
	if got != n {
		t.Errorf("%d members, want %d", got, n)
	}
	if s, err := i.Stats(); err == nil {
		t.Logf("%d members after %v; private memory of all %d kB, %d kB each", n, took, s.PrivateDirty>>10, s.PrivateDirty>>10/uint64(n))
	}
	pgid := i.Info().Pid
	fmt.Fprintln(in)
	pvms.Expect(t, out, 1, "done")
	if e := i.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
	if left := group(t, pgid); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// holdings are what this process and a pVM's hold.
type holdings struct{ fds, guestFDs, goroutines, heap int }

func holds(t *testing.T, pid int) (h holdings) {
	t.Helper()
	h.fds, h.guestFDs = descriptors(t, "self"), descriptors(t, strconv.Itoa(pid))
	h.goroutines = runtime.NumGoroutine()
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	h.heap = int(m.HeapAlloc)
	return h
}

func descriptors(t testing.TB, pid string) int {
	t.Helper()
	list, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		t.Skip("cannot count descriptors: ", err)
	}
	return len(list)
}

// TestLeak forks one after the other. Neither side may keep anything of it.
func TestLeak(t *testing.T) {
	n := *manyForks
	i, in, out := driven(t, 8, "leak", strconv.Itoa(n))
	pvms.Expect(t, out, 1, "warm")
	before := holds(t, i.Info().Pid)
	fmt.Fprintln(in)
	pvms.Expect(t, out, 1, "done")
	var after holdings
	for range 100 { // the last child's end may still be under way
		after = holds(t, i.Info().Pid)
		if after.fds <= before.fds && after.guestFDs <= before.guestFDs && after.goroutines <= before.goroutines {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("%d forks: before %+v, after %+v", n, before, after)
	if after.fds > before.fds || after.guestFDs > before.guestFDs || after.goroutines > before.goroutines || after.heap > before.heap+256<<10 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	fmt.Fprintln(in)
	if e := i.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
}

// TestStorm forks under load: see the guest. What the parent serves must not suffer.
func TestStorm(t *testing.T) {
	c := config(t, "storm", strconv.Itoa(*manyForks/5))
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	url := "http://" + i.Info().Ports[0].Host
	stop := make(chan bool)
	var wg sync.WaitGroup
	var answers, lost atomic.Int64
	for n := range 4 {
		wg.Go(func() {
			client := &http.Client{Timeout: 30 * time.Second}
			body := bytes.Repeat([]byte{'a' + byte(n)}, 3000+n)
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := client.Post(url, "text/plain", bytes.NewReader(body))
				if err != nil {
					// A copy may have accepted it, and has ended.
					if strings.Contains(err.Error(), "Timeout") {
						t.Error(err)
						return
					}
					lost.Add(1)
					continue
				}
				got, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil {
					lost.Add(1)
					continue
				}
				if !bytes.Equal(got, body) {
					t.Errorf("%d bytes came back wrong", len(got))
				}
				answers.Add(1)
			}
		})
	}
	pvms.Expect(t, out, 1, "done")
	close(stop)
	wg.Wait()
	t.Log(answers.Load(), "answers,", lost.Load(), "connections of copies that ended")
	if answers.Load() == 0 {
		t.Error("no answer")
	}
	if e := i.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
}
