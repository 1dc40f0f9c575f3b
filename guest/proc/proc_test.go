package proc_test

import (
	"slices"
	"testing"
	"time"

	"noyau.dev/abi"
	. "noyau.dev/guest/guesttest"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	_ "noyau.dev/guest/proc"
	"noyau.dev/guest/rt"
)

func TestMain(m *testing.M) {
	rt.Native.Boot = abi.BootHeader{PID: 7, PPID: 1, UID: 1000, GID: 1001, Memory: 64 << 20}
	kernel.Setup(&host.Boot{Header: rt.Boot(), Hostname: "box", Limits: []host.Limit{{Resource: linux.RLIMIT_NOFILE, Soft: 100, Hard: 200}}})
	m.Run()
}

func TestIDs(t *testing.T) {
	for _, c := range []struct {
		nr   uintptr
		args []uintptr
		want uintptr
		e    linux.Errno
	}{
		{linux.SYS_GETPID, nil, 7, 0},
		{linux.SYS_GETTID, nil, 7, 0},
		{linux.SYS_GETPPID, nil, 1, 0},
		{linux.SYS_GETEUID, nil, 1000, 0},
		{linux.SYS_GETGID, nil, 1001, 0},
		{linux.SYS_GETPGID, []uintptr{0}, 7, 0},
		{linux.SYS_GETPGID, []uintptr{9}, 0, linux.ESRCH},
		{linux.SYS_GETSID, []uintptr{7}, 7, 0},
		{linux.SYS_SETUID, []uintptr{1000}, 0, 0},
		{linux.SYS_SETUID, []uintptr{0}, 0, linux.EPERM},
		{linux.SYS_SETRESGID, []uintptr{1001, ^uintptr(0), 1001}, 0, 0},
		{linux.SYS_SETRESGID, []uintptr{1001, 5, 1001}, 0, linux.EPERM},
		{linux.SYS_GETGROUPS, []uintptr{0, 0}, 1, 0},
		{linux.SYS_UMASK, []uintptr{077}, 022, 0},
		{linux.SYS_UMASK, []uintptr{022}, 077, 0},
		{linux.SYS_EXECVE, nil, 0, linux.EPERM},
		{linux.SYS_CLONE, nil, 0, linux.ENOSYS},
		{linux.SYS_WAIT4, []uintptr{^uintptr(0)}, 0, linux.ECHILD},
		{linux.SYS_GETPRIORITY, nil, 20, 0},
		{linux.SYS_KILL, []uintptr{99, 15}, 0, linux.ESRCH},
		{linux.SYS_KILL, []uintptr{7, 0}, 0, 0},
		{linux.SYS_KILL, []uintptr{7, 65}, 0, linux.EINVAL},
		{linux.SYS_TGKILL, []uintptr{7, 8, 15}, 0, linux.ESRCH},
		{linux.SYS_GETRANDOM, []uintptr{0, 5, 0}, 0, linux.EFAULT},
		{linux.SYS_PRCTL, []uintptr{9999}, 0, linux.EINVAL},
	} {
		r, e := Call(c.nr, c.args...)
		if e != c.e || e == 0 && r != c.want {
			t.Errorf("call %d%v = %d, errno %d; want %d, errno %d", c.nr, c.args, r, e, c.want, c.e)
		}
	}
}

func TestUname(t *testing.T) {
	var u linux.Utsname
	Want(t, 0, linux.SYS_UNAME, Addr(&u))
	if string(u.Nodename[:4]) != "box\x00" || string(u.Sysname[:6]) != "Linux\x00" {
		t.Errorf("%s %s", u.Nodename, u.Sysname)
	}
}

func TestLimits(t *testing.T) {
	var r linux.Rlimit
	Want(t, 0, linux.SYS_GETRLIMIT, linux.RLIMIT_NOFILE, Addr(&r))
	if r != (linux.Rlimit{Cur: 100, Max: 200}) {
		t.Errorf("NOFILE %+v", r)
	}
	defer Want(t, 0, linux.SYS_SETRLIMIT, linux.RLIMIT_NOFILE, Addr(&r))
	Want(t, linux.EINVAL, linux.SYS_SETRLIMIT, linux.RLIMIT_NOFILE, Addr(&linux.Rlimit{Cur: 300, Max: 200}))
	Want(t, linux.EPERM, linux.SYS_SETRLIMIT, linux.RLIMIT_NOFILE, Addr(&linux.Rlimit{Cur: 100, Max: 300}))
	Want(t, 0, linux.SYS_PRLIMIT64, 0, linux.RLIMIT_NOFILE, Addr(&linux.Rlimit{Cur: 3, Max: 200}), 0)
	Want(t, linux.EMFILE, linux.SYS_DUP, 0)
	Want(t, 0, linux.SYS_SETRLIMIT, linux.RLIMIT_NOFILE, Addr(&linux.Rlimit{Cur: 200, Max: 200}))
	var as linux.Rlimit
	Want(t, 0, linux.SYS_GETRLIMIT, linux.RLIMIT_AS, Addr(&as))
	if as.Cur != 64<<20 {
		t.Errorf("AS %+v", as)
	}
	Want(t, linux.EINVAL, linux.SYS_GETRLIMIT, 16, Addr(&as))
}

