package runner

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// How the monitor tells the runner what to do: descriptors at fixed numbers, and
// the guest's environment with a mark before each entry, so that it means
// nothing to the runner's own Go runtime. Arguments are the guest's.
const (
	FDImage = 6
	FDKVM   = 7
	EnvRun  = "NOYAU_VM=1" // the entry that makes a process a runner
	EnvMark = "+"
)

// Env returns the environment of a runner whose guest has the environment env.
func Env(env []string) []string {
	out := []string{EnvRun}
	for _, e := range env {
		out = append(out, EnvMark+e)
	}
	return out
}

// Wanted reports whether this process was started as a runner.
func Wanted() bool { return os.Getenv("NOYAU_VM") == "1" }

// spinMax is the longest busy wait before sleeping, ns.
const spinMax = 50e3

// privateRoom is how many descriptors the runner itself needs.
const privateRoom = 8

// Main is the whole of a runner process. It does not return.
func Main() {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	begin := gettime(unix.CLOCK_MONOTONIC)
	cfg := &Config{Args: os.Args, Image: FDImage, KVM: FDKVM, SpinMax: spinMax}
	for _, e := range os.Environ() {
		if s, ok := strings.CutPrefix(e, EnvMark); ok {
			cfg.Env = append(cfg.Env, s)
		}
	}
	r, err := prepare(cfg)
	if err != nil {
		say(err.Error())
		unix.Exit(125)
	}
	r.Timing.Begin = begin
	end := r.Run()
	r.Timing.End = gettime(unix.CLOCK_MONOTONIC)
	if os.Getenv("NOYAU_VM_STATS") != "" {
		say(r.Stats())
	}
	r.finish(end)
}

// prepare makes everything up to the guest's first instruction.
func prepare(cfg *Config) (*Runner, error) {
	if err := makeRoom(cfg); err != nil {
		return nil, err
	}
	m, err := machine.New(cfg.KVM)
	if err != nil {
		return nil, err
	}
	if err := m.VM.MoveDescriptors(cfg.Private); err != nil {
		return nil, err
	}
	made := gettime(unix.CLOCK_MONOTONIC)
	r, err := New(m, cfg)
	if err != nil {
		return nil, err
	}
	r.Timing.Machine, r.Timing.Loaded = made, gettime(unix.CLOCK_MONOTONIC)
	unix.Close(cfg.Image)
	unix.Close(cfg.KVM)
	if err := r.startTick(); err != nil {
		return nil, err
	}
	r.Timing.Sealed = gettime(unix.CLOCK_MONOTONIC)
	return r, nil
}

// makeRoom moves the runner's own descriptors to the top of the range.
func makeRoom(cfg *Config) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("vm: limit of descriptors: %w", err)
	}
	if lim.Cur < 64 {
		return fmt.Errorf("vm: at most %d descriptors; a runner needs 64", lim.Cur)
	}
	cfg.Private = int(min(lim.Cur, 1<<20)) - privateRoom
	for _, p := range []*int{&cfg.Image, &cfg.KVM} {
		n, err := unix.FcntlInt(uintptr(*p), unix.F_DUPFD_CLOEXEC, cfg.Private)
		if err != nil {
			return fmt.Errorf("vm: descriptor %d (image and /dev/kvm are %d and %d): %w", *p, FDImage, FDKVM, err)
		}
		unix.Close(*p)
		*p = n
	}
	return nil
}

// startTick arms the preemption timer. It counts CPU time of this process, so a
// guest that sleeps is never woken.
func (r *Runner) startTick() error {
	t := unix.Itimerval{Interval: unix.NsecToTimeval(r.tick), Value: unix.NsecToTimeval(r.tick)}
	if _, err := unix.Setitimer(unix.ItimerProf, t); err != nil {
		return fmt.Errorf("vm: preemption timer: %w", err)
	}
	return nil
}

// finish tells the monitor how the guest ended, and ends.
func (r *Runner) finish(end End) {
	if end.Report != "" {
		say(end.Report)
	}
	if end.Signal != 0 {
		var b [abi.MsgSize]byte
		(&abi.Msg{Op: abi.OpKilled, A: uint64(end.Signal)}).Put(b[:])
		unix.SendmsgN(abi.HandleControl, b[:], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	unix.Exit(end.Code)
}

// say writes a line to the guest's standard error.
func say(s string) {
	unix.Write(abi.HandleStderr, []byte("noyau: vm: "+strings.TrimPrefix(s, "vm: ")+"\n"))
}
