package process

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// forker forks n times without asking anybody. All forks run for ever, and it ends.
func forker(n int) *code {
	c := new(code)
	for range n {
		c.sys(abi.CallFork, abi.ForkFlags, 0, 0, 0, 0)
		c.raw(0x85, 0xc0, 0x75, 0x02) // test eax, eax; jnz over
		c.raw(0xeb, 0xfe)             // in the child: jmp to itself
	}
	return c.exit(0)
}

func launchGuest(t *testing.T, c *code, s Spec) *Process {
	t.Helper()
	s.Image, s.Files = c.file(t), testFiles(t)
	defer os.Remove(s.Image.Name())
	defer s.Image.Close()
	defer closeAll(s.Files)
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestStrays: forks that nobody was told of end with the family.
func TestStrays(t *testing.T) {
	p := launchGuest(t, forker(20), Spec{Allow: Allow{Fork: true}})
	pgid := p.PID()
	if st, _ := p.Wait(); st != (Status{}) {
		t.Errorf("%+v", st)
	}
	if err := unix.Kill(-pgid, 0); err != unix.ESRCH {
		t.Errorf("the process group still exists: %v", err)
	}
}

// TestKillFamily ends strays while the first runs.
func TestKillFamily(t *testing.T) {
	guest := new(code).sys(abi.CallFork, abi.ForkFlags, 0, 0, 0, 0).raw(0xeb, 0xfe)
	p := launchGuest(t, guest, Spec{Allow: Allow{Fork: true}})
	if err := p.KillFamily(); err != nil {
		t.Error(err)
	}
	if st, _ := p.Wait(); st.Signal != int(unix.SIGKILL) {
		t.Errorf("%+v", st)
	}
	if err := p.KillFamily(); err != nil {
		t.Error(err)
	}
}

// TestAdopt refuses what is no fork of the image.
func TestAdopt(t *testing.T) {
	loop := new(code).raw(0xeb, 0xfe)
	p := launchGuest(t, loop, Spec{Allow: Allow{Fork: true}})
	other := launchGuest(t, loop, Spec{Allow: Allow{Fork: true}})
	plain := launchGuest(t, loop, Spec{})
	for what, pid := range map[string]int{
		"this process": os.Getpid(), "its parent": os.Getppid(), "process 1": 1, "another family": other.PID(), "another image": plain.PID(),
	} {
		if _, err := p.Adopt(pid); !errors.Is(err, ErrStranger) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := plain.Adopt(plain.PID()); !errors.Is(err, ErrStranger) {
		t.Errorf("an image that may not fork: %v", err)
	}
	for _, q := range []*Process{p, other, plain} {
		q.Kill()
		q.Wait()
	}
}

// TestForkForbidden: without the permission a clone ends the image.
func TestForkForbidden(t *testing.T) {
	if st := start(t, forker(1), Spec{}); st != killed {
		t.Errorf("%+v", st)
	}
	for _, guest := range []*code{
		new(code).sys(abi.CallFork, uint64(unix.SIGCHLD), 0, 0, 0, 0),             // not CLONE_PARENT
		new(code).sys(abi.CallFork, abi.ForkFlags|unix.CLONE_VM, 0, 0, 0, 0),      // a thread
		new(code).sys(abi.CallFork, abi.ForkFlags|unix.CLONE_NEWUSER, 0, 0, 0, 0), // a namespace
		new(code).sys(abi.CallPrctl, unix.PR_SET_DUMPABLE, 1),                     // looked into
		new(code).sys(abi.CallPrctl, unix.PR_SET_PDEATHSIG, 0),                    // outlive the monitor
		new(code).sys(abi.CallDup, 1, 9, 0),                                       // survive an exec
		new(code).sys(abi.CallItimer, unix.ITIMER_REAL, 0, 0),                     // another clock
	} {
		if st := start(t, guest.exit(survived), Spec{Allow: Allow{Fork: true}}); st != killed {
			t.Errorf("%+v", st)
		}
	}
}
