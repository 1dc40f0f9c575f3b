package vm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// A shell is a runner that waits for an image: see runner.ShellEnv.
type shell struct {
	p    *process.Process
	mail *os.File
}

// An identity tells one state of a file from any other.
type identity struct{ dev, ino, size, mtime, ctime int64 }

func identify(f *os.File) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fdOf(f), &st); err != nil {
		return identity{}, fmt.Errorf("vm: the image: %w", err)
	}
	return identity{int64(st.Dev), int64(st.Ino), st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, nil
}

// shells are those that wait. One goroutine makes new ones, one by one.
var shells struct {
	sync.Mutex
	want   int
	image  *os.File // that they have loaded; nil: none
	is     identity
	ready  []*shell
	making bool
	idle   sync.Cond       // making became false
	failed monitor.Backoff // of the last one that was made
}

func init() { shells.idle.L = &shells }

// Keep makes this process hold n runners ready whose virtual machine exists, so
// that a start needs no launch; 0 lets them go. With the path of an image they have
// loaded it, and serve that alone; with "" they wait for any. A shell serves a pVM
// without limits of the host's control group (memory, processors, processes) and
// without free datagrams; others are started as ever. Each shell that is taken is
// replaced in the background; if it cannot be made now, a later start tries again: see
// monitor.Backoff. Keep returns when n are ready.
func Keep(n int, image string) error {
	var f *os.File
	var is identity
	var err error
	if image != "" && n > 0 {
		if f, err = os.Open(image); err != nil {
			return fmt.Errorf("vm: shells: %w", err)
		}
		if is, err = identify(f); err != nil {
			f.Close()
			return err
		}
	}
	shells.Lock()
	defer shells.Unlock()
	for shells.making {
		shells.want = 0
		shells.idle.Wait()
	}
	if is != shells.is {
		drop(0)
	}
	if shells.image != nil {
		shells.image.Close()
	}
	shells.image, shells.is, shells.want = f, is, n
	shells.failed = monitor.Backoff{}
	drop(n)
	refill()
	for shells.making {
		shells.idle.Wait()
	}
	return shells.failed.Err()
}

// drop lets go of shells until n are left. It is called with the lock held.
func drop(n int) {
	for len(shells.ready) > n {
		last := len(shells.ready) - 1
		shells.ready[last].drop()
		shells.ready = shells.ready[:last]
	}
}

// Ready is the number of shells that wait.
func Ready() int {
	shells.Lock()
	defer shells.Unlock()
	return len(shells.ready)
}

// refill is called with the lock held.
func refill() {
	if shells.making || len(shells.ready) >= shells.want || !shells.failed.Over() {
		return
	}
	shells.making = true
	go func() {
		shells.Lock()
		defer shells.Unlock()
		for len(shells.ready) < shells.want && shells.failed.Over() {
			image, one := shells.image, makeShell
			shells.Unlock()
			s, err := one(image)
			shells.Lock()
			if err == nil {
				shells.failed.Worked()
			}
			switch {
			case err != nil:
				shells.failed.Failed(err)
			case len(shells.ready) >= shells.want:
				s.drop()
			default:
				shells.ready = append(shells.ready, s)
			}
		}
		shells.making = false
		shells.idle.Broadcast()
	}()
}

// makeShell is newShell; tests have it fail.
var makeShell = newShell

func newShell(image *os.File) (*shell, error) {
	spec := &process.Spec{Args: []string{"shell"}, Env: runner.ShellEnv(cpuid())}
	s, err := startShell(runner.ZygoteShell, spec)
	if err == nil && image != nil {
		err = s.load(ready(image))
	}
	return s, err
}

// startShell returns a runner that waits, from the zygote if it can make this one.
func startShell(how func(pids bool) []byte, spec *process.Spec) (*shell, error) {
	s, err := borne(how, spec)
	if s == nil && err == nil {
		s, err = launchShell(spec)
	}
	if err != nil {
		return nil, err
	}
	if err := s.ready(); err != nil {
		s.drop()
		return nil, err
	}
	return s, nil
}

// load lets a shell load an image.
func (s *shell) load(image *os.File) error {
	err := unix.Sendmsg(fdOf(s.mail), runner.ShellImage(), unix.UnixRights(fdOf(image)), nil, unix.MSG_NOSIGNAL)
	if err == nil {
		err = s.ready()
	}
	runtime.KeepAlive(image)
	if err != nil {
		s.drop()
	}
	return err
}

