package monitor

import (
	"golang.org/x/sys/unix"

	"noyau.dev/host/process"
)

func init() { Register("process", processBackend{}) }

// processBackend runs an image as a host process under seccomp.
type processBackend struct{}

func (processBackend) Available() error { return process.Prepare() }

func (processBackend) Start(s *Spec) (Process, error) {
	p, err := process.Start(process.Spec{
		Image: s.Image, Args: s.Args, Env: s.Env, Files: s.Handles,
		Memory: s.Memory, CPU: s.CPU, Pids: s.Pids, Tick: s.Tick,
		Allow: process.Allow{
			SendAnywhere: s.NetOut,
			Clock:        process.ClockNeedsCall(),
			Fork:         s.Fork,
			Restore:      s.Restore,
		},
		Leash: s.Leash,
	})
	if err != nil {
		return nil, err
	}
	return hostProcess{p}, nil
}

// CanFork implements Forker.
func (processBackend) CanFork() {}

// CanRestore implements Restorer.
func (processBackend) CanRestore() {}

// hostProcess is a process.Process as this package knows it.
type hostProcess struct{ p *process.Process }

func (h hostProcess) Pid() int              { return h.p.PID() }
func (h hostProcess) Kill() error           { return h.p.Kill() }
func (h hostProcess) Stats() (Stats, error) { return procStats(h.p.PID()) }

func (h hostProcess) Expect() func()      { return h.p.Expect() }
func (h hostProcess) Pause(on bool) error { return h.p.Pause(on) }
func (h hostProcess) KillFamily() error   { return h.p.KillFamily() }
func (h hostProcess) Adopt(pid int) (Process, error) {
	p, err := h.p.Adopt(pid)
	if err != nil {
		return nil, err
	}
	return hostProcess{p}, nil
}

func (h hostProcess) Wait() Status {
	s, _ := h.p.Wait()
	return Status{Code: s.Code, Signal: unix.Signal(s.Signal), OOM: s.OOM}
}

func (h hostProcess) Sandbox() (inForce, missing []string) {
	r := h.p.Sandbox()
	return r.InForce, r.Missing
}
