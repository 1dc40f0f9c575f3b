// Package isolation connects the isolations to package monitor. Programs import it
// for its effect: all isolations of this build are then known by name.
package isolation

import (
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
)

func init() { monitor.Register("process", processes{}) }

// processes is isolation=process as a monitor's back-end.
type processes struct{}

func (processes) Available() error { return nil }

func (processes) Start(s *monitor.Spec) (monitor.Process, error) {
	p, err := process.Start(process.Spec{
		Image:  s.Image,
		Args:   s.Args,
		Env:    s.Env,
		Files:  s.Handles,
		Memory: s.Memory,
		Pids:   s.Pids,
		Tick:   s.Tick,
		Allow: process.Allow{
			SendAnywhere: s.NetOut,
			Clock:        process.ClockNeedsCall(),
			Fork:         s.Fork,
		},
	})
	if err != nil {
		return nil, err
	}
	return running{p}, nil
}

// running is a process.Process as package monitor wants it.
type running struct{ p *process.Process }

func (r running) Pid() int    { return r.p.PID() }
func (r running) Kill() error { return r.p.Kill() }

func (r running) Wait() monitor.Status {
	s, _ := r.p.Wait()
	return monitor.Status{Code: s.Code, Signal: unix.Signal(s.Signal), OOM: s.OOM}
}

func (r running) Sandbox() (inForce, missing []string) {
	rep := r.p.Sandbox()
	return rep.InForce, rep.Missing
}

func (r running) Stats() (monitor.Stats, error) {
	var s monitor.Stats
	cpu, err := cpuTime(r.p.PID())
	if err != nil {
		return s, err
	}
	s.CPU = time.Duration(cpu) * time.Second / clockTicks
	s.RSS, s.PrivateDirty, err = memoryOf(r.p.PID())
	return s, err
}
