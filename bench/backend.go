package main

import (
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
)

func init() { monitor.Register("process", processBackend{}) }

// processBackend makes package process an isolation of package monitor, as the
// noyau command does.
type processBackend struct{}

func (processBackend) Available() error { return process.Prepare() }

func (processBackend) Start(s *monitor.Spec) (monitor.Process, error) {
	p, err := process.Start(process.Spec{
		Image: s.Image, Args: s.Args, Env: s.Env, Files: s.Handles,
		Memory: s.Memory, Pids: s.Pids, Tick: s.Tick,
		Allow: process.Allow{SendAnywhere: s.NetOut, Fork: s.Fork, Clock: process.ClockNeedsCall()},
	})
	if err != nil {
		return nil, err
	}
	return runningProcess{p}, nil
}

type runningProcess struct{ *process.Process }

func (p runningProcess) Pid() int { return p.PID() }

func (p runningProcess) Wait() monitor.Status {
	st, _ := p.Process.Wait()
	return monitor.Status{Code: st.Code, Signal: unix.Signal(st.Signal), OOM: st.OOM}
}

func (p runningProcess) Sandbox() (inForce, missing []string) {
	r := p.Process.Sandbox()
	return r.InForce, r.Missing
}

func (p runningProcess) Stats() (s monitor.Stats, err error) {
	if s.PrivateDirty, err = privateDirty(p.PID()); err != nil {
		return s, err
	}
	if s.RSS, err = smaps(p.PID(), "Rss:"); err != nil {
		return s, err
	}
	var cpu time.Duration
	cpu, err = cpuTime(p.PID())
	s.CPU = cpu
	return s, err
}
