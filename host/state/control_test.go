package state

import (
	"context"
	"errors"
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

// What is not HTTP, or too much of it, harms nobody else.
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
		"POST /v1/signal HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{]}",
		"POST /v1/signal HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"signal\":1e9}",
		"GET /v1/signal HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /" + strings.Repeat("x", 1<<16) + " HTTP/1.1\r\n\r\n",
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write([]byte(s))
		b := make([]byte, 64)
		n, _ := c.Read(b)
		if !strings.HasPrefix(string(b[:n]), "HTTP/1.1 4") {
			t.Errorf("%.40q was answered %q", s, b[:n])
		}
		c.Close()
	}
	if len(pvm.signals) != 0 {
		t.Errorf("signals were delivered: %v", pvm.signals)
	}
}
