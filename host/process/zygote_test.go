package process

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// children are the processes whose parent is this one, but not those in except.
func children(t *testing.T, except int) (list []int) {
	t.Helper()
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, d := range dirs {
		b, err := os.ReadFile(d)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(d)))
		if ppid, _ := strconv.Atoi(f[1]); ppid == os.Getpid() && pid != except {
			list = append(list, pid)
		}
	}
	return list
}

// TestBorn: what a zygote has made becomes a Process, with what a zygote cannot give it, and
// nothing else does.
func TestBorn(t *testing.T) {
	guest := new(code).sys(abi.CallFork, abi.ForkFlags, 0, 0, 0, 0).raw(0xeb, 0xfe) // jmp to itself
	filter, err := NewFilter(ImageRules(Allow{Fork: true}))
	if err != nil {
		t.Fatal(err)
	}
	p := launchGuest(t, guest, Spec{Zygote: true, Filter: filter})
	defer func() { p.Kill(); p.Wait() }()
	got := status(t, p.PID())
	admin := "0000000000000000"
	if p.MakesPIDs() {
		admin = "0000000000200000" // CAP_SYS_ADMIN
	}
	for _, k := range []string{"CapEff", "CapPrm", "CapInh", "CapAmb"} {
		if got[k] != admin {
			t.Errorf("%s is %s, want %s", k, got[k], admin)
		}
	}
	user, err1 := os.Readlink("/proc/self/ns/user")
	theirs, err2 := os.Readlink("/proc/" + strconv.Itoa(p.PID()) + "/ns/user")
	if p.MakesPIDs() && (err1 != nil || err2 != nil || user == theirs) {
		t.Errorf("a zygote has a capability in our user namespace: %v, %v", err1, err2)
	}
	var list []int
	for i := 0; len(list) == 0; i++ {
		if list = children(t, p.PID()); i == 1000 {
			t.Fatal("the zygote has made nothing")
		}
		time.Sleep(time.Millisecond)
	}
	s := Spec{Filter: filter, Allow: Allow{Fork: true}}
	b, err := p.Born(list[0], s)
	if err != nil {
		t.Fatal(err)
	}
	if group, err := unix.Getpgid(b.PID()); err != nil || group != b.PID() {
		t.Errorf("it is in group %d (%v)", group, err)
	}
	var l unix.Rlimit
	if err := unix.Prlimit(b.PID(), unix.RLIMIT_NPROC, nil, &l); err != nil || l.Max > maxProcesses {
		t.Errorf("its limit of processes is %d (%v)", l.Max, err)
	}
	for _, pid := range []int{1, os.Getpid(), os.Getppid()} {
		if _, err := p.Born(pid, s); !errors.Is(err, ErrStranger) {
			t.Errorf("Born(%d): %v", pid, err)
		}
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if _, err := p.Born(pid, s); err == nil {
			t.Errorf("Born(%d) is a process", pid)
		}
	}
	if _, err := b.Born(b.PID(), s); err == nil {
		t.Error("something is born of what is no zygote")
	}
	if _, err := p.Born(b.PID(), Spec{}); err == nil {
		t.Error("something is born without a filter")
	}
	if err := b.Kill(); err != nil {
		t.Error(err)
	}
	if st, _ := b.Wait(); st.Signal != int(unix.SIGKILL) {
		t.Errorf("it ended with %+v", st)
	}
	if _, err := p.Born(b.PID(), s); err == nil {
		t.Error("who was waited for is born again")
	}
}

// TestBornUnseen: of what was born when there is no descriptor left nothing stays once it has
// ended.
func TestBornUnseen(t *testing.T) {
	guest := new(code).sys(abi.CallFork, abi.ForkFlags, 0, 0, 0, 0).raw(0xeb, 0xfe) // jmp to itself
	filter, err := NewFilter(ImageRules(Allow{Fork: true}))
	if err != nil {
		t.Fatal(err)
	}
	p := launchGuest(t, guest, Spec{Zygote: true, Filter: filter})
	defer func() { p.Kill(); p.Wait() }()
	var list []int
	for i := 0; len(list) == 0; i++ {
		if list = children(t, p.PID()); i == 1000 {
			t.Fatal("the zygote has made nothing")
		}
		time.Sleep(time.Millisecond)
	}
	var l unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Max: l.Max}, nil); err != nil {
		t.Fatal(err)
	}
	_, err = p.Born(list[0], Spec{Filter: filter, Allow: Allow{Fork: true}})
	if e := unix.Prlimit(0, unix.RLIMIT_NOFILE, &l, nil); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("Born without a descriptor: %v", err)
	}
	if err := unix.Kill(list[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); len(children(t, p.PID())) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody waits for it")
		}
	}
}
