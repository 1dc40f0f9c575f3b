package vm

import (
	"os"

	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// ZygotePID is the number of the zygote, 0 if there is none.
func ZygotePID() int {
	zygotes.Lock()
	defer zygotes.Unlock()
	if zygotes.z == nil {
		return 0
	}
	return zygotes.z.p.PID()
}

// SparePID is the number of the runner that was made ahead, 0 if there is none.
func SparePID() int {
	zygotes.Lock()
	defer zygotes.Unlock()
	if spare.s == nil {
		return 0
	}
	return spare.s.p.PID()
}

// EarlyPID waits for the runner that Early launches, and is its number.
func EarlyPID() int {
	early.Lock()
	defer early.Unlock()
	s := <-early.coming
	early.coming <- s
	if s == nil {
		return 0
	}
	return s.p.PID()
}

// NoSpares says whether runners are made ahead, for benchmarks of starts without.
func NoSpares(no bool) {
	zygotes.Lock()
	defer zygotes.Unlock()
	if spare.unmade = no; no {
		dropSpare()
	}
}

// An Infant was made by the zygote and has no order yet.
type Infant struct{ s *shell }

// Bear makes the zygote bear a runner; nil: there is no zygote.
func Bear() (*Infant, error) {
	s, err := borne(runner.ZygoteRun, &process.Spec{})
	if s == nil {
		return nil, err
	}
	return &Infant{s}, err
}

func (i *Infant) PID() int { return i.s.p.PID() }

// Kill ends it and waits for that.
func (i *Infant) Kill() { i.s.p.Kill(); i.s.p.Wait() }

// Drop lets go of it, and returns how it ended.
func (i *Infant) Drop() process.Status {
	i.s.mail.Close()
	st, _ := i.s.p.Wait()
	return st
}

// Order sends it what is in msg, with these descriptors.
func (i *Infant) Order(msg []byte, fds ...int) error { return i.s.run(&order{msg: msg, fds: fds}) }

// Wait returns how it ended.
func (i *Infant) Wait() process.Status { st, _ := i.s.p.Wait(); return st }

// FailShells has each shell that is to be made fail with err; nil: no more.
func FailShells(err error) {
	shells.Lock()
	defer shells.Unlock()
	makeShell = newShell
	if err != nil {
		makeShell = func(*os.File) (*shell, error) { return nil, err }
	}
}

// ShellsFailed is why the last shell could not be made.
func ShellsFailed() error {
	shells.Lock()
	defer shells.Unlock()
	return shells.failed.Err()
}

// EndPause ends the pause after a failure now.
func EndPause() {
	shells.Lock()
	defer shells.Unlock()
	shells.failed.Worked()
}
