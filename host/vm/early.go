package vm

import (
	"sync"

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// early is a runner that was launched when this process began, for its first start.
var early struct {
	sync.Mutex
	coming chan *shell // nil: there is none
}

// Early launches a runner for the first start of this process, for a command that knows that it
// will start a pVM and not yet which: the two have their beginnings at the same time. It is for
// a start without limits of a control group, forks and free datagrams; another has it go, and is
// launched as ever. Nothing is said if there can be none: the start itself says what is wrong.
func Early() {
	early.Lock()
	defer early.Unlock()
	if early.coming != nil {
		return
	}
	coming := make(chan *shell, 1)
	early.coming = coming
	go func() {
		holdPilot()
		s, err := launchShell(&process.Spec{Args: []string{"early"}, Env: runner.EarlyEnv(cpuid())})
		if err != nil {
			s = nil
		}
		coming <- s
	}()
}

// takeEarly returns the early runner, or nil if there is none, or it is not for spec.
func takeEarly(spec *process.Spec) *shell {
	early.Lock()
	coming := early.coming
	early.coming = nil
	early.Unlock()
	if coming == nil {
		return nil
	}
	if limited(spec) || spec.Allow != (process.Allow{}) {
		go func() {
			if s := <-coming; s != nil {
				s.drop()
			}
		}()
		return nil
	}
	s := <-coming
	if s != nil && !monitor.NewMailbox(s.mail).Alive() {
		s.drop()
		return nil
	}
	return s
}
