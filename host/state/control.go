package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The control protocol of a monitor is JSON on a unix socket that only its user can
// reach. A connection carries one request and its answer:
//
//	{"call": "signal", "with": {"signal": 15}}
//	{"reply": …} or {"error": "…"}
//
// A client that goes away takes back what it has asked for. The calls:
//
//	info                              what is in force
//	stats                             figures of this moment
//	signal   {"signal": 15}
//	stop     {"timeout_ms": 10000}    answered when the pVM has ended
//	members                           the pVM and its forks
//	fork                              a copy of it; answers its id
//	pause    {"on": true}
//	snapshot {"path": "/…"}           answered when it is written
//
// It is not HTTP, because loading and starting package net/http is a third of what the
// start of a small program takes, and every noyau run has this socket.

const (
	maxRequest      = 64 << 10
	maxAnswer       = 16 << 20
	requestPatience = 10 * time.Second // for a request once somebody has connected
)

type request struct {
	Call string          `json:"call"`
	With json.RawMessage `json:"with,omitempty"`
}

type answer struct {
	Error string          `json:"error,omitempty"`
	Reply json.RawMessage `json:"reply,omitempty"`
}

// A Controller is what a monitor lets others do with its pVM. Info and Stats
// return values for JSON. Stop returns when the entry says that the pVM ended. ESRCH means that
// it has ended.
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
	calls    map[string]call
	listener net.Listener
	path     string
	closing  context.Context // no request is waited for any more
	close    context.CancelFunc
	ended    context.Context // nor an answer
	end      context.CancelFunc
	serving  sync.WaitGroup
}

// A call answers one kind of request.
type call func(ctx context.Context, with json.RawMessage) (any, error)

// StartControl makes the control socket at path and answers on it.
func StartControl(path string, c Controller) (*ControlServer, error) {
	l, err := listenControl(path)
	if err != nil {
		return nil, err
	}
	s := &ControlServer{calls: calls(c), listener: l, path: path}
	s.closing, s.close = context.WithCancel(context.Background())
	s.ended, s.end = context.WithCancel(context.Background())
	s.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // Close has closed it
			}
			s.serving.Go(func() { s.serve(conn) })
		}
	})
	return s, nil
}

// Close removes the socket and returns when requests under way were answered, or
// after two seconds.
func (s *ControlServer) Close() {
	os.Remove(s.path)
	s.listener.Close()
	s.close()
	t := time.AfterFunc(2*time.Second, s.end)
	defer t.Stop()
	go func() { s.serving.Wait(); s.end() }()
	<-s.ended.Done()
}

// serve answers the request of one connection.
func (s *ControlServer) serve(c net.Conn) {
	defer c.Close()
	unwatch := context.AfterFunc(s.ended, func() { c.Close() })
	defer unwatch()
	c.SetReadDeadline(time.Now().Add(requestPatience))
	hurry := context.AfterFunc(s.closing, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	var q request
	err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&q)
	if err == nil && !hurry() {
		return // closing: the client finds that the pVM has ended
	}
	var a answer
	var reply any
	if err != nil {
		err = fmt.Errorf("not a request: %w", err)
	} else if f := s.calls[q.Call]; f == nil {
		err = fmt.Errorf("the monitor knows no call %q; it was started by another version of noyau", q.Call)
	} else {
		ctx, cancel := context.WithCancel(s.ended)
		defer cancel()
		c.SetReadDeadline(time.Time{})
		go func() { io.Copy(io.Discard, c); cancel() }() // until the client goes away
		reply, err = f(ctx, q.With)
	}
	if err == nil && reply != nil {
		a.Reply, err = json.Marshal(reply)
	}
	if errors.Is(err, unix.ESRCH) { // of a Controller
		err = ErrGone
	}
	if err != nil {
		a.Error = err.Error()
	}
	c.SetWriteDeadline(time.Now().Add(requestPatience))
	json.NewEncoder(c).Encode(a)
}

// calls are those that c can answer.
func calls(c Controller) map[string]call {
	m := map[string]call{
		"info":  func(context.Context, json.RawMessage) (any, error) { return c.Info(), nil },
		"stats": func(context.Context, json.RawMessage) (any, error) { return c.Stats() },
		"signal": with(func(_ context.Context, q signalRequest) (any, error) {
			if q.Signal < 1 || q.Signal > 64 {
				return nil, fmt.Errorf("%d is not a signal", q.Signal)
			}
			return nil, c.Signal(unix.Signal(q.Signal))
		}),
		"stop": with(func(_ context.Context, q stopRequest) (any, error) {
			c.Stop(time.Duration(max(q.TimeoutMS, 0)) * time.Millisecond)
			return nil, nil
		}),
	}
	f, ok := c.(FamilyController)
	if !ok {
		return m
	}
	m["members"] = func(context.Context, json.RawMessage) (any, error) { return f.Members(), nil }
	m["fork"] = func(ctx context.Context, _ json.RawMessage) (any, error) {
		pid, err := f.Fork(ctx)
		return forkReply{pid}, err
	}
	m["pause"] = with(func(_ context.Context, q pauseRequest) (any, error) { return nil, f.Pause(q.On) })
	m["snapshot"] = with(func(ctx context.Context, q SnapshotRequest) (any, error) {
		if !filepath.IsAbs(q.Path) {
			return nil, fmt.Errorf("%q is not an absolute path", q.Path)
		}
		return nil, f.Snapshot(ctx, q)
	})
	return m
}

// with makes a call of a function that wants something.
func with[T any](f func(context.Context, T) (any, error)) call {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var q T
		if err := json.Unmarshal(raw, &q); err != nil {
			return nil, fmt.Errorf("not a request: %w", err)
		}
		return f(ctx, q)
	}
}
