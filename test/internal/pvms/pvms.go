// Package pvms runs real images for the tests beneath test: each has a program in its
// folder guest and runs it as a pVM.
package pvms

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"noyau.dev/host/build"
	"noyau.dev/host/monitor"
	"noyau.dev/host/vm"
)

// patience bounds the life of a pVM: whatever takes longer hangs.
const patience = 2 * time.Minute

// Main is what TestMain does: it builds the runner of virtual machines, runs the tests and
// returns their exit code. Without a runner, isolation vm says itself what it lacks.
func Main(m *testing.M) int {
	remove, err := buildRunner()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	defer remove()
	return m.Run()
}

// buildRunner builds the static program that runs virtual machines.
func buildRunner() (remove func(), err error) {
	dir, err := os.MkdirTemp("", "noyau-runner-")
	if err != nil {
		return func() {}, err
	}
	remove = func() { os.RemoveAll(dir) }
	path := filepath.Join(dir, vm.RunnerName)
	cmd := exec.Command("go", "build", "-o", path, "noyau.dev/host/vm/noyau-vm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return remove, fmt.Errorf("the runner: %w: %s", err, out)
	}
	vm.RunnerPath = path
	return remove, nil
}

var image = sync.OnceValues(func() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	r, err := build.Build(context.Background(), build.Options{Package: "./guest", Dir: wd, Stderr: os.Stderr})
	return r.Path, err
})

// Config is how the guest of the calling test's folder is run with these arguments. The
// image is built once.
func Config(t testing.TB, isolation string, args ...string) monitor.Config {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no image can be built here: ", err)
	}
	path, err := image()
	if err != nil {
		t.Fatal("the image: ", err)
	}
	return monitor.Config{Image: path, Args: args, Isolation: isolation, Stderr: os.Stderr}
}

// Names are the isolations.
var Names = []string{"process", "vm"}

// Need skips the test if the isolation cannot be used here.
func Need(t testing.TB, isolation string) {
	t.Helper()
	if err := monitor.Available(isolation); err != nil {
		t.Skip(err)
	}
}

// Isolations runs f under each that can be used here.
func Isolations(t *testing.T, f func(t *testing.T, isolation string)) {
	for _, name := range Names {
		t.Run(name, func(t *testing.T) {
			Need(t, name)
			f(t, name)
		})
	}
}

// Start starts a pVM, which ends with the test.
func Start(t testing.TB, c monitor.Config) *monitor.Instance {
	t.Helper()
	i, _ := start(t, c)
	return i
}

func start(t testing.TB, c monitor.Config) (*monitor.Instance, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	i, err := monitor.Start(ctx, c)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Kill(); i.Wait(); cancel() })
	return i, ctx
}

// Run runs a pVM to its end and returns what it printed.
func Run(t testing.TB, c monitor.Config) (string, monitor.Exit) {
	t.Helper()
	var out bytes.Buffer
	c.Stdout = &out
	i, ctx := start(t, c)
	e := i.Wait()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("it hung for %v", patience)
	}
	return out.String(), e
}

// Pipe returns a file for a pVM's output, which takes some of it before anybody reads, and
// a reader of its lines.
func Pipe(t testing.TB) (*os.File, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return w, bufio.NewReader(r)
}

// Expect reads n lines, each of which must be this one.
func Expect(t testing.TB, r *bufio.Reader, n int, want string) {
	t.Helper()
	for range n {
		if got, err := r.ReadString('\n'); err != nil || got != want+"\n" {
			t.Fatalf("the guest says %q, %v; want %q", got, err, want)
		}
	}
}

// Publish publishes the guest's TCP port 80 at a free port of the host.
func Publish(c *monitor.Config) {
	c.Publish = []monitor.Publish{{IP: netip.MustParseAddr("127.0.0.1"), GuestPort: 80}}
}
