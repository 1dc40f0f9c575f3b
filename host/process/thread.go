package process

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// The kernel tells "the parent died" when the thread that made a process ends,
// and Go ends a thread when a goroutine that is locked to it ends. So all
// launches are made by one thread that never ends before the process does. It
// also makes them one at a time, which dropUser needs.
var launcher = sync.OnceValue(func() chan<- request {
	c := make(chan request)
	go func() {
		runtime.LockOSThread()
		for r := range c {
			r.done <- r.plan.launch()
		}
	}()
	return c
})

type request struct {
	plan *plan
	done chan error
}

func onThread(p *plan) error {
	r := request{p, make(chan error, 1)}
	launcher() <- r
	return <-r.done
}

// launch runs the plan. On an error nothing of it is left.
func (p *plan) launch() error {
	// A child that drops its user makes this process undumpable, as they share
	// memory. That is right while they do: nobody with the id of the child may
	// look into it. Afterwards it is as it was.
	dumpable := -1
	if p.drop != nil {
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

// noHugePages keeps huge pages from this process and all that it launches: an
// idle image touches a few pages here and there. The setting belongs to memory
// that a child shares with this process until it executes the image, and is
// inherited.
var noHugePages = sync.OnceFunc(func() { unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0) })
