package runner

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startZygote runs this binary as a zygote, without a sandbox, and returns its mailbox.
func startZygote(t *testing.T) (*exec.Cmd, int) {
	t.Helper()
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Skip("isolation=vm cannot be tested here: ", err)
	}
	defer kvm.Close()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.SetsockoptTimeval(p[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
	its := os.NewFile(uintptr(p[1]), "mailbox")
	defer its.Close()
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"zygote"}, Env: ZygoteEnv(nil), Stdin: its, Stdout: kvm, Stderr: its}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); cmd.Process.Kill(); cmd.Wait() })
	if got := hear(t, p[0]); got != ShellReady {
		t.Fatalf("a zygote says %q", got)
	}
	return cmd, p[0]
}

func hear(t *testing.T, fd int) string {
	t.Helper()
	var b [512]byte
	n, err := unix.Read(fd, b[:])
	for err == unix.EINTR {
		n, err = unix.Read(fd, b[:])
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// TestZygoteMessages: what is not a message of the monitor's ends a zygote, and makes nothing.
func TestZygoteMessages(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd := int(null.Fd())
	twin := ZygoteTwin()
	for name, c := range map[string]struct {
		msg []byte
		fds []int
	}{
		"no descriptor":           {twin, nil},
		"two descriptors":         {twin, []int{fd, fd}},
		"more than there is room": {twin, slices.Repeat([]int{fd}, 30)},
		"one byte":                {twin[:1], []int{fd}},
		"one byte too many":       {append(slices.Clone(twin), 0), []int{fd}},
		"a long one":              {make([]byte, 100<<10), []int{fd}},
		"kind 0":                  {zygoteOrder(0, 0), []int{fd}},
		"kind 6":                  {zygoteOrder(bornSpare+1, 0), []int{fd}},
		"kind with high bits":     {zygoteOrder(1<<32|bornRun, 0), []int{fd}},
		"a zygote with a namespace, which could make nothing": {zygoteOrder(bornZygote|ownPIDs, 0), []int{fd}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, mail := startZygote(t)
			if err := unix.Sendmsg(mail, c.msg, unix.UnixRights(c.fds...), nil, 0); err != nil {
				t.Fatal(err)
			}
			said := hear(t, mail)
			if pid, err := ZygoteChild([]byte(said)); err == nil {
				t.Errorf("there is a child %d", pid)
			}
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("the zygote lives on")
			}
			if cmd.ProcessState.ExitCode() != 125 {
				t.Errorf("it ended with %v and said %q", cmd.ProcessState, said)
			}
		})
	}
}

// TestZygoteTwin: a zygote makes another and that one more; all end when their mailboxes
// are closed, and children are this process's.
func TestZygoteTwin(t *testing.T) {
	_, mail := startZygote(t)
	for range 3 {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendmsg(mail, ZygoteTwin(), unix.UnixRights(p[1]), nil, 0); err != nil {
			t.Fatal(err)
		}
		unix.Close(p[1])
		pid, err := ZygoteChild([]byte(hear(t, mail)))
		if err != nil {
			t.Fatal(err)
		}
		if got := hear(t, p[0]); got != ShellReady {
			t.Fatalf("it says %q", got)
		}
		mail = p[0]
		defer func() {
			unix.Close(p[0])
			var st unix.WaitStatus
			if _, err := unix.Wait4(pid, &st, unix.WALL, nil); err != nil || !st.Exited() || st.ExitStatus() != 0 {
				t.Errorf("%d ended with %v, %v", pid, st, err)
			}
		}()
	}
}

func TestZygoteChild(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 8), make([]byte, 7), {0xf5, 255, 255, 255, 255, 255, 255, 255}, []byte("noyau: vm: something\n")} {
		if pid, err := ZygoteChild(b); err == nil {
			t.Errorf("%x is child %d", b, pid)
		}
	}
	if pid, err := ZygoteChild([]byte{1, 2, 0, 0, 0, 0, 0, 0}); err != nil || pid != 0x201 {
		t.Error(pid, err)
	}
}
