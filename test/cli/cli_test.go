// Package cli drives the built noyau command as a user does, with an image that
// it has built itself. The isolation is process, or what NOYAU_ISOLATION says:
//
//	NOYAU_ISOLATION=vm go test ./test/cli
package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	noyau string // the command
	probe string // an image of testdata/probe
)

func TestMain(m *testing.M) {
	code, err := setup(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func setup(m *testing.M) (int, error) {
	tmp, err := os.MkdirTemp("", "noyau-cli-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	os.Setenv("NOYAU_ISOLATION", isolation())
	noyau, probe = filepath.Join(tmp, "noyau"), filepath.Join(tmp, "probe.img")
	for _, args := range [][]string{
		{"go", "build", "-o", noyau, "noyau.dev/cmd/noyau"},
		{noyau, "build", "-o", probe, "./testdata/probe"},
	} {
		c := exec.Command(args[0], args[1:]...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0") // the runner of isolation=vm is static
		if out, err := c.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%q: %v\n%s", args, err, out)
		}
	}
	return m.Run(), nil
}

// isolation is that of all pVMs of the tests.
func isolation() string {
	if v := os.Getenv("NOYAU_ISOLATION"); v != "" {
		return v
	}
	return "process"
}

// A user has directories of their own.
type user struct {
	t   *testing.T
	dir string
	env []string
}

// newUser makes a user; all their pVMs are removed when the test ends.
func newUser(t *testing.T) *user {
	t.Helper()
	u := &user{t: t, dir: t.TempDir()}
	run := filepath.Join(u.dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	u.env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(u.dir, "state"), "XDG_RUNTIME_DIR="+run)
	t.Cleanup(func() {
		ids := strings.Fields(u.do("ps", "-aq").out)
		if len(ids) > 0 {
			u.do(append([]string{"rm", "-f"}, ids...)...)
		}
	})
	return u
}

func (u *user) cmd(args ...string) *exec.Cmd {
	c := exec.Command(noyau, args...)
	c.Env = u.env
	c.WaitDelay = 20 * time.Second
	return c
}

type result struct {
	code     int
	out, err string
}

// do runs a command to its end. None may take longer than a minute.
func (u *user) do(args ...string) result {
	u.t.Helper()
	return u.finish(u.cmd(args...))
}

func (u *user) finish(c *exec.Cmd) result {
	u.t.Helper()
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Start(); err != nil {
		u.t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() {
		u.t.Errorf("%q did not end", c.Args[1:])
		c.Process.Kill()
	})
	defer timer.Stop()
	err := c.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		u.t.Fatalf("%q: %v", c.Args[1:], err)
	}
	return result{c.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// ok runs a command that must succeed and returns what it printed.
func (u *user) ok(args ...string) string {
	u.t.Helper()
	r := u.do(args...)
	if r.code != 0 {
		u.t.Fatalf("noyau %q: exit code %d\n%s%s", args, r.code, r.out, r.err)
	}
	return r.out
}

// fails runs a command that must end with code and say all the words.
func (u *user) fails(code int, args []string, words ...string) {
	u.t.Helper()
	r := u.do(args...)
	if r.code != code {
		u.t.Errorf("noyau %q: exit code %d, want %d\n%s%s", args, r.code, code, r.out, r.err)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			u.t.Errorf("noyau %q: no %q in\n%s", args, w, r.err)
		}
	}
}

// eventually tries until f is content.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// A stream collects output that is read while it comes.
type stream struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// start runs a command in the background of the test, its output in a stream.
func (u *user) start(stdin io.Reader, args ...string) (*exec.Cmd, *stream) {
	u.t.Helper()
	c, s := u.cmd(args...), new(stream)
	c.Stdin, c.Stdout, c.Stderr = stdin, s, s
	if err := c.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		if c.ProcessState == nil {
			c.Process.Kill()
			c.Wait()
		}
	})
	return c, s
}
