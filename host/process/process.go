package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Process is an image that runs. Its methods are safe for concurrent use.
type Process struct {
	pid    int
	pidfd  *os.File
	group  *group
	report Report

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
	if s.Filter == nil {
		s.Filter, err = imageFilter(s.Allow)
	}
	return err
}

// launch tries with everything that the machine is known to allow. What it then
// refuses is noted, and not tried again.
func launch(s *Spec, j *jail, g *group) (*Process, error) {
	src, done, err := openSources(s, g)
	if err != nil {
		return nil, err
	}
	defer done()
	noHugePages()
	for {
		j.mu.Lock()
		pidNS, clone3 := j.pidNS && (j.root || j.has("user")) && !s.Allow.Fork, j.clone3
		j.mu.Unlock()
		if !clone3 && src.cgroup >= 0 {
			src.cgroup = -1
			g.refuse("clone3 is not allowed here")
		}
		plan := newPlan(s, j, src, pidNS, clone3)
		err := plan.launch()
		runtime.KeepAlive(s)
		if err == nil {
			return newProcess(s, j, g, plan)
		}
		if !retry(j, g, src, plan, err) {
			return nil, err
		}
	}
}

// retry decides whether to try again with less.
func retry(j *jail, g *group, src *sources, p *plan, err error) bool {
	var se *StepError
	if !errors.As(err, &se) {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case se.Step == "clone3" && p.clone3 && (se.Errno == unix.ENOSYS || se.Errno == unix.EPERM && !p.pidNS):
		j.clone3 = false
	case se.Step == "clone3" && src.cgroup >= 0:
		src.cgroup = -1
		g.refuse(err.Error())
	case se.Step == "enter the control group":
		src.procs = nil
		g.refuse(err.Error())
	case (se.Step == "clone" || se.Step == "clone3") && p.pidNS && se.Errno != unix.EAGAIN && se.Errno != unix.ENOMEM:
		j.pidNS = false
		j.missing = append(j.missing, "pid namespace: "+se.Errno.Error())
	default:
		return false
	}
	return true
}

func newProcess(s *Spec, j *jail, g *group, p *plan) (*Process, error) {
	fd := int(p.pidfd)
	unix.SetNonblock(fd, true)
	proc := &Process{pidfd: os.NewFile(uintptr(fd), "pidfd"), group: g}
	proc.pid = int(p.fail.pid)
	proc.report = j.reportOf(s, g, p)
	return proc, nil
}

// PID is the number of the process on the host.
func (p *Process) PID() int { return p.pid }

// Sandbox says which protections are in force.
func (p *Process) Sandbox() Report { return p.report }

// Kill ends the process at once. It does nothing if it has ended.
func (p *Process) Kill() error {
	rc, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sig error
	if rc.Control(func(fd uintptr) { sig = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }) != nil {
		return nil // closed: it was waited for
	}
	if sig == unix.ESRCH {
		return nil
	}
	return sig
}

// Wait returns when the process has ended. It holds no thread meanwhile, may be
// called any number of times, and must be called once to let go of the process.
func (p *Process) Wait() (Status, Usage) {
	p.once.Do(func() {
		p.status, p.usage = waitPidfd(p.pidfd)
		p.pidfd.Close()
		p.status.OOM = p.status.Signal == int(unix.SIGKILL) && p.group.outOfMemory()
		p.group.remove()
	})
	return p.status, p.usage
}
