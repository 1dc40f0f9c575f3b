package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func get(url string) string {
	r, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

func TestDetachedServer(t *testing.T) {
	u := newUser(t)
	port := freePort(t)
	id := strings.TrimSpace(u.ok("run", "-d", "--name", "web", "-p", "127.0.0.1:"+port+":8080", "-m", "64m", probe, "http"))
	if len(id) != 12 {
		t.Fatalf("id %q", id)
	}
	eventually(t, "the server answers", func() bool { return get("http://127.0.0.1:"+port+"/a") == "hello /a" })
	if got := u.ok("ps", "--format", "{{.ID}} {{.Name}} {{.Command}} {{.Ports}} {{.Phase}}"); got != fmt.Sprintf("%s web probe http 127.0.0.1:%s->8080/tcp running\n", id, port) {
		t.Errorf("ps: %q", got)
	}
	if got := u.ok("ps"); !strings.Contains(got, "PVM ID") || !strings.Contains(got, "Up ") || !strings.Contains(got, "probe.img") {
		t.Errorf("ps: %s", got)
	}
	if got := u.ok("ps", "-q"); got != id+"\n" {
		t.Errorf("ps -q: %q", got)
	}
	var stats struct {
		Name        string
		Memory, RSS uint64
		MemoryLimit int64
		Handles     int
		Requests    uint64
	}
	if err := json.Unmarshal([]byte(u.ok("stats", "--no-stream", "--format", "json", "web")), &stats); err != nil {
		t.Fatal(err)
	}
	if stats.Name != "web" || stats.Memory == 0 || stats.RSS == 0 || stats.MemoryLimit != 64<<20 || stats.Requests == 0 {
		t.Errorf("stats: %+v", stats)
	}
	var all []struct {
		ID     string
		Status struct{ Phase string }
		Info   struct {
			Isolation string
			Sandbox   []string
		}
	}
	if err := json.Unmarshal([]byte(u.ok("inspect", id[:6])), &all); err != nil || len(all) != 1 {
		t.Fatal(err)
	}
	if all[0].ID != id || all[0].Status.Phase != "running" || len(all[0].Info.Sandbox) == 0 {
		t.Errorf("inspect: %+v", all[0])
	}
	if got := all[0].Info.Isolation; got != isolation() && isolation() != "auto" {
		t.Errorf("isolation %s, want %s", got, isolation())
	}
	u.fails(125, []string{"run", "-d", "--name", "web", probe}, `"web" is in use by pVM `+id, "noyau rm -f web")
	u.fails(1, []string{"rm", "web"}, "rm -f")
	if got := u.ok("stop", "web"); got != "web\n" {
		t.Errorf("stop: %q", got)
	}
	if got := u.ok("logs", "web"); !strings.Contains(got, "request /a\n") || !strings.HasSuffix(got, "closed\n") {
		t.Errorf("logs: %q", got)
	}
	if got := u.ok("ps", "-a"); !strings.Contains(got, "Exited (0)") {
		t.Errorf("ps -a: %s", got)
	}
	if got := u.ok("ps", "-q"); got != "" {
		t.Errorf("ps -q of none: %q", got)
	}
	u.ok("stop", "web") // again: no error, as docker
	u.fails(1, []string{"kill", "web"}, "is not running")
	u.fails(1, []string{"stats", "--no-stream", "web"}, "is not running")
	u.ok("rm", id)
	u.fails(1, []string{"rm", "web"}, "no such pVM")
	if left, _ := os.ReadDir(u.dir + "/run/noyau"); len(left) != 0 {
		t.Errorf("left in the runtime directory: %v", left)
	}
}

func TestDetachedEnds(t *testing.T) {
	u := newUser(t)
	for _, tt := range []struct {
		name string
		args []string
		end  []string
		code string
	}{
		{"exits", []string{"exit", "7"}, nil, "7"},
		{"panics", []string{"panic"}, nil, "2"},
		{"stopped", []string{"polite"}, []string{"stop"}, "55"},
		{"ignores", []string{"stubborn"}, []string{"stop", "-t", "0"}, "137"},
		{"killed", []string{"polite"}, []string{"kill"}, "137"},
		{"hup", []string{"polite"}, []string{"kill", "-s", "HUP"}, "41"},
	} {
		u.ok(append([]string{"run", "-d", "--name", tt.name, probe}, tt.args...)...)
		if tt.end != nil {
			eventually(t, "ready", func() bool { return u.ok("logs", tt.name) == "ready\n" })
			u.ok(append(tt.end, tt.name)...)
		}
		if got := u.ok("wait", tt.name); got != tt.code+"\n" {
			t.Errorf("%s: exit code %q, want %s", tt.name, got, tt.code)
		}
	}
	if r := u.do("logs", "panics"); !strings.Contains(r.err, "panic: on purpose") || r.out != "" {
		t.Errorf("the trace of a panic: %+v", r)
	}
	u.ok("run", "-d", "--rm", "--name", "gone", probe, "exit", "1")
	eventually(t, "it removes itself", func() bool { return u.do("inspect", "gone").code == 1 })
	u.ok("run", "-d", "--rm", "--name", "gone", probe, "sleep")
	u.ok("rm", "-f", "gone")
	u.ok(append([]string{"rm"}, strings.Fields(u.ok("ps", "-aq"))...)...)
}

func TestLogs(t *testing.T) {
	u := newUser(t)
	u.ok("run", "-d", "--name", "l", probe, "lines", "20000")
	u.ok("wait", "l")
	got := u.ok("logs", "l")
	if strings.Count(got, "\n") != 20000 || !strings.HasPrefix(got, "line 0\nline 1\n") || !strings.HasSuffix(got, "line 19999\n") {
		t.Errorf("%d bytes of log", len(got))
	}
	if got := u.ok("logs", "--tail", "2", "l"); got != "line 19998\nline 19999\n" {
		t.Errorf("--tail 2: %q", got)
	}
	if got := u.ok("logs", "-n", "1", "-t", "l"); !strings.HasSuffix(got, "Z line 19999\n") || !strings.HasPrefix(got, "20") {
		t.Errorf("-t: %q", got)
	}
	u.fails(125, []string{"logs", "--tail", "x", "l"}, "--tail")

	port := freePort(t)
	u.ok("run", "-d", "--name", "f", "-p", "127.0.0.1:"+port+":8080", probe, "http")
	follower, out := u.start(nil, "logs", "-f", "f")
	for i := range 3 {
		eventually(t, "an answer", func() bool { return strings.HasPrefix(get(fmt.Sprintf("http://127.0.0.1:%s/%d", port, i)), "hello") })
		eventually(t, "the line comes", func() bool { return strings.Contains(out.String(), fmt.Sprintf("request /%d\n", i)) })
	}
	u.ok("stop", "f")
	if err := follower.Wait(); err != nil {
		t.Errorf("logs -f ended with %v", err)
	}
	if !strings.HasSuffix(out.String(), "closed\n") {
		t.Errorf("the end is missing: %q", out)
	}
}

// kill -9 of the monitor: the pVM dies with it, and nothing is in the way of
// the next one.
func TestMonitorKilled(t *testing.T) {
	u := newUser(t)
	port := freePort(t)
	args := []string{"run", "-d", "--name", "web", "-p", "127.0.0.1:" + port + ":8080", probe, "http"}
	u.ok(args...)
	eventually(t, "the server answers", func() bool { return get("http://127.0.0.1:"+port+"/") == "hello /" })
	follower, _ := u.start(nil, "logs", "-f", "web")
	var all []struct {
		Status struct {
			PID     int
			Monitor struct{ PID int }
		}
	}
	if err := json.Unmarshal([]byte(u.ok("inspect", "web")), &all); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(all[0].Status.Monitor.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pVM's process is gone", func() bool { return !running(all[0].Status.PID) })
	eventually(t, "ps says dead", func() bool { return strings.Contains(u.ok("ps", "-a"), "Dead") })
	if got := u.ok("ps", "-q"); got != "" {
		t.Errorf("a dead one is listed as running: %s", got)
	}
	if err := follower.Wait(); err != nil {
		t.Errorf("logs -f: %v", err)
	}
	u.ok("stop", "web")
	u.fails(125, args, "(dead)", "noyau rm web")
	u.ok("rm", "web")
	u.ok(args...)
	eventually(t, "the next one answers", func() bool { return get("http://127.0.0.1:"+port+"/") == "hello /" })
}

// running says whether a process exists and is no zombie.
func running(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	s := string(b)
	return !strings.HasPrefix(s[strings.LastIndex(s, ")")+1:], " Z")
}

// The background monitor holds nothing of its maker's: not its output, not what
// a shell may have left open.
func TestDetachHoldsNothing(t *testing.T) {
	u := newUser(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := u.cmd("run", "-d", "--name", "d", probe, "sleep")
	c.Dir = t.TempDir()
	c.ExtraFiles = []*os.File{w, w, w, w, w, w}
	if res := u.finish(c); res.code != 0 { // returns at the end of its output
		t.Fatalf("%+v", res)
	}
	w.Close()
	done := make(chan struct{})
	go func() { io.ReadAll(r); close(done) }()
	eventually(t, "nobody holds the inherited pipe", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	var all []struct {
		Status struct{ Monitor struct{ PID int } }
	}
	json.Unmarshal([]byte(u.ok("inspect", "d")), &all)
	pid := all[0].Status.Monitor.PID
	if sid, err := getsid(pid); err != nil || sid != pid {
		t.Errorf("the monitor %d is in session %d (%v), not its own", pid, sid, err)
	}
	if cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); cwd != "/" {
		t.Errorf("the monitor stands in %s", cwd)
	}
	u.ok("rm", "-f", "d")
}

func getsid(pid int) (int, error) {
	out, err := exec.Command("ps", "-o", "sid=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// Of several at once that want a name or a port, one gets it; the others say
// why not and leave nothing behind.
func TestConcurrent(t *testing.T) {
	u := newUser(t)
	const n = 6
	results := make([]result, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { results[i] = u.do("run", "-d", "--name", "same", probe, "sleep") })
	}
	wg.Wait()
	won := 0
	for _, r := range results {
		if r.code == 0 {
			won++
		} else if r.code != 125 || !strings.Contains(r.err, `"same" is in use`) {
			t.Errorf("%+v", r)
		}
	}
	if won != 1 || strings.Count(u.ok("ps", "-aq"), "\n") != 1 {
		t.Errorf("%d won; ps:\n%s", won, u.ok("ps", "-a"))
	}
	for i := range n {
		wg.Go(func() { results[i] = u.do("rm", "-f", "same") })
	}
	wg.Wait()
	if got := u.ok("ps", "-aq"); got != "" {
		t.Errorf("left after rm -f: %s", got)
	}
}

// An app that cannot be started is an error of run -d, and its name stays free.
func TestDetachFails(t *testing.T) {
	u := newUser(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	u.fails(125, []string{"run", "-d", "--name", "x", "-p", "127.0.0.1:" + port + ":80", probe}, port)
	if got := u.ok("ps", "-aq"); got != "" {
		t.Errorf("left: %q", got)
	}
	u.ok("run", "-d", "--name", "x", probe, "exit", "0")
}
