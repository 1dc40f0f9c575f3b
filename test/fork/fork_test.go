// Package fork tests families of pVMs with real images.
package fork

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/volume"
	"noyau.dev/test/internal/pvms"
)

func done(t testing.TB, c monitor.Config) {
	t.Helper()
	if out, e := pvms.Run(t, c); e.Code != 0 || out != "done\n" {
		t.Fatalf("%q, %+v", out, e)
	}
}

func TestIDs(t *testing.T)        { done(t, config(t, "ids")) }
func TestSignals(t *testing.T)    { done(t, config(t, "signals")) }
func TestGoroutines(t *testing.T) { done(t, config(t, "goroutines")) }

// TestAtOnce: EAGAIN is what a full family says, not one whose goroutines fork all at once.
func TestAtOnce(t *testing.T) {
	c := config(t, "at-once")
	c.Forks = 400
	done(t, c)
}

func TestGroups(t *testing.T)    { done(t, config(t, "groups")) }
func TestIPC(t *testing.T)       { done(t, config(t, "ipc")) }
func TestIPCFiles(t *testing.T)  { done(t, config(t, "pairs")) }
func TestIPCKilled(t *testing.T) { done(t, config(t, "killed", "25")) }
func TestIPCLocked(t *testing.T) { done(t, config(t, "locked")) }
func TestIPCForged(t *testing.T) { done(t, config(t, "forged")) }
func TestIPCLittle(t *testing.T) { done(t, config(t, "little")) }
func TestIPCRung(t *testing.T)   { done(t, config(t, "rung")) }
func TestIPCMany(t *testing.T)   { done(t, config(t, "many")) }

// TestIPCIdle: members that wait for each other sleep, and nothing wakes them.
func TestIPCIdle(t *testing.T) {
	c := config(t, "idle-pairs")
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 2, "ready")
	switches := func() (list []string) {
		for _, m := range i.Members() {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.Pid))
			if err != nil {
				t.Fatal(err)
			}
			for l := range strings.Lines(string(b)) {
				if strings.Contains(l, "ctxt_switches") {
					list = append(list, l)
				}
			}
		}
		return list
	}
	var before, after []string
	for range 50 { // until what began before is over
		before = switches()
		time.Sleep(200 * time.Millisecond)
		if after = switches(); slices.Equal(before, after) && len(after) == 4 {
			return
		}
	}
	t.Errorf("they do not rest: %q, %q", before, after)
}

// TestIPCOneProcessor: members that wait for each other by turns on one processor give way to each other,
// and hardly sleep. Under vm, where each would be an exit as it is now, they sleep.
func TestIPCOneProcessor(t *testing.T) {
	if isolation() == "vm" {
		t.Skip("under vm members do not give way")
	}
	const rounds = 3000
	for range 20 {
		p := pinned(t, rounds)
		slept, ran, begin := p.sum(t, "status", sleeps), p.sum(t, "schedstat", runtimeOf), time.Now()
		p.play(t)
		took := time.Since(begin)
		slept, ran = p.sum(t, "status", sleeps)-slept, p.sum(t, "schedstat", runtimeOf)-ran
		p.Kill()
		switch alone := float64(ran) > 0.9*float64(took); {
		case slept < rounds/4:
			return
		case alone:
			t.Fatalf("two members slept %d times in %d rounds", slept, rounds)
		}
	}
	t.Skip("others use the processor all the time, or this kernel does not say how long threads run")
}

// TestIPCNeighbour: beside somebody who does not give the processor back they do sleep. If they
// gave way he would have it for a slice of time at each turn.
func TestIPCNeighbour(t *testing.T) {
	p := pinned(t, 3000)
	stop, id := occupy(t, &p.cpu)
	defer stop()
	theirs, his := p.sum(t, "schedstat", runtimeOf), read(t, os.Getpid(), id, "schedstat", runtimeOf)
	p.play(t)
	theirs, his = p.sum(t, "schedstat", runtimeOf)-theirs, read(t, os.Getpid(), id, "schedstat", runtimeOf)-his
	if theirs == 0 {
		t.Skip("this kernel does not say how long threads run")
	}
	if his > 10*theirs {
		t.Errorf("he ran %d times as long as they", his/theirs)
	}
}

// pinnedPair are two members on one processor that are about to play by turns.
type pinnedPair struct {
	*monitor.Instance
	cpu   unix.CPUSet
	order *os.File
	out   *bufio.Reader
}

func pinned(t *testing.T, rounds int) *pinnedPair {
	c, p := config(t, "turns", strconv.Itoa(rounds)), new(pinnedPair)
	in, order, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); order.Close() })
	c.Stdin, p.order = in, order
	c.Stdout, p.out = pvms.Pipe(t)
	p.Instance = pvms.Start(t, c)
	pvms.Expect(t, p.out, 1, "ready")
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !all.IsSet(cpu) {
		cpu++
	}
	p.cpu.Set(cpu)
	p.threads(t, func(_, id int) {
		if err := unix.SchedSetaffinity(id, &p.cpu); err != nil {
			t.Fatal(err)
		}
	})
	return p
}

