package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The control protocol of a monitor is HTTP with JSON on a unix socket that
// only its user can reach:
//
//	GET  /v1/info                      what is in force
//	GET  /v1/stats                     figures of this moment
//	POST /v1/signal {"signal": 15}
//	POST /v1/stop {"timeout_ms": 10000}  answered when the pVM has ended
//	GET  /v1/members                   the pVM and its forks
//	POST /v1/fork                      a copy of it; answers its id
//	POST /v1/pause {"on": true}
//	POST /v1/snapshot {"path": "/…"}   answered when it is written

// A Controller is what a monitor lets others do with its pVM. Info and Stats
// return values for JSON. Stop returns when the entry says that the pVM ended.
type Controller interface {
	Info() any
	Stats() (any, error)
	Signal(sig unix.Signal) error
	Stop(timeout time.Duration)
}

// A FamilyController is a Controller of a pVM that can also be copied and paused.
type FamilyController interface {
	Members() any
	Fork(ctx context.Context) (int, error)
	Pause(on bool) error
	Snapshot(context.Context, SnapshotRequest) error
}

// A SnapshotRequest asks for a snapshot of a pVM.
type SnapshotRequest struct {
	Path     string `json:"path"` // absolute
	Compress bool   `json:"compress,omitempty"`
	Alone    bool   `json:"alone,omitempty"` // without its forks
}

type forkReply struct {
	PID int `json:"pid"`
}

type pauseRequest struct {
	On bool `json:"on"`
}

type signalRequest struct {
	Signal int `json:"signal"`
}

type stopRequest struct {
	TimeoutMS int64 `json:"timeout_ms"`
}

type controlError struct {
	Error string `json:"error"`
}

// listenControl makes the control socket at path. The address is given to the
// kernel relative to its directory, so the path may be longer than the 107
// bytes of a socket address.
func listenControl(path string) (net.Listener, error) {
	os.Remove(path)
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	l, err := net.Listen("unix", shortPath(dir, path))
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its name is a different one by then
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return ownPeers{l}, nil
}

func shortPath(dir *os.File, path string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
}

// ownPeers accepts connections of the same user and of root only. The mode of
// the socket's directory says the same; this holds if somebody changed it.
type ownPeers struct{ net.Listener }

func (l ownPeers) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if ownPeer(c.(*net.UnixConn)) {
			return c, nil
		}
		c.Close()
	}
}

func ownPeer(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return ok
}

// A ControlServer is a monitor's end of the control protocol.
type ControlServer struct {
	http *http.Server
	path string
	done chan struct{}
}

// StartControl makes the control socket at path and answers on it.
func StartControl(path string, c Controller) (*ControlServer, error) {
	l, err := listenControl(path)
	if err != nil {
		return nil, err
	}
	s := &ControlServer{
		http: &http.Server{Handler: routes(c), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10},
		path: path,
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		s.http.Serve(l) // always returns an error, of the listener that Close closes
	}()
	return s, nil
}

// Close removes the socket and returns when requests under way were answered,
// or after two seconds.
func (s *ControlServer) Close() {
	os.Remove(s.path)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.done
}

func routes(c Controller) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, r *http.Request) { reply(w, c.Info(), nil) })
	mux.HandleFunc("GET /v1/stats", func(w http.ResponseWriter, r *http.Request) {
		s, err := c.Stats()
		reply(w, s, err)
	})
	mux.HandleFunc("POST /v1/signal", func(w http.ResponseWriter, r *http.Request) {
		var q signalRequest
		err := take(r, &q)
		if err == nil && (q.Signal < 1 || q.Signal > 64) {
			err = fmt.Errorf("%d is not a signal", q.Signal)
		}
		if err == nil {
			err = c.Signal(unix.Signal(q.Signal))
		}
		reply(w, struct{}{}, err)
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, r *http.Request) {
		var q stopRequest
		err := take(r, &q)
		if err == nil {
			c.Stop(time.Duration(max(q.TimeoutMS, 0)) * time.Millisecond)
		}
		reply(w, struct{}{}, err)
	})
	if f, ok := c.(FamilyController); ok {
		familyRoutes(mux, f)
	}
	return mux
}

