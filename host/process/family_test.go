package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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

// TestLeash: forks that do not ask to die with the monitor do, however it ends.
func TestLeash(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestFamilyRole$", "-test.v")
	if os.Getenv(roleVar) == "" {
		cmd.Env = append(os.Environ(), roleVar+"=family")
	} else {
		cmd.Env = append(os.Environ(), roleVar+"=unprivileged family")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pgid := 0
	for s := bufio.NewScanner(out); pgid == 0 && s.Scan(); {
		fmt.Sscanf(s.Text(), "group %d", &pgid)
	}
	if pgid == 0 {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal("the monitor has started no family")
	}
	if n := running(t, pgid); n != 3 {
		t.Errorf("%d forks run, want 3", n)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for range 500 {
		if running(t, pgid) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("forks live on without their monitor")
	unix.Kill(-pgid, unix.SIGKILL)
}

// TestFamilyRole is not a test: it is the monitor that TestLeash kills. The first image
// has ended then, and what it has forked has never said anything to anybody.
func TestFamilyRole(t *testing.T) {
	if !strings.HasSuffix(os.Getenv(roleVar), "family") {
		t.Skip("a part of TestLeash")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	guest := forker(3)
	image := guest.file(t)
	p, err := Start(Spec{Image: image, Files: append(testFiles(t), r), Allow: Allow{Fork: true}, Leash: w})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	os.Remove(image.Name())
	for range 500 {
		if running(t, p.PID()) == 3 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("group %d\n", p.PID())
	time.Sleep(time.Minute)
	w.Close()
}

// running counts the processes of a group that have not ended.
func running(t *testing.T, pgid int) (n int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if f[2] == strconv.Itoa(pgid) && f[0] != "Z" && f[0] != "X" {
			n++
		}
	}
	return n
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

// TestForkForbidden: without the permission a clone ends the image, and so does what only families do.
func TestForkForbidden(t *testing.T) {
	if st := start(t, forker(1), Spec{}); st != killed {
		t.Errorf("%+v", st)
	}
	yield := func() *code { return new(code).sys(abi.CallYield).exit(7) }
	if st := start(t, yield(), Spec{}); st != killed {
		t.Errorf("giving way without a family: %+v", st)
	}
	if st := start(t, yield(), Spec{Allow: Allow{Fork: true}}); st.Code != 7 {
		t.Errorf("giving way in a family: %+v", st)
	}
	for _, guest := range []*code{
		new(code).sys(abi.CallFork, uint64(unix.SIGCHLD), 0, 0, 0, 0),             // not CLONE_PARENT
		new(code).sys(abi.CallFork, abi.ForkFlags|unix.CLONE_VM, 0, 0, 0, 0),      // a thread
		new(code).sys(abi.CallFork, abi.ForkFlags|unix.CLONE_NEWUSER, 0, 0, 0, 0), // a namespace
		new(code).sys(abi.CallPrctl, unix.PR_SET_DUMPABLE, 1),                     // looked into
		new(code).sys(abi.CallPrctl, unix.PR_SET_PDEATHSIG, 0),                    // outlive the monitor
		new(code).sys(abi.CallDup, 1, 9, 0),                                       // survive an exec
		new(code).sys(abi.CallClose, abi.HandleLeash),                             // outlive it otherwise
		new(code).sys(abi.CallClose, 1<<32|abi.HandleLeash),                       // the kernel looks at 32 bits
		new(code).sys(abi.CallDup, 1, abi.HandleLeash, unix.O_CLOEXEC),            // as closing it
		new(code).sys(abi.CallItimer, unix.ITIMER_REAL, 0, 0),                     // another clock
	} {
		if st := start(t, guest.exit(survived), Spec{Allow: Allow{Fork: true}}); st != killed {
			t.Errorf("%+v", st)
		}
	}
}
