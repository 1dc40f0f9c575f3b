package process

import (
	"sync"

	"golang.org/x/sys/unix"
)

// one makes launches that drop the user of root one at a time.
var one sync.Mutex

// launch runs the plan. On an error nothing of it is left.
func (p *plan) launch() error {
	// A child that drops its user makes this process undumpable, as they share
	// memory. That is right while they do: nobody with the id of the child may
	// look into it. Afterwards it is as it was.
	dumpable := -1
	if p.drop != nil {
		one.Lock() // a second child may still share memory when this one no longer does
		defer one.Unlock()
		dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	}
	pid, err := p.run(&p.fail)
	if dumpable == 1 {
		unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
	if pid == 0 {
		return err // not even a clone
	}
	if p.double {
		reap(pid)
	} else {
		p.fail.pid = uintptr(pid)
	}
	if err != nil && p.fail.pid != 0 {
		if p.pidfd >= 0 {
			unix.Close(int(p.pidfd))
		}
		reap(int(p.fail.pid))
	}
	return err
}
