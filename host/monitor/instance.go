package monitor

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// An Instance is a pVM that was started. Its methods are safe for concurrent use.
type Instance struct {
	done chan struct{}
	exit Exit
}

// Start starts a pVM. Cancelling ctx kills it. An error means that the image
// never ran; a published port in use is such an error.
func Start(ctx context.Context, c Config) (*Instance, error) {
	return nil, errors.New("monitor: Start is not ready")
}

// Wait returns when the pVM has ended and all its output was written. It may be
// called any number of times.
func (i *Instance) Wait() Exit { <-i.done; return i.exit }

// Done is closed when Wait would return.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Signal delivers sig to the app as kill(2) would to a process. SIGKILL ends
// the pVM at once.
func (i *Instance) Signal(sig unix.Signal) error { return nil }

// Kill ends the pVM at once.
func (i *Instance) Kill() error { return nil }

// Stop sends the stop signal, waits up to timeout and then kills. It returns
// when the pVM has ended.
func (i *Instance) Stop(timeout time.Duration) Exit { return i.exit }

// Resize tells the app the new size of its terminal's window.
func (i *Instance) Resize(rows, cols uint16) error { return nil }

// Stats returns figures of this moment.
func (i *Instance) Stats() (Stats, error) { return Stats{}, nil }

// Info tells what is in force.
func (i *Instance) Info() Info { return Info{} }
