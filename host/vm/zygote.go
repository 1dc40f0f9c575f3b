package vm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// The zygote of this process is a runner that has begun and has no machine, and is forked
// for each start that needs no limits of a control group: see runner.ZygoteEnv. A process
// that starts one virtual machine has none; the second start has it made, in the
// background, and from then on there is one, until none was started for a while. If it cannot
// be made starts are launches, which say what is wrong, and a later one tries again.
var zygotes struct {
	sync.Mutex
	starts int    // of this process
	z      *shell // nil: there is none
	making bool
	made   sync.Cond // making became false
	off    bool      // it is not wanted
	failed monitor.Backoff
	idle   *time.Timer
}

func init() { zygotes.made.L = &zygotes }

// zygoteIdle is how long a zygote is kept that nobody uses.
const zygoteIdle = time.Minute

// zygoteFilter is the list of system calls of zygotes.
var zygoteFilter = sync.OnceValues(func() (*process.Filter, error) { return process.NewFilter(ZygoteRules()) })

// Zygote makes the zygote now, for a process that knows that it will start virtual
// machines, and returns when it is ready; or lets it go, and has none made.
func Zygote(on bool) error {
	zygotes.Lock()
	defer zygotes.Unlock()
	for zygotes.making {
		zygotes.made.Wait()
	}
	if zygotes.off = !on; !on {
		dropZygote()
		return nil
	}
	if zygotes.z != nil {
		return nil
	}
	z, err := newZygote()
	keepZygote(z, err)
	return err
}

// wantZygote counts a start that is allowed this much.
func wantZygote(allow process.Allow) {
	zygotes.Lock()
	defer zygotes.Unlock()
	zygotes.starts++
	if zygotes.z != nil {
		spareSoon(allow)
		return
	}
	if zygotes.starts < 2 || zygotes.making || zygotes.off || !zygotes.failed.Over() {
		return
	}
	zygotes.making = true
	time.AfterFunc(aheadAfter, func() {
		z, err := newZygote()
		zygotes.Lock()
		defer zygotes.Unlock()
		zygotes.making = false
		zygotes.made.Broadcast()
		keepZygote(z, err)
	})
}

// keepZygote is called with the lock held.
func keepZygote(z *shell, err error) {
	if err != nil {
		zygotes.failed.Failed(err)
		return
	}
	zygotes.failed.Worked()
	zygotes.z = z
	if zygotes.idle == nil {
		zygotes.idle = time.AfterFunc(zygoteIdle, func() {
			zygotes.Lock()
			defer zygotes.Unlock()
			dropZygote()
		})
	}
	zygotes.idle.Reset(zygoteIdle)
}

// dropZygote is called with the lock held.
func dropZygote() {
	dropSpare()
	if zygotes.z != nil {
		zygotes.z.drop()
		zygotes.z = nil
	}
}

// newZygote launches a zygote and lets it make the one that is used, which has one thread.
func newZygote() (*shell, error) {
	f, err := zygoteFilter()
	if err != nil {
		return nil, err
	}
	spec := process.Spec{Args: []string{"zygote"}, Env: runner.ZygoteEnv(cpuid()), Filter: f, Zygote: true}
	first, err := launchShell(&spec)
	if err != nil {
		return nil, err
	}
	defer first.drop()
	if err := first.ready(); err != nil {
		return nil, err
	}
	z, err := first.bear(runner.ZygoteTwin(), &spec)
	if err != nil {
		return nil, err
	}
	if err := z.ready(); err != nil {
		z.drop()
		return nil, err
	}
	return z, nil
}

// bear makes a zygote fork, and takes the child over.
func (z *shell) bear(how []byte, spec *process.Spec) (*shell, error) {
	ours, its, err := monitor.MailboxPair()
	if err != nil {
		return nil, err
	}
	defer its.Close()
	child := func() (*process.Process, error) {
		if err := unix.Sendmsg(fdOf(z.mail), how, unix.UnixRights(fdOf(its)), nil, unix.MSG_NOSIGNAL); err != nil {
			return nil, fmt.Errorf("vm: the zygote: %w", err)
		}
		b, err := z.hear()
		if err != nil {
			return nil, err
		}
		pid, err := runner.ZygoteChild(b)
		if err != nil {
			return nil, err
		}
		return z.p.Born(pid, *spec)
	}
	p, err := child()
	if err != nil {
		ours.Close()
		return nil, err
	}
	return &shell{p, ours}, nil
}

// fromZygote runs an image in a process that the zygote makes for it, or that is there
// already. It returns nil without an error if there is none, or the pVM is not for one.
func fromZygote(s *monitor.Spec, page *timingPage) (*process.Process, error) {
	spec := &process.Spec{Allow: process.Allow{SendAnywhere: s.NetOut, Fork: s.Fork}, Leash: s.Leash, Files: s.Handles, Memory: s.Memory, CPU: s.CPU, Pids: s.Pids}
	sh, err := takeEarly(spec), error(nil)
	if sh == nil {
		sh = takeSpare(spec)
	}
	if sh == nil {
		sh, err = borne(runner.ZygoteRun, spec)
	}
	if sh == nil || err != nil {
		return nil, err
	}
	// It makes its machine meanwhile, or has one.
	o, err := newOrder(s, page, s.Args, s.Env)
	if err != nil {
		sh.drop()
		if errors.Is(err, runner.ErrOrderSize) {
			err = nil
		}
		return nil, err
	}
	if sh.run(o) != nil {
		sh.drop() // it has died already
		return nil, nil
	}
	return sh.p, nil
}

// limited reports whether a process of spec is in a control group with limits, into which
// nothing of a zygote's gets.
func limited(spec *process.Spec) bool { return spec.Memory != 0 || spec.CPU != 0 || spec.Pids != 0 }

// borne makes the zygote bear what the message that how makes says, which waits for its order
// then; pids asks for a pid namespace. It returns nothing and no error if there is no zygote,
// or this is not for one.
func borne(how func(pids bool) []byte, spec *process.Spec) (*shell, error) {
	if limited(spec) {
		return nil, nil
	}
	wantZygote(spec.Allow)
	var err error
	if spec.Filter == nil {
		if spec.Filter, err = filter(spec.Allow); err != nil {
			return nil, err
		}
	}
	zygotes.Lock()
	defer zygotes.Unlock()
	if zygotes.z == nil {
		return nil, nil
	}
	zygotes.idle.Reset(zygoteIdle)
	s, err := zygotes.z.bear(how(zygotes.z.p.MakesPIDs() && !spec.Allow.Fork), spec)
	if err != nil {
		dropZygote() // the next start has another made
		return nil, nil
	}
	return s, nil
}
