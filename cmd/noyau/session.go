package main

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/state"
)

// A session is a running pVM together with its entry in the state directory
// and its control socket. Foreground and detached pVMs have one alike.
type session struct {
	inst    *monitor.Instance
	dir     *state.Dir
	entry   *state.Entry // nil: not registered
	control *state.ControlServer
	ended   chan struct{} // closed when the entry says how it ended
}

// startSession starts the pVM. On error nothing of it is left but the entry.
func startSession(c monitor.Config, d *state.Dir, e *state.Entry) (*session, error) {
	inst, err := monitor.Start(context.Background(), c)
	if err != nil {
		return nil, err
	}
	s := &session{inst: inst, dir: d, entry: e, ended: make(chan struct{})}
	if e == nil {
		return s, nil
	}
	if s.control, err = state.StartControl(e.SocketPath(), s); err == nil {
		err = e.SetStatus(s.running())
	}
	if err != nil {
		inst.Kill()
		inst.Wait()
		if s.control != nil {
			s.control.Close()
		}
		return nil, err
	}
	return s, nil
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
	if s.entry == nil {
		return exit, nil
	}
	st := s.entry.Status
	st.Phase, st.Finished, st.ExitCode, st.Error = state.Exited, time.Now(), exit.Code, exit.Reason
	err := s.entry.SetStatus(st)
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

func (s *session) Pause(on bool) error { return s.inst.Pause(on) }

func (s *session) Stop(timeout time.Duration) {
	s.inst.Stop(timeout)
	<-s.ended
}
