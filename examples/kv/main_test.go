package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The tests run the program natively, or, if NOYAU_RUN holds a command such as
// "/usr/local/bin/noyau run", as a pVM.

// patience bounds every wait for something that must happen.
const patience = 3 * time.Minute

// program is a running kv.
type program struct {
	addr string
	cmd  *exec.Cmd
	log  strings.Builder
	done chan struct{}
}

var native string // the program built for native runs

func TestMain(m *testing.M) {
	if os.Getenv("NOYAU_RUN") != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "kv-")
	if err == nil {
		native = filepath.Join(dir, "kv")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", native, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// start runs kv on the database in dir and waits until it answers.
func start(t *testing.T, dir string) *program {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &program{addr: l.Addr().String(), done: make(chan struct{})}
	l.Close()
	args := []string{native, "-listen", p.addr, "-data", dir}
	if native == "" {
		args = append(strings.Fields(os.Getenv("NOYAU_RUN")), "-p", p.addr+":7070", "-v", dir+":/data", ".", "-listen", ":7070", "-data", "/data")
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%q wrote:\n%s", args, p.log.String())
		}
	})
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := dial(p.addr)
		if err == nil {
			_, err = c.ask("COUNT")
			c.Close()
		}
		if err == nil {
			return p
		}
		select {
		case <-p.done:
			t.Fatal("kv ended instead of answering")
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("kv does not answer: %v", err)
		}
	}
}

// kill ends kv as kill -9 does. As a pVM it is its monitor that is killed, which
// the pVM does not survive.
func (p *program) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// client is a connection to kv.
type client struct {
	net.Conn
	in *bufio.Reader
}

func dial(addr string) (*client, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	return &client{c, bufio.NewReader(c)}, nil
}

func (c *client) ask(request string) (string, error) {
	if _, err := fmt.Fprintln(c, request); err != nil {
		return "", err
	}
	s, err := c.in.ReadString('\n')
	return strings.TrimSuffix(s, "\n"), err
}

func TestAnswers(t *testing.T) {
	p := start(t, t.TempDir())
	c, err := dial(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, x := range []struct{ ask, want string }{
		{"GET a", "NONE"},
		{"SET a b c", "OK"},
		{"GET a", "VALUE b c"},
		{"SET e ", "OK"},
		{"GET e", "VALUE "},
		{"COUNT", "COUNT 2"},
		{"DEL a", "OK"},
		{"DEL a", "NONE"},
		{"COUNT", "COUNT 1"},
		{"SET a", "ERROR SET needs a value"},
		{"GET", "ERROR want SET key value, GET key, DEL key or COUNT"},
		{"PUT a b", `ERROR "PUT" is not known`},
		{"SET " + strings.Repeat("k", 40000) + " v", "ERROR key too large"},
		{"SET big " + strings.Repeat("v", 500000), "OK"},
		{"GET big", "VALUE " + strings.Repeat("v", 500000)},
	} {
		if got, err := c.ask(x.ask); err != nil || got != x.want {
			t.Errorf("%.40s: %.80q, %v; want %.80q", x.ask, got, err, x.want)
		}
	}
}

// TestStop stops kv by SIGTERM while a client is connected.
func TestStop(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	c, err := dial(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := c.ask("SET a b"); got != "OK" {
		t.Fatal(got, err)
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("kv did not stop")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	p = start(t, dir)
	c, err = dial(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := c.ask("GET a"); got != "VALUE b" {
		t.Error(got, err)
	}
}

// TestNothingAcknowledgedIsLost kills kv again and again while clients write,
// and then reads back every write that was acknowledged.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	const rounds, writers, least = 5, 8, 200
	dir := t.TempDir()
	acked := make([]int, writers) // writer w's keys 0 … acked[w]-1 were acknowledged
	value := func(w, i int) string { return strings.Repeat(fmt.Sprintf("%d.%d ", w, i), 50) + "end" }
	for round := range rounds {
		p := start(t, dir)
		var wg sync.WaitGroup
		var total atomic.Int64
		enough := make(chan struct{})
		for w := range writers {
			wg.Go(func() {
				c, err := dial(p.addr)
				if err != nil {
					return // killed already
				}
				defer c.Close()
				for {
					i := acked[w]
					got, err := c.ask(fmt.Sprintf("SET w%d.%d %s", w, i, value(w, i)))
					if err != nil {
						return // killed: this write may be there or not
					}
					if got != "OK" {
						t.Errorf("SET: %q", got)
						return
					}
					acked[w]++
					if total.Add(1) == least {
						close(enough)
					}
				}
			})
		}
		select {
		case <-enough: // and on they write, into the kill
		case <-p.done:
		case <-time.After(patience):
			t.Errorf("round %d: only %d writes in %v", round, total.Load(), patience)
		}
		p.kill()
		wg.Wait()

		p = start(t, dir)
		c, err := dial(p.addr)
		if err != nil {
			t.Fatal(err)
		}
		checked := 0
		for w := range writers {
			for i := range acked[w] {
				got, err := c.ask(fmt.Sprintf("GET w%d.%d", w, i))
				if err != nil || got != "VALUE "+value(w, i) {
					t.Fatalf("round %d: acknowledged write w%d.%d is lost: %.60q, %v", round, w, i, got, err)
				}
				checked++
			}
		}
		if checked < least {
			t.Errorf("round %d: only %d acknowledged writes in all, so the test says little", round, checked)
		}
		c.Close()
		p.kill()
	}
	t.Logf("%v writes of each writer were acknowledged and found", acked)
}