// launchShell launches a runner that waits.
func launchShell(spec *process.Spec) (*shell, error) {
	kvm, err := openKVM()
	if err != nil {
		return nil, err
	}
	defer kvm.Close()
	ours, its, err := monitor.MailboxPair()
	if err != nil {
		return nil, err
	}
	defer its.Close()
	spec.Files = []*os.File{its, kvm, its}
	p, err := launch(spec)
	if err != nil {
		ours.Close()
		return nil, err
	}
	return &shell{p, ours}, nil
}

// hear waits for a message of the shell, and returns an empty one when it has ended.
func (s *shell) hear() ([]byte, error) {
	b := make([]byte, 512)
	for {
		n, _, err := unix.Recvfrom(fdOf(s.mail), b, 0)
		if err != unix.EINTR {
			return b[:max(n, 0)], err
		}
	}
}

// ready waits for the shell's word that it is; one that cannot go on says why.
func (s *shell) ready() error {
	b, err := s.hear()
	if err != nil || string(b) != runner.ShellReady {
		return fmt.Errorf("vm: a shell did not start: %s (%v)", strings.TrimSpace(string(b)), err)
	}
	return nil
}

// drop ends a shell that is of no use any more.
func (s *shell) drop() {
	s.mail.Close()
	s.p.Kill()
	go s.p.Wait()
}

// fromShell runs an image in a shell. It returns nil without an error if there is
// none that fits.
func fromShell(s *monitor.Spec, page *timingPage) (*process.Process, error) {
	if s.Memory != 0 || s.CPU != 0 || s.Pids != 0 || s.NetOut || s.Fork || !someReady() {
		return nil, nil
	}
	o, err := newOrder(s, page, s.Args, s.Env)
	if err != nil {
		if errors.Is(err, runner.ErrOrderSize) {
			err = nil
		}
		return nil, err
	}
	is, err := identify(s.Image)
	if err != nil {
		return nil, err
	}
	for {
		sh := take(is)
		if sh == nil {
			return nil, nil
		}
		if sh.run(o) == nil {
			return sh.p, nil
		}
		sh.drop() // it has died while it waited
	}
}

// An order is what makes a shell run an image: runner.ShellOrder's message, and the
// descriptors that go with it.
type order struct {
	msg   []byte
	fds   []int
	image *os.File // whose descriptor is among fds
}

func newOrder(s *monitor.Spec, page *timingPage, args, env []string) (*order, error) {
	msg, err := runner.ShellOrder(len(s.Handles), page != nil, s.Options["stats"] != "", args, env, s.Touch)
	if err != nil {
		return nil, err
	}
	fds := make([]int, 0, len(s.Handles)+2)
	for _, f := range s.Handles {
		fds = append(fds, fdOf(f))
	}
	image := best(s.Image)
	fds = append(fds, fdOf(image))
	if page != nil {
		fds = append(fds, fdOf(page.file))
	}
	return &order{msg, fds, image}, nil
}

// run sends the shell its order. It waits for no other then.
func (s *shell) run(o *order) error {
	err := unix.Sendmsg(fdOf(s.mail), o.msg, unix.UnixRights(o.fds...), nil, unix.MSG_NOSIGNAL)
	runtime.KeepAlive(o.image)
	if err == nil {
		s.mail.Close()
	}
	return err
}

// aheadAfter is when what a start has taken or asks for is made: making it must not slow
// down that start.
const aheadAfter = 5 * time.Millisecond

func refillSoon() {
	time.AfterFunc(aheadAfter, func() {
		shells.Lock()
		defer shells.Unlock()
		refill()
	})
}

// someReady reports whether a shell waits. If none does which should, it has that tried again.
func someReady() bool {
	shells.Lock()
	defer shells.Unlock()
	if len(shells.ready) == 0 && shells.want > 0 {
		refillSoon()
	}
	return len(shells.ready) > 0
}

func take(is identity) *shell {
	shells.Lock()
	defer shells.Unlock()
	refillSoon()
	if len(shells.ready) == 0 || shells.image != nil && shells.is != is {
		return nil
	}
	s := shells.ready[0]
	shells.ready = shells.ready[1:]
	return s
}

// fdOf is f's descriptor, -1 if it is closed; unlike f.Fd it leaves it nonblocking.
func fdOf(f *os.File) int {
	fd := -1
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}
