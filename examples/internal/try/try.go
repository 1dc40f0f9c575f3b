// Package try runs the program in the current directory for its test: natively,
// or, if NOYAU_RUN holds a command such as "/usr/local/bin/noyau run", as a pVM.
//
//	go build -o /tmp/noyau ./cmd/noyau
//	NOYAU_RUN="/tmp/noyau run" go test ./examples/...
//
// The tests are the same for both, which is their point.
package try

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience bounds every wait for something that must happen. It includes
// compiling the program.
const Patience = 3 * time.Minute

// Options say how to run the program.
type Options struct {
	Args   []string // of the program, after those made from the fields below
	Listen string   // flag by which the program is told its TCP address, "" if it has none
	Data   string   // flag by which it is told its data directory, "" if it has none
	Dir    string   // the data directory on the host
	Run    []string // further flags of noyau run; ignored natively
}

// A Program is a running program.
type Program struct {
	Addr string // where it listens, as the test reaches it
	cmd  *exec.Cmd
	out  locked // standard output
	errs locked // standard error
	done chan struct{}
}

// Native reports whether programs run natively.
func Native() bool { return os.Getenv("NOYAU_RUN") == "" }

// Start starts the program and ends it with the test.
func Start(t testing.TB, o Options) *Program {
	t.Helper()
	p := &Program{done: make(chan struct{})}
	var args []string
	if Native() {
		args = []string{build(t)}
	} else {
		args = append(strings.Fields(os.Getenv("NOYAU_RUN")), o.Run...)
	}
	var app []string
	if o.Listen != "" {
		p.Addr = freeAddr(t)
		inside := p.Addr
		if !Native() {
			args = append(args, "-p", p.Addr+":8080")
			inside = ":8080"
		}
		app = append(app, o.Listen, inside)
	}
	if o.Data != "" {
		inside := o.Dir
		if !Native() {
			args = append(args, "-v", o.Dir+":/data")
			inside = "/data"
		}
		app = append(app, o.Data, inside)
	}
	if !Native() {
		args = append(args, ".")
	}
	args = append(append(args, app...), o.Args...)
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %q: %v", args, err)
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%q wrote\n%s\nand to standard error\n%s", args, p.out.String(), p.errs.String())
		}
	})
	return p
}

// Output runs the program to its end and returns what it wrote to standard
// output, and its exit code.
func Output(t testing.TB, o Options) (string, int) {
	t.Helper()
	p := Start(t, o)
	code := p.Wait(t)
	return p.Output(), code
}

// Wait waits for the end of the program and returns its exit code, -1 if a
// signal ended it.
func (p *Program) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		t.Fatalf("the program did not end within %v", Patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends sig to the program; noyau run passes it on.
func (p *Program) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the program as kill -9 does. As a pVM it is its monitor that is
// killed, which the pVM does not survive.
func (p *Program) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Output is what the program has written to standard output so far.
func (p *Program) Output() string { return p.out.String() }

// Until calls f until it returns nil.
func (p *Program) Until(t testing.TB, f func() error) {
	t.Helper()
	for end := time.Now().Add(Patience); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-p.done:
			t.Fatalf("the program ended (exit code %d); before: %v", p.cmd.ProcessState.ExitCode(), err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("still failing after %v: %v", Patience, err)
		}
	}
}

var built struct {
	sync.Once
	dir, file string
	err       error
}

// build compiles the program in the current directory, once for all tests.
func build(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "try-"); built.err != nil {
			return
		}
		built.file = filepath.Join(built.dir, "program")
		if out, err := exec.Command("go", "build", "-o", built.file, ".").CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.file
}

// Main is for TestMain: it runs the tests and removes what they built.
func Main(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// freeAddr is a loopback address that nobody listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
