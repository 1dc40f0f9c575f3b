package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper starts a guest that waits for ever and is looked at from outside.
func sleeper(t testing.TB, s Spec) *Process {
	t.Helper()
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	poll := os.NewFile(uintptr(ep), "epoll")
	t.Cleanup(func() { poll.Close() })
	s.Files = append(testFiles(t)[:5], poll)
	s.Image = sleep().file(t)
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); p.Wait() })
	// Start returns in the middle of exec: descriptors are closed a moment later.
	for range 1000 {
		if strings.HasPrefix(status(t, p.PID())["State"], "S") {
			return p
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the guest does not come to wait")
	return nil
}

// sleep waits on the epoll instance; events go to the stack.
func sleep() *code {
	var c code
	c.load(unix.SYS_EPOLL_PWAIT, 5, 0, 1, ^uint64(0), 0, 8)
	return c.raw(0x48, 0x83, 0xec, 0x40, 0x48, 0x89, 0xe6, 0x0f, 0x05).exit(survived) // sub rsp,64; mov rsi,rsp; syscall
}

// status reads /proc/PID/status.
func status(t testing.TB, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		m[k] = strings.TrimSpace(v)
	}
	return m
}

func TestStatus(t *testing.T) {
	p := sleeper(t, Spec{Tick: 10 * time.Millisecond})
	got := status(t, p.PID())
	for key, want := range map[string]string{
		"Seccomp":    "2",
		"NoNewPrivs": "1",
		"CapEff":     "0000000000000000",
		"CapPrm":     "0000000000000000",
		"CapInh":     "0000000000000000",
		"CapAmb":     "0000000000000000",
		"Threads":    "1",
		"SigBlk":     "0000000000000000",
		"SigIgn":     "0000000004000000", // SIGPROF only
		"SigCgt":     "0000000000000000",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	if thp, ok := got["THP_enabled"]; ok && thp != "0" {
		t.Errorf("THP_enabled is %s, want 0", thp)
	}
	if r := p.Sandbox(); slices.ContainsFunc(r.Missing, func(s string) bool { return strings.HasPrefix(s, "unprivileged user") }) {
		t.Skipf("SKIPPED: root cannot become another user on this machine: %q", r.Missing)
	}
	if uid := strings.Fields(got["Uid"])[0]; uid == "0" {
		t.Errorf("the image runs as root on the host (%s)", got["Uid"])
	}
	if os.Geteuid() == 0 && got["Groups"] != "" {
		t.Errorf("the image is in groups %s, want none", got["Groups"])
	}
}

func TestDescriptors(t *testing.T) {
	leak, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // without O_CLOEXEC, on purpose
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	p := sleeper(t, Spec{})
	dir := "/proc/" + strconv.Itoa(p.PID()) + "/fd"
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		to, _ := os.Readlink(filepath.Join(dir, e.Name()))
		names = append(names, e.Name()+" "+to)
	}
	want := []string{"0 /dev/null", "1 /dev/null", "2 /dev/null", "3 /dev/null", "4 /dev/null", "5 anon_inode:[eventpoll]"}
	if !slices.Equal(names, want) {
		t.Errorf("descriptors %q, want %q", names, want)
	}
}

func TestNamespaces(t *testing.T) {
	p := sleeper(t, Spec{})
	r := p.Sandbox()
	tried := 0
	for name, file := range map[string]string{
		"user": "user", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "mount": "mnt", "pid": "pid",
	} {
		if !slices.Contains(r.InForce, name+" namespace") {
			t.Logf("SKIPPED: no %s namespace on this machine: %q", name, r.Missing)
			continue
		}
		tried++
		ours, err1 := os.Readlink("/proc/self/ns/" + file)
		theirs, err2 := os.Readlink("/proc/" + strconv.Itoa(p.PID()) + "/ns/" + file)
		if err1 != nil || err2 != nil {
			t.Errorf("%s namespace: %v, %v", name, err1, err2)
		} else if ours == theirs {
			t.Errorf("the image is in the %s namespace of this process (%s), but the report says otherwise", name, ours)
		}
	}
	if tried == 0 {
		t.Skip("SKIPPED: this machine allows no namespace")
	}
}

func TestRoot(t *testing.T) {
	p := sleeper(t, Spec{})
	if !slices.ContainsFunc(p.Sandbox().InForce, func(s string) bool { return strings.HasPrefix(s, "no file system") }) {
		t.Skipf("SKIPPED: the root cannot be changed on this machine: %q", p.Sandbox().Missing)
	}
	list, err := os.ReadDir("/proc/" + strconv.Itoa(p.PID()) + "/root/")
	if errors.Is(err, os.ErrNotExist) {
		return // a removed directory
	}
	if err != nil {
		t.Skipf("SKIPPED: not allowed to look: %v", err)
	}
	if len(list) != 0 {
		t.Errorf("the image has a root with %d entries", len(list))
	}
}

func TestNothingWritableIsExecutable(t *testing.T) {
	p := sleeper(t, Spec{})
	maps, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/maps")
	if err != nil {
		t.Skipf("SKIPPED: not allowed to look: %v", err)
	}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); strings.Contains(f[1], "w") && strings.Contains(f[1], "x") {
			t.Errorf("writable and executable: %s", line)
		}
	}
}

func TestLimits(t *testing.T) {
	p := sleeper(t, Spec{Memory: 64 << 20, Handles: 100})
	for res, want := range map[int]uint64{
		unix.RLIMIT_NOFILE: 100, unix.RLIMIT_CORE: 1, unix.RLIMIT_DATA: 336 << 20,
		unix.RLIMIT_NPROC: 0, unix.RLIMIT_MEMLOCK: 0, unix.RLIMIT_STACK: 8 << 20,
	} {
		var l unix.Rlimit
		if err := unix.Prlimit(p.PID(), res, nil, &l); err != nil {
			t.Skipf("SKIPPED: not allowed to look: %v", err)
		}
		if l.Cur != want || l.Max != want {
			t.Errorf("limit %d is %d, %d; want %d", res, l.Cur, l.Max, want)
		}
	}
}

func TestKill(t *testing.T) {
	p := sleeper(t, Spec{})
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if st, _ := p.Wait(); st != (Status{Signal: int(unix.SIGKILL)}) {
		t.Errorf("got %+v", st)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("kill of what has ended: %v", err)
	}
	if st, _ := p.Wait(); st.Signal != int(unix.SIGKILL) {
		t.Errorf("second Wait: got %+v", st)
	}
}

// A Filter of the caller's own comes with neither the limits of an image nor its
// memory settings.
func TestOwnFilter(t *testing.T) {
	f, err := NewFilter(append(ImageRules(Allow{}), Rule{Nr: unix.SYS_GETPID, Name: "getpid"}))
	if err != nil {
		t.Fatal(err)
	}
	if st := start(t, new(code).sys(unix.SYS_GETPID).exit(survived), Spec{Filter: f}); st != (Status{Code: survived}) {
		t.Errorf("allowed call: got %+v", st)
	}
	if st := start(t, new(code).sys(unix.SYS_GETUID).exit(survived), Spec{Filter: f}); st != killed {
		t.Errorf("other call: got %+v", st)
	}
	p := sleeper(t, Spec{Filter: f})
	got := status(t, p.PID())
	if thp, ok := got["THP_enabled"]; ok && thp != "1" {
		t.Errorf("THP_enabled is %s, want 1", thp)
	}
	var own, l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NPROC, &own)
	if err := unix.Prlimit(p.PID(), unix.RLIMIT_NPROC, nil, &l); err == nil && l != own {
		t.Errorf("limit of processes is %+v, want %+v", l, own)
	}
}
