package process

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A family is an image and what it has forked. All are children of this process, and
// stay in the process group of the first: nothing that an image may call changes the
// group. So the group is the family, those members included that nobody was told of.
type family struct {
	pgid  int
	leash int // the writing end, or -1: see hold

	mu      sync.Mutex
	members int // that somebody waits for
}

// ErrStranger is what Adopt says of a process that is no fork of the image.
var ErrStranger = errors.New("process: not a process of this family")

// Expect announces a fork of p. Until done is called, which must happen when the fork
// was adopted or did not come to be, p is not waited for.
func (p *Process) Expect() (done func()) {
	p.births.add(1)
	return sync.OnceFunc(func() { p.births.add(-1) })
}

// births counts the forks that are expected. It is no sync.WaitGroup: what a process
// has said before its end is answered while somebody waits already.
type births struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0; nil: nobody waits
}

func (b *births) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n += n; b.n == 0 && b.none != nil {
		close(b.none)
		b.none = nil
	}
}

func (b *births) wait() {
	b.mu.Lock()
	if b.n == 0 {
		b.mu.Unlock()
		return
	}
	if b.none == nil {
		b.none = make(chan struct{})
	}
	none := b.none
	b.mu.Unlock()
	<-none
}

// hold makes the end of this process kill the family. A process that dies with its
// parent says so itself (PR_SET_PDEATHSIG), and a hostile fork does not. But the
// kernel signals what happens to a pipe to a process group, if it is asked to, as long as
// the pipe is open somewhere; every fork has its reading end open, and the filter keeps it
// so. Nothing is ever written to it.
func (f *family) hold(write, read *os.File) error {
	fd, err := number(read)
	if err != nil {
		return fmt.Errorf("process: leash: %w", err)
	}
	for _, c := range []struct {
		name     string
		cmd, arg int
	}{
		{"owner", unix.F_SETOWN, -f.pgid},
		{"signal", unix.F_SETSIG, int(unix.SIGKILL)},
		{"mode", unix.F_SETFL, unix.O_ASYNC | unix.O_NONBLOCK},
	} {
		if _, err := unix.FcntlInt(uintptr(fd), c.cmd, c.arg); err != nil {
			return fmt.Errorf("process: %s of the leash of %d: %w", c.name, f.pgid, err)
		}
	}
	if fd, err = number(write); err == nil {
		fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		return fmt.Errorf("process: leash: %w", err)
	}
	f.leash = aboveHandles(fd)
	return nil
}

// Adopt makes a Process of a fork of the image. pid comes from the kernel.
func (p *Process) Adopt(pid int) (*Process, error) {
	f := p.family
	if f == nil {
		return nil, ErrStranger
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process: fork %d: %w", pid, err)
	}
	fd = aboveHandles(fd)
	// The pidfd is of this family only if the process is a child of ours and of the
	// group. It cannot be another with the same number: that could not be before
	// this process has waited for the first.
	group, err := unix.Getpgid(pid)
	if err != nil || group != f.pgid || !isChild(fd) {
		unix.Close(fd)
		return nil, ErrStranger
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.members == 0 {
		unix.Close(fd)
		return nil, ErrStranger
	}
	f.members++
	return &Process{pid: pid, pidfd: fd, group: p.group, family: f, runner: p.runner, report: p.report}, nil
}

// isChild says whether somebody waits for the process behind fd, and that is us.
func isChild(fd int) bool {
	return unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil) == nil
}

// KillFamily ends all members at once, known or not.
func (p *Process) KillFamily() error {
	f := p.family
	if f == nil {
		return p.Kill()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.members == 0 {
		return nil // the number may be another's by now
	}
	if err := unix.Kill(-f.pgid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("process: kill the group of %d: %w", f.pgid, err)
	}
	return nil
}

// Pause stops the process, and all that it has forked, or lets them go on.
func (p *Process) Pause(on bool) error {
	sig := unix.SIGCONT
	if on {
		sig = unix.SIGSTOP
	}
	var err error
	if f := p.family; f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.members == 0 {
			return unix.ESRCH
		}
		err = unix.Kill(-f.pgid, sig)
	} else {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.pidfd < 0 {
			return unix.ESRCH
		}
		err = unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
	}
	if err != nil {
		return fmt.Errorf("process: %s to %d: %w", unix.SignalName(sig), p.pid, err)
	}
	return nil
}

// leave reaps the process behind fd, which has ended. With the last that is known it
// ends those that are not, and reports true.
func (f *family) leave(fd int) (last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members--
	if f.members > 0 {
		waitFor(unix.P_PIDFD, fd)
		return false
	}
	// Until it is reaped its number, and so that of the group, is nobody else's.
	unix.Kill(-f.pgid, unix.SIGKILL)
	for waitFor(unix.P_PGID, f.pgid) == nil {
	}
	if f.leash >= 0 {
		unix.Close(f.leash)
	}
	return true
}

func waitFor(what, id int) error {
	for {
		err := unix.Waitid(what, id, nil, unix.WEXITED|unix.WALL, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