// play returns when all rounds are over. The members stay.
func (p *pinnedPair) play(t *testing.T) {
	p.order.WriteString("go\n")
	pvms.Expect(t, p.out, 1, "done")
}

// threads calls f for those of all members.
func (p *pinnedPair) threads(t *testing.T, f func(pid, id int)) {
	for _, m := range p.Members() {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", m.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range tasks {
			id, err := strconv.Atoi(e.Name())
			if err != nil {
				t.Fatal(err)
			}
			f(m.Pid, id)
		}
	}
}

// sum is that of what a file of all their threads says.
func (p *pinnedPair) sum(t *testing.T, file string, number *regexp.Regexp) (n int) {
	p.threads(t, func(pid, id int) { n += read(t, pid, id, file, number) })
	return n
}

var (
	sleeps    = regexp.MustCompile(`(?m)^voluntary_ctxt_switches:\s*(\d+)`)
	runtimeOf = regexp.MustCompile(`^(\d+)`) // ns
)

// read returns a number in a file that the kernel has of a thread.
func read(t *testing.T, pid, id int, file string, number *regexp.Regexp) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/%s", pid, id, file))
	if err != nil {
		t.Fatal(err)
	}
	m := number.FindSubmatch(b)
	if m == nil {
		t.Fatalf("no %v in %q", number, b)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// occupy has a thread use a processor until stop.
func occupy(t *testing.T, cpu *unix.CPUSet) (stop func(), id int) {
	var stopped atomic.Bool
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with it
		id = unix.Gettid()
		ready <- unix.SchedSetaffinity(0, cpu)
		for !stopped.Load() {
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	return func() { stopped.Store(true) }, id
}

func TestDeadlock(t *testing.T) {
	c := config(t, "deadlock")
	var e bytes.Buffer
	c.Stderr = &e
	done(t, c)
	if !strings.Contains(e.String(), "all goroutines are asleep") {
		t.Error(e.String())
	}
}

func TestCrash(t *testing.T) {
	c := config(t, "crash")
	c.Stderr = nil
	if out, e := pvms.Run(t, c); e.Code != 0 || out != "done 2 <nil>\n" {
		t.Fatalf("%q, %+v", out, e)
	}
}

func TestKilled(t *testing.T) {
	c := config(t, "dead")
	c.Stderr = nil
	done(t, c)
}

func TestFile(t *testing.T) {
	c := config(t, "file", "/data/f")
	c.Volumes = []monitor.Volume{volume.Spec{Host: t.TempDir(), Guest: "/data"}}
	done(t, c)
}

func TestForbidden(t *testing.T) {
	c := config(t, "loop", "1")
	c.Forks = 0
	var e bytes.Buffer
	c.Stderr = &e
	if _, exit := pvms.Run(t, c); exit.Code != 99 || !strings.Contains(e.String(), "not permitted") {
		t.Fatalf("%q, %+v", e.String(), exit)
	}
}

// TestOrphan: the first's exit code counts, and the output of all arrives.
func TestOrphan(t *testing.T) {
	if out, e := pvms.Run(t, config(t, "orphan")); e.Code != 5 || out != "child's last word\n" {
		t.Fatalf("%q, %+v", out, e)
	}
}

func TestRandom(t *testing.T) {
	out, e := pvms.Run(t, config(t, "random", "50"))
	seen := map[string]bool{}
	for l := range strings.Lines(out) {
		seen[l] = true
	}
	if e.Code != 0 || len(seen) != 2*51 {
		t.Errorf("%d numbers are different, want %d; %+v", len(seen), 2*51, e)
	}
}

func TestListener(t *testing.T) {
	c := config(t, "listen")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "ready")
	for _, want := range []string{"child 2\n", "parent 1\n"} {
		conn, err := net.Dial("tcp", i.Info().Ports[0].Host)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(conn); string(b) != want {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
		conn.Close()
	}
	if e := i.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
}

func TestConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := config(t, "connection", "10.0.2.2:"+port)
	c.Net.HostLoopback = true
	done(t, c)
}

// TestPrefork loads a server of several processes and forks more while it serves.
func TestPrefork(t *testing.T) {
	c := config(t, "http", "4")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 4, "serving")
	url := "http://" + i.Info().Ports[0].Host
	stop := make(chan bool)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 8 {
		wg.Go(func() {
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r, err := client.Get(url)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(r.Body)
				r.Body.Close()
				pid, _, ok := strings.Cut(string(b), " ")
				if err != nil || !ok {
					t.Errorf("%q, %v", b, err)
					return
				}
				mu.Lock()
				seen[pid]++
				mu.Unlock()
				if n%20 == 19 {
					tr.CloseIdleConnections()
				}
			}
		})
	}
	for range 10 {
		r, err := http.Get(url + "/fork")
		if err != nil {
			t.Error(err)
			break
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if !strings.HasSuffix(string(b), "<nil>\n") {
			t.Errorf("fork: %q", b)
		}
		time.Sleep(20 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	t.Log("answers by process id:", seen)
	if len(seen) < 2 {
		t.Errorf("only %d of the family have answered", len(seen))
	}
}

// TestBomb: what forks without end meets the limit of its family, and dies with one kill.
func TestBomb(t *testing.T) {
	c := config(t, "bomb")
	c.Forks = 20
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 20, "limit")
	pgid := i.Info().Pid
	if n := len(group(t, pgid)); n != 20 {
		t.Errorf("%d processes, want 20", n)
	}
	i.Kill()
	if e := i.Wait(); e.Code != 128+9 {
		t.Errorf("%+v", e)
	}
	if left := group(t, pgid); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// group lists the processes of a process group, zombies included.
func group(t testing.TB, pgid int) (pids []int) {
	list, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if f[2] == strconv.Itoa(pgid) {
			var pid int
			fmt.Sscan(strings.TrimPrefix(name, "/proc/"), &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestForkFromOutside: a copy of a server that knows nothing of it answers too.
func TestForkFromOutside(t *testing.T) {
	c := config(t, "http", "1")
	c.Forks = 2
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "serving")
	if pid, err := i.Fork(t.Context()); pid != 2 || err != nil {
		t.Fatal(pid, err)
	}
	if _, err := i.Fork(t.Context()); err == nil {
		t.Error("a third of two")
	}
	if list := i.Members(); len(list) != 2 || list[1].Parent != 1 {
		t.Errorf("%+v", list)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func() (string, error) {
		r, err := client.Get("http://" + i.Info().Ports[0].Host)
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		pid, _, _ := strings.Cut(string(b), " ")
		return pid, err
	}
	// Without the first only the copy is there to answer.
	first, _ := os.FindProcess(i.Info().Pid)
	first.Kill()
	for len(i.Members()) == 2 {
		time.Sleep(time.Millisecond)
	}
	if pid, err := get(); pid != "2" || err != nil {
		t.Errorf("answer of %q, %v", pid, err)
	}
}

// TestPause: nothing of the family runs until it goes on.
func TestPause(t *testing.T) {
	c := config(t, "http", "2")
	pvms.Publish(&c)
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 2, "serving")
	if err := i.Pause(true); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", i.Info().Ports[0].Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, _ := conn.Read(make([]byte, 1)); n != 0 {
		t.Error("an answer of a paused pVM")
	}
	// What it cannot do is said at once.
	if _, err := i.Fork(t.Context()); !errors.Is(err, monitor.ErrPaused) {
		t.Errorf("fork of a paused pVM: %v", err)
	}
	if err := i.Snapshot(t.Context(), filepath.Join(t.TempDir(), "s"), monitor.SnapshotOptions{}); !errors.Is(err, monitor.ErrPaused) {
		t.Errorf("snapshot of a paused pVM: %v", err)
	}
	if err := i.Pause(false); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if b, err := io.ReadAll(conn); len(b) == 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// TestStop: what ends the first is passed on.
func TestStop(t *testing.T) { stops(t, func(*monitor.Instance) {}) }

// TestStopPaused: a paused pVM ends by the signal too, not by the time that it is given.
func TestStopPaused(t *testing.T) {
	stops(t, func(i *monitor.Instance) {
		if err := i.Pause(true); err != nil {
			t.Fatal(err)
		}
	})
}

func stops(t *testing.T, before func(*monitor.Instance)) {
	c := config(t, "idle", "3")
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "ready")
	before(i)
	begin := time.Now()
	if e := i.Stop(20 * time.Second); e.Signal != 15 {
		t.Errorf("%+v", e)
	}
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("stopped after %v: not by the signal", d)
	}
}

// TestKillMember: kill -9 of any member ends that one alone.
func TestKillMember(t *testing.T) {
	c := config(t, "idle", "5")
	var out *bufio.Reader
	c.Stdout, out = pvms.Pipe(t)
	i := pvms.Start(t, c)
	pvms.Expect(t, out, 1, "ready")
	pgid := i.Info().Pid
	for _, pid := range group(t, pgid) {
		p, _ := os.FindProcess(pid)
		before := len(group(t, pgid))
		p.Kill()
		for range 200 {
			if len(group(t, pgid)) == before-1 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := len(group(t, pgid)); n != before-1 {
			t.Errorf("%d are left of %d", n, before)
		}
	}
	if e := i.Wait(); e.Code != 137 {
		t.Errorf("%+v", e)
	}
}
