package broker

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A snapshot is one that is being made.
type snapshot struct {
	one  sync.Mutex // held by Snapshot
	mu   sync.Mutex
	file *os.File   // to be given to the guest; nil: none is wanted
	done chan error // told when the guest has written it
}

// Snapshot asks the guest to write itself to f and returns when it has.
func (b *Broker) Snapshot(ctx context.Context, f *os.File) error {
	s := &b.snap
	s.one.Lock()
	defer s.one.Unlock()
	done := make(chan error, 1)
	s.mu.Lock()
	s.file, s.done = f, done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.file, s.done = nil, nil
		s.mu.Unlock()
	}()
	b.events.mu.Lock()
	b.events.snapshot = true
	b.events.mu.Unlock()
	if err := b.flush(); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-b.ctx.Done():
		return unix.ESRCH
	case <-ctx.Done():
		return ctx.Err()
	}
}

// doSnapshot gives the file, once.
func doSnapshot(r *request) (reply, error) {
	s := &r.b.snap
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return reply{}, unix.EPERM
	}
	fd := -1
	raw, err := s.file.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) })
		if err == nil {
			err = cerr
		}
	}
	if err != nil {
		return reply{}, err
	}
	s.file = nil
	return give(fd), nil
}

func doSnapshotted(r *request) (reply, error) {
	s := &r.b.snap
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil && s.file == nil {
		var err error
		if r.msg.B != 0 {
			err = unix.Errno(r.msg.B & 0xfff)
		}
		select {
		case s.done <- err:
		default:
		}
	}
	return reply{}, errNoReply
}
