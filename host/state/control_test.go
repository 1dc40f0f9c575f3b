package state

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type fakePVM struct {
	signals []unix.Signal
	stopped chan time.Duration
}

func (f *fakePVM) Info() any           { return map[string]string{"isolation": "process"} }
func (f *fakePVM) Stats() (any, error) { return nil, errors.New("no figures: it has just ended") }
func (f *fakePVM) Signal(s unix.Signal) error {
	if s == unix.SIGUSR1 {
		return fmt.Errorf("signal: %w", unix.ESRCH)
	}
	f.signals = append(f.signals, s)
	return nil
}
func (f *fakePVM) Stop(d time.Duration) { f.stopped <- d }

func TestControl(t *testing.T) {
	d := open(t)
	d.Run = filepath.Join(d.Run, strings.Repeat("long", 30)) // longer than sockaddr_un
	if err := os.Mkdir(d.Run, 0o700); err != nil {
		t.Fatal(err)
	}
	e, err := d.Create(Meta{Name: "c", Detached: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := e.Control().Signal(ctx, unix.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("without a monitor: %v", err)
	}
	pvm := &fakePVM{stopped: make(chan time.Duration, 1)}
	s, err := StartControl(e.SocketPath(), pvm)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(e.SocketPath()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", st, err)
	}
	var info map[string]string
	if err := e.Control().Info(ctx, &info); err != nil || info["isolation"] != "process" {
		t.Errorf("info: %v %v", info, err)
	}
	if err := e.Control().Stats(ctx, &info); err == nil || err.Error() != "no figures: it has just ended" {
		t.Errorf("an error does not come through as it was: %v", err)
	}
	if err := e.Control().Signal(ctx, unix.SIGHUP); err != nil || len(pvm.signals) != 1 || pvm.signals[0] != unix.SIGHUP {
		t.Errorf("signal: %v %v", pvm.signals, err)
	}
	if err := e.Control().Signal(ctx, unix.SIGUSR1); !errors.Is(err, ErrGone) {
		t.Errorf("to one that has ended: %v", err)
	}
	for _, bad := range []unix.Signal{0, -1, 65} {
		if err := e.Control().Signal(ctx, bad); err == nil {
			t.Errorf("signal %d was accepted", int(bad))
		}
	}
	if err := e.Control().Stop(ctx, 1500*time.Millisecond); err != nil || <-pvm.stopped != 1500*time.Millisecond {
		t.Errorf("stop: %v", err)
	}
	s.Close()
	if err := e.Control().Stop(ctx, 0); !errors.Is(err, ErrGone) {
		t.Errorf("after the end: %v", err)
	}
}

// What is no request, or too much of one, harms nobody else.
func TestControlRubbish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	pvm := &fakePVM{stopped: make(chan time.Duration, 1)}
	s, err := StartControl(path, pvm)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, s := range []string{
		"\x00\x01\x02\r\n\r\n",
		"GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n",
		`{"call":"signal","with":{]}}`,
		`{"call":"signal","with":{"signal":1e9}}`,
		`{"call":"signal","with":15}`,
		`{"call":"signal"}`,
		`{"call":"explode"}`,
		`{"call":["signal"]}`,
		`[]`, `{}`, `"signal"`,
		`{"call":"` + strings.Repeat("x", 1<<17) + `"}`,
		strings.Repeat("[", 1<<17),
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		go c.Write([]byte(s + "\n"))
		b := make([]byte, 64)
		n, _ := c.Read(b)
		if !strings.HasPrefix(string(b[:n]), `{"error":"`) {
			t.Errorf("%.40q was answered %q", s, b[:n])
		}
		c.Close()
	}
	if len(pvm.signals) != 0 {
		t.Errorf("signals were delivered: %v", pvm.signals)
	}
}

// A monitor that ends waits neither for clients that say nothing nor for what they never end.
func TestControlClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	asked := make(chan struct{})
	s, err := StartControl(path, &slowPVM{asked: asked})
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	result := make(chan error)
	go func() { _, err := (&Client{path}).Fork(t.Context()); result <- err }()
	<-asked
	s.Close()
	if err := <-result; err == nil {
		t.Error("a fork that never was is reported done")
	}
	if n, err := silent.Read(make([]byte, 100)); err == nil && n == 0 {
		t.Error("the silent client is still connected")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// A client that does not wait any longer takes its request back.
func TestControlCancel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	pvm := &slowPVM{asked: make(chan struct{}), cancelled: make(chan struct{})}
	s, err := StartControl(path, pvm)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-pvm.asked; cancel() }()
	if _, err := (&Client{path}).Fork(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-pvm.cancelled
}

// slowPVM forks until that is cancelled.
type slowPVM struct {
	fakePVM
	asked, cancelled chan struct{}
}

func (p *slowPVM) Members() any { return nil }
func (p *slowPVM) Fork(ctx context.Context) (int, error) {
	close(p.asked)
	<-ctx.Done()
	if p.cancelled != nil {
		close(p.cancelled)
	}
	return 0, ctx.Err()
}
func (p *slowPVM) Pause(bool) error                                { return nil }
func (p *slowPVM) Snapshot(context.Context, SnapshotRequest) error { return nil }

// What an older or newer monitor says is no riddle.
func TestControlOtherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.Read(make([]byte, 1000))
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	if err := (&Client{path}).Info(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "another version of noyau") {
		t.Error(err)
	}
}