func TestTime(t *testing.T) {
	var ts linux.Timespec
	Want(t, 0, linux.SYS_CLOCK_GETTIME, linux.CLOCK_REALTIME, Addr(&ts))
	if d := time.Since(time.Unix(ts.Sec, ts.Nsec)); d < 0 || d > time.Minute {
		t.Errorf("the wall clock is off by %v", d)
	}
	Want(t, linux.EINVAL, linux.SYS_CLOCK_GETTIME, 77, Addr(&ts))
	Want(t, linux.EFAULT, linux.SYS_CLOCK_GETTIME, linux.CLOCK_MONOTONIC, 0)
	start := rt.Nanotime()
	Want(t, 0, linux.SYS_NANOSLEEP, Addr(&linux.Timespec{Nsec: 2e6}), 0)
	at := linux.NsecToTimespec(rt.Nanotime() + 2e6)
	Want(t, 0, linux.SYS_CLOCK_NANOSLEEP, linux.CLOCK_MONOTONIC, linux.TIMER_ABSTIME, Addr(&at), 0)
	if d := rt.Nanotime() - start; d < 4e6 {
		t.Errorf("slept %d ns, want 4 ms at least", d)
	}
	Want(t, linux.EINVAL, linux.SYS_NANOSLEEP, Addr(&linux.Timespec{Nsec: 1e9}), 0)
}

// end runs f, which is to end the pVM, and returns the code.
func end(t *testing.T, f func()) (code int32) {
	t.Helper()
	code = -1
	rt.Native.Exit = func(c int32) { code = c }
	defer func() { rt.Native.Exit = nil }()
	done := make(chan bool)
	go func() { defer close(done); f() }()
	<-done
	return code
}

func TestSignals(t *testing.T) {
	var asked, ignored []uint32
	var seen []uint32
	dumps := 0
	rt.Native.SendSignal = func(s uint32) bool { seen = append(seen, s); return slices.Contains(asked, s) }
	rt.Native.Ignored = func(s uint32) bool { return slices.Contains(ignored, s) }
	rt.Native.Dump = func() { dumps++ }
	defer func() { rt.Native.SendSignal, rt.Native.Ignored, rt.Native.Dump = nil, nil, nil }()
	for _, c := range []struct {
		name           string
		sig            uintptr
		asked, ignored bool
		code           int32 // -1: goes on
		dumps          int
	}{
		{"default of SIGTERM", linux.SIGTERM, false, false, 143, 0},
		{"os/signal has it", linux.SIGTERM, true, false, -1, 0},
		{"ignored", linux.SIGINT, false, true, -1, 0},
		{"SIGKILL cannot be caught", linux.SIGKILL, true, false, 137, 0},
		{"SIGQUIT prints stacks", linux.SIGQUIT, false, false, 2, 1},
		{"SIGUSR1 does nothing in a Go program", linux.SIGUSR1, false, false, -1, 0},
		{"SIGSTOP", linux.SIGSTOP, false, false, -1, 0},
	} {
		asked, ignored, dumps = nil, nil, 0
		if c.asked {
			asked = []uint32{uint32(c.sig)}
		}
		if c.ignored {
			ignored = []uint32{uint32(c.sig)}
		}
		if code := end(t, func() { Call(linux.SYS_KILL, 7, c.sig) }); code != c.code || dumps != c.dumps {
			t.Errorf("%s: code %d and %d dumps, want %d and %d", c.name, code, dumps, c.code, c.dumps)
		}
	}
	if code := end(t, func() { Call(linux.SYS_EXIT_GROUP, 3) }); code != 3 {
		t.Errorf("exit code %d", code)
	}
}

func TestSigaction(t *testing.T) {
	var old linux.Sigaction
	Want(t, 0, linux.SYS_RT_SIGACTION, linux.SIGUSR1, Addr(&linux.Sigaction{Handler: linux.SIG_IGN}), 0, 8)
	Want(t, 0, linux.SYS_RT_SIGACTION, linux.SIGUSR1, 0, Addr(&old), 8)
	if old.Handler != linux.SIG_IGN {
		t.Errorf("%+v", old)
	}
	Want(t, linux.EINVAL, linux.SYS_RT_SIGACTION, linux.SIGKILL, Addr(&old), 0, 8)
	set, got := uint64(1<<9|1<<8), uint64(0)
	Want(t, 0, linux.SYS_RT_SIGPROCMASK, linux.SIG_BLOCK, Addr(&set), 0, 8)
	Want(t, 0, linux.SYS_RT_SIGPROCMASK, 0, 0, Addr(&got), 8)
	if got != 1<<9 {
		t.Errorf("mask %#x: SIGKILL cannot be blocked", got)
	}
}

func TestFutex(t *testing.T) {
	var word uint32 = 5
	addr := Addr(&word)
	Want(t, linux.EAGAIN, linux.SYS_FUTEX, addr, linux.FUTEX_WAIT, 4, 0)
	Want(t, linux.ETIMEDOUT, linux.SYS_FUTEX, addr, linux.FUTEX_WAIT, 5, Addr(&linux.Timespec{Nsec: 1e6}))
	done := make(chan linux.Errno)
	for range 3 {
		go func() { _, e := Call(linux.SYS_FUTEX, addr, linux.FUTEX_WAIT, 5, 0); done <- e }()
	}
	woken := uintptr(0)
	for woken < 3 {
		woken += Want(t, 0, linux.SYS_FUTEX, addr, linux.FUTEX_WAKE|linux.FUTEX_PRIVATE_FLAG, 1)
		time.Sleep(100 * time.Microsecond)
	}
	for range 3 {
		if e := <-done; e != 0 {
			t.Error(e)
		}
	}
	Want(t, linux.ENOSYS, linux.SYS_FUTEX, addr, 4, 0)
}
