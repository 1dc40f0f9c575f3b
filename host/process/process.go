package process

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A Process is an image that runs. Its methods are safe for concurrent use.
type Process struct {
	pid    int
	group  *group
	family *family // nil: it may not fork
	runner bool    // it is no image
	births births
	report Report
	zygote *zygote // nil: it is none

	mu    sync.Mutex
	pidfd int // -1 when the process was waited for

	once   sync.Once
	status Status
	usage  Usage
}

// Start launches an image. A nil error means that the image's first instruction
// is about to run. An error is a *StepError if a step of the launch failed.
//
// The image is killed when the thread ends that has launched it, so at the latest
// with this process. Go ends a thread only when a goroutine ends that is locked to
// it (runtime.LockOSThread): such a goroutine must not call Start.
func Start(s Spec) (*Process, error) {
	if err := check(&s); err != nil {
		return nil, err
	}
	j, err := theJail()
	if err != nil {
		return nil, err
	}
	if s.Zygote && !j.zygoteFits() {
		return nil, ErrNoZygote
	}
	g, err := newGroup(&s)
	if err != nil {
		return nil, err
	}
	p, err := launch(&s, j, g)
	if err != nil {
		g.remove()
		return nil, err
	}
	return p, nil
}

// check refuses what no launch could do and fills in defaults.
func check(s *Spec) (err error) {
	if s.Image == nil {
		return errors.New("process: no image")
	}
	if len(s.Files) > maxFiles {
		return fmt.Errorf("process: %d files for an image, at most %d are possible", len(s.Files), maxFiles)
	}
	for i, f := range s.Files {
		if f == nil {
			return fmt.Errorf("process: no file for descriptor %d", i)
		}
	}
	if n := len(s.Files) + 2; s.Handles != 0 && s.Handles < n {
		return fmt.Errorf("process: a limit of %d open descriptors, at least %d are needed", s.Handles, n)
	}
	for _, list := range [][]string{s.Args, s.Env} {
		for _, v := range list {
			if strings.IndexByte(v, 0) >= 0 {
				return fmt.Errorf("process: %q has a zero byte: not possible in arguments and environment", v)
			}
		}
	}
	if s.Leash != nil && (!s.Allow.Fork || len(s.Files) <= abi.HandleLeash) {
		return fmt.Errorf("process: a leash is for images that may fork and have a file %d", abi.HandleLeash)
	}
	if s.Filter == nil {
		s.Filter, err = imageFilter(s.Allow)
	}
	return err
}

// launch tries with everything that the machine is known to allow. What it then
// refuses is noted, and not tried again.
func launch(s *Spec, j *jail, g *group) (*Process, error) {
	opened, closeOpened, err := openSources(s, g)
	if err != nil {
		return nil, err
	}
	defer closeOpened()
	src, done, err := j.window.place(opened)
	if err != nil {
		return nil, err
	}
	defer done()
	for {
		if !j.clone3 && src.cgroup >= 0 {
			src.cgroup = -1
			g.refuse("clone3(2) is not allowed here")
		}
		plan := newPlan(s, j, src)
		err := plan.launch()
		runtime.KeepAlive(s)
		if err == nil {
			p := newProcess(s, j, g, plan)
			if s.Leash != nil {
				if err := p.family.hold(s.Leash, s.Files[abi.HandleLeash]); err != nil {
					p.Kill()
					p.Wait()
					return nil, err
				}
			}
			return p, nil
		}
		if j = less(j, g, src, plan, err); j == nil {
			return nil, err
		}
	}
}

// less gives up what has made a launch fail, if an image can do without. Each time
// there is less to give up. It returns the jail to try next, nil if there is none.
func less(j *jail, g *group, src *sources, p *plan, err error) *jail {
	var se *StepError
	if !errors.As(err, &se) || se.Errno == unix.EAGAIN || se.Errno == unix.ENOMEM {
		return nil
	}
	isClone := se.Step == "clone" || se.Step == "clone3"
	switch {
	case isClone && src.cgroup >= 0:
		src.cgroup = -1
		g.refuse(err.Error())
		return j
	case se.Step == stepProcs:
		src.procs = nil
		g.refuse(err.Error())
		return j
	case isClone && p.pidNS:
		return j.weaken("pid namespace: "+se.Errno.Error(), func(j *jail) { j.pidNS = false })
	case se.Step == stepChroot:
		return j.weaken("root: "+se.Errno.Error(), func(j *jail) { j.chroot = false })
	}
	for i, sp := range j.spaces {
		if se.Step == sp.step() {
			return j.weaken(sp.name+" namespace: "+se.Errno.Error(), func(j *jail) {
				j.spaces = slices.Delete(slices.Clone(j.spaces), i, i+1)
			})
		}
	}
	return nil
}

func newProcess(s *Spec, j *jail, g *group, p *plan) *Process {
	pr := &Process{pid: int(p.fail.pid), pidfd: int(p.pidfd), group: g, runner: !s.Filter.image, report: j.reportOf(s, g, p)}
	if s.Allow.Fork {
		pr.family = &family{pgid: pr.pid, members: 1, leash: -1}
	}
	if s.Zygote {
		pr.zygote = &zygote{j, p}
	}
	return pr
}

// PID is the number of the process on the host.
func (p *Process) PID() int { return p.pid }

// Sandbox says which protections are in force.
func (p *Process) Sandbox() Report { return p.report }

// Kill ends the process at once. It does nothing if it has ended.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return nil
	}
	if err := unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("process: kill %d: %w", p.pid, err)
	}
	return nil
}

// Wait returns when the process has ended. A few waits hold a thread, any more do not. It may be
// called any number of times, and must be called once to let go of the process.
func (p *Process) Wait() (Status, Usage) {
	p.once.Do(func() {
		if p.family != nil {
			p.status, p.usage = waitPidfd(p.pidfd, unix.WNOWAIT, p.runner)
			p.births.wait()
		} else {
			p.status, p.usage = waitPidfd(p.pidfd, 0, p.runner)
		}
		p.status.OOM = p.status.Signal == int(unix.SIGKILL) && p.group.outOfMemory()
		p.mu.Lock()
		last := p.family == nil || p.family.leave(p.pidfd)
		unix.Close(p.pidfd)
		p.pidfd = -1
		p.mu.Unlock()
		if last {
			p.group.remove()
		}
	})
	return p.status, p.usage
}