func familyRoutes(mux *http.ServeMux, f FamilyController) {
	mux.HandleFunc("GET /v1/members", func(w http.ResponseWriter, r *http.Request) { reply(w, f.Members(), nil) })
	mux.HandleFunc("POST /v1/fork", func(w http.ResponseWriter, r *http.Request) {
		pid, err := f.Fork(r.Context())
		reply(w, forkReply{pid}, err)
	})
	mux.HandleFunc("POST /v1/pause", func(w http.ResponseWriter, r *http.Request) {
		var q pauseRequest
		err := take(r, &q)
		if err == nil {
			err = f.Pause(q.On)
		}
		reply(w, struct{}{}, err)
	})
	mux.HandleFunc("POST /v1/snapshot", func(w http.ResponseWriter, r *http.Request) {
		var q SnapshotRequest
		err := take(r, &q)
		if err == nil && !filepath.IsAbs(q.Path) {
			err = fmt.Errorf("%q is not an absolute path", q.Path)
		}
		if err == nil {
			err = f.Snapshot(r.Context(), q)
		}
		reply(w, struct{}{}, err)
	})
}

func take(r *http.Request, v any) error {
	return json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(v)
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		v = controlError{err.Error()}
	}
	json.NewEncoder(w).Encode(v)
}

// A Client controls a running pVM through its monitor.
type Client struct {
	http *http.Client
	path string
}

// ErrGone means that the monitor does not answer: the pVM has just ended.
var ErrGone = errors.New("the pVM has ended")

// Control returns a client for the entry's monitor. It connects when used.
func (e *Entry) Control() *Client {
	path := e.Status.Socket
	if path == "" {
		path = e.SocketPath()
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		var d net.Dialer
		return d.DialContext(ctx, "unix", shortPath(dir, path))
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, path}
}

// Info decodes what is in force into v.
func (c *Client) Info(ctx context.Context, v any) error { return c.call(ctx, "GET", "info", nil, v) }

// Stats decodes the figures of this moment into v.
func (c *Client) Stats(ctx context.Context, v any) error { return c.call(ctx, "GET", "stats", nil, v) }

// Signal delivers sig to the app.
func (c *Client) Signal(ctx context.Context, sig unix.Signal) error {
	return c.call(ctx, "POST", "signal", signalRequest{int(sig)}, nil)
}

// Members decodes the list of the family into v.
func (c *Client) Members(ctx context.Context, v any) error {
	return c.call(ctx, "GET", "members", nil, v)
}

// Fork copies the pVM and returns the id of the copy inside the family.
func (c *Client) Fork(ctx context.Context) (int, error) {
	var r forkReply
	err := c.call(ctx, "POST", "fork", nil, &r)
	return r.PID, err
}

// Pause stops the pVM and its forks, or lets them go on.
func (c *Client) Pause(ctx context.Context, on bool) error {
	return c.call(ctx, "POST", "pause", pauseRequest{on}, nil)
}

// Snapshot writes the pVM to a file.
func (c *Client) Snapshot(ctx context.Context, q SnapshotRequest) error {
	return c.call(ctx, "POST", "snapshot", q, nil)
}

// Stop sends the stop signal, waits up to timeout, kills, and returns when the
// pVM has ended.
func (c *Client) Stop(ctx context.Context, timeout time.Duration) error {
	return c.call(ctx, "POST", "stop", stopRequest{timeout.Milliseconds()}, nil)
}

func (c *Client) call(ctx context.Context, method, what string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://monitor/v1/"+what, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		// The monitor goes away once the pVM has ended, perhaps while it
		// answers us.
		for _, gone := range []error{syscall.ECONNREFUSED, syscall.ENOENT, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
			if errors.Is(err, gone) {
				return ErrGone
			}
		}
		return fmt.Errorf("monitor at %s: %w", c.path, err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(io.LimitReader(resp.Body, 16<<20))
	if resp.StatusCode != http.StatusOK {
		var e controlError
		if dec.Decode(&e) != nil || e.Error == "" {
			e.Error = strings.ToLower(resp.Status)
		}
		return errors.New(e.Error)
	}
	if out == nil {
		return nil
	}
	return dec.Decode(out)
}
