package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/state"
)

// A session is a running pVM together with its entry in the state directory
// and its control socket. Foreground and detached pVMs have one alike.
type session struct {
	*listing // nil: it is never listed
	inst     *monitor.Instance
	control  *state.ControlServer
	listed   func()        // returns when it is known whether it will be listed
	ended    chan struct{} // closed when the entry says how it ended
	status   sync.Mutex    // of the entry, while others can pause it
}

// startSession starts the pVM. On error nothing of it is left but the entry.
func startSession(c monitor.Config, l *listing) (*session, error) {
	inst, err := monitor.Start(context.Background(), c)
	if err != nil {
		return nil, err
	}
	s := &session{listing: l, inst: inst, listed: func() {}, ended: make(chan struct{})}
	switch {
	case l == nil:
	case l.entry == nil:
		s.listed = after(listedAfter, func() {
			if l.enter() == nil && s.open() != nil {
				l.discard()
			}
		})
	default:
		if err := s.open(); err != nil {
			inst.Kill()
			inst.Wait()
			return nil, err
		}
	}
	return s, nil
}

// after calls f after a time, unless the function that it returns is called before; that
// one otherwise waits for f.
func after(d time.Duration, f func()) func() {
	done := make(chan struct{})
	t := time.AfterFunc(d, func() { defer close(done); f() })
	return func() {
		if !t.Stop() {
			<-done
		}
	}
}

// open makes the pVM, which has an entry, known to other commands.
func (s *session) open() (err error) {
	if s.control, err = state.StartControl(s.entry.SocketPath(), s); err != nil {
		return err
	}
	if err = s.entry.SetStatus(s.running()); err != nil {
		s.control.Close()
	}
	return err
}

// running is the status of the pVM now that it runs.
func (s *session) running() state.Status {
	info := s.inst.Info()
	st := state.Status{
		Phase:     state.Running,
		Monitor:   state.Self(),
		Socket:    s.entry.SocketPath(),
		PID:       info.Pid,
		Isolation: info.Isolation,
		Started:   info.Started,
	}
	for _, p := range info.Ports {
		st.Ports = append(st.Ports, p.String())
	}
	return st
}

// wait returns when the pVM has ended and this is on record.
func (s *session) wait() (monitor.Exit, error) {
	exit := s.inst.Wait()
	s.listed()
	if s.listing == nil || s.entry == nil {
		return exit, nil
	}
	s.status.Lock()
	st := s.entry.Status
	st.Paused = false
	st.Phase, st.Finished, st.ExitCode, st.Error = state.Exited, time.Now(), exit.Code, exit.Reason
	err := s.entry.SetStatus(st)
	s.status.Unlock()
	if s.entry.Meta.AutoRemove || !s.entry.Meta.Detached {
		err = s.dir.Discard(s.entry)
	}
	close(s.ended)
	s.control.Close()
	return exit, err
}

// Info implements state.Controller, as do the others.
func (s *session) Info() any { return s.inst.Info() }

func (s *session) Stats() (any, error) {
	st, err := s.inst.Stats()
	return st, err
}

func (s *session) Signal(sig unix.Signal) error { return s.inst.Signal(sig) }

// Members implements state.FamilyController, as do Fork and Pause.
func (s *session) Members() any { return s.inst.Members() }

func (s *session) Fork(ctx context.Context) (int, error) { return s.inst.Fork(ctx) }

func (s *session) Snapshot(ctx context.Context, q state.SnapshotRequest) error {
	return s.inst.Snapshot(ctx, q.Path, monitor.SnapshotOptions{Compress: q.Compress, Alone: q.Alone})
}

func (s *session) Pause(on bool) error {
	s.status.Lock()
	defer s.status.Unlock()
	if err := s.inst.Pause(on); err != nil {
		return err
	}
	st := s.entry.Status
	if st.Phase != state.Running {
		return nil // it has just ended
	}
	st.Paused = on
	return s.entry.SetStatus(st)
}

func (s *session) Stop(timeout time.Duration) {
	s.inst.Stop(timeout)
	<-s.ended
}
