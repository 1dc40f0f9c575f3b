// Package real builds programs of others by path@version, runs them as pVMs, drives
// them with clients from outside and stops them:
//
//	go test ./test/real -real -timeout 60m
//
// It downloads and compiles much, so nothing runs without -real.
package real

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	run        = flag.Bool("real", false, "build and run the programs")
	only       = flag.String("real.only", "", "comma-separated `names` of those to run: caddy, coredns, nats, bbolt")
	isolations = flag.String("real.isolation", "process,vm", "comma-separated `isolations`")
	noyauPath  = flag.String("real.noyau", "", "noyau command to use, static for vm; empty builds it")
)

// patience bounds each wait. It is long: other work may run on the machine.
const patience = 2 * time.Minute

// programs by name.
var programs = []struct {
	name, pkg string
	test      func(t *testing.T, p *program)
}{
	{"caddy", "github.com/caddyserver/caddy/v2/cmd/caddy@v2.8.4", caddy},
	{"coredns", "github.com/coredns/coredns@v1.11.3", coredns},
	{"nats", "github.com/nats-io/nats-server/v2@v2.10.20", nats},
	{"bbolt", "go.etcd.io/bbolt/cmd/bbolt@v1.3.11", bbolt},
}

// A program is an image and how to run it.
type program struct {
	noyau, image, pkg, isolation string
}

func TestReal(t *testing.T) {
	if !*run {
		t.Skip("downloads and compiles much; run with -real")
	}
	dir := t.TempDir()
	// Images run as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	noyau := *noyauPath
	if noyau == "" {
		noyau = filepath.Join(dir, "noyau")
		cmd := exec.Command("go", "build", "-o", noyau, "noyau.dev/cmd/noyau")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build noyau: %v\n%s", err, out)
		}
	}
	for _, p := range programs {
		if *only != "" && !strings.Contains(","+*only+",", ","+p.name+",") {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			image := filepath.Join(dir, p.name)
			if out, err := exec.Command(noyau, "build", "-o", image, p.pkg).CombinedOutput(); err != nil {
				t.Fatalf("build %s: %v\n%s", p.pkg, err, out)
			}
			for isolation := range strings.SplitSeq(*isolations, ",") {
				t.Run(isolation, func(t *testing.T) { p.test(t, &program{noyau, image, p.pkg, isolation}) })
			}
		})
	}
}

// A running program, its output, and how it ended.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  output
	done chan struct{}
	err  error
}

// output is written by one goroutine and read by others.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs the program with flags of noyau run and arguments of its own.
func (p *program) start(t *testing.T, flags []string, args ...string) *running {
	r := &running{t: t, done: make(chan struct{})}
	r.cmd = exec.Command(p.noyau, append(append(append([]string{"run", "--isolation", p.isolation}, flags...), p.image), args...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.err = r.cmd.Wait(); close(r.done) }()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		<-r.done
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(p.image), r.out.String())
		}
	})
	return r
}

// stop ends the program by SIGTERM, and wants this exit code.
func (r *running) stop(code int) {
	r.t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.ended(code)
}

func (r *running) ended(code int) {
	r.t.Helper()
	select {
	case <-r.done:
		if got := r.cmd.ProcessState.ExitCode(); got != code {
			r.t.Errorf("it ended with %v, want exit code %d", r.err, code)
		}
	case <-time.After(patience):
		r.t.Fatal("it does not end")
	}
}

// until repeats f until it gives no error.
func (r *running) until(f func() error) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-r.done:
			r.t.Fatalf("it ended: %v; last: %v", r.err, err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("after %v: %v", patience, err)
		}
	}
}

// port is a free TCP and UDP port of the loopback.
func port(t *testing.T) string {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		u, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			u.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// files makes a directory that any user can read.
func files(t *testing.T, content map[string][]byte) string {
	dir := t.TempDir()
	for d := dir; d != filepath.Dir(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o777)
		if d == os.TempDir() {
			break
		}
	}
	for name, b := range content {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// get fetches a URL and wants status and body.
func get(url string, status int, body []byte, header ...string) error {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := http.DefaultClient.Do(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != status || body != nil && !bytes.Equal(b.Bytes(), body) {
		return fmt.Errorf("GET %s: %s, %d bytes; want %d, %d bytes", url, resp.Status, b.Len(), status, len(body))
	}
	return nil
}
