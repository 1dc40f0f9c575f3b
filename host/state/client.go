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
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Client controls a running pVM through its monitor.
type Client struct{ path string }

// ErrGone means that the monitor does not answer, or says so itself: the pVM has just ended.
var ErrGone = errors.New("the pVM has ended")

// Control returns a client for the entry's monitor. It connects when used.
func (e *Entry) Control() *Client {
	if e.Status.Socket != "" {
		return &Client{e.Status.Socket}
	}
	return &Client{e.SocketPath()}
}

// Info decodes what is in force into v.
func (c *Client) Info(ctx context.Context, v any) error { return c.call(ctx, "info", nil, v) }

// Stats decodes the figures of this moment into v.
func (c *Client) Stats(ctx context.Context, v any) error { return c.call(ctx, "stats", nil, v) }

// Signal delivers sig to the app.
func (c *Client) Signal(ctx context.Context, sig unix.Signal) error {
	return c.call(ctx, "signal", signalRequest{int(sig)}, nil)
}

// Members decodes the list of the family into v.
func (c *Client) Members(ctx context.Context, v any) error {
	return c.call(ctx, "members", nil, v)
}

// Fork copies the pVM and returns the id of the copy inside the family.
func (c *Client) Fork(ctx context.Context) (int, error) {
	var r forkReply
	err := c.call(ctx, "fork", nil, &r)
	return r.PID, err
}

// Pause stops the pVM and its forks, or lets them go on.
func (c *Client) Pause(ctx context.Context, on bool) error {
	return c.call(ctx, "pause", pauseRequest{on}, nil)
}

// Snapshot writes the pVM to a file.
func (c *Client) Snapshot(ctx context.Context, q SnapshotRequest) error {
	return c.call(ctx, "snapshot", q, nil)
}

// Stop sends the stop signal, waits up to timeout, kills, and returns when the
// pVM has ended.
func (c *Client) Stop(ctx context.Context, timeout time.Duration) error {
	return c.call(ctx, "stop", stopRequest{timeout.Milliseconds()}, nil)
}

func (c *Client) call(ctx context.Context, what string, in, out any) error {
	q := request{Call: what}
	if in != nil {
		var err error
		if q.With, err = json.Marshal(in); err != nil {
			return err
		}
	}
	var a answer
	switch err := c.exchange(ctx, q, &a); {
	case err == nil:
	case ctx.Err() != nil:
		return fmt.Errorf("monitor at %s: %w", c.path, ctx.Err())
	case gone(err):
		return ErrGone
	default:
		return fmt.Errorf("monitor at %s: %w", c.path, err)
	}
	switch a.Error {
	case "":
	case ErrGone.Error():
		return ErrGone
	default:
		return errors.New(a.Error)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(a.Reply, out)
}

// exchange sends a request and reads its answer.
func (c *Client) exchange(ctx context.Context, q request, a *answer) error {
	dir, err := os.Open(filepath.Dir(c.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", shortPath(dir, c.path))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return err
	}
	err = json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(a)
	if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
		return errors.New("its answer is not understood; it was started by another version of noyau: stop it with that, or kill it")
	}
	return err
}

// gone says whether err is of a monitor that has gone away, perhaps while it answered.
func gone(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.ENOENT, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
