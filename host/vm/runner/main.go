package runner

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// How the monitor tells the runner what to do: one environment entry names the
// descriptors, and the guest's own environment follows with a mark before each
// entry, so that it means nothing to the runner's Go runtime. Arguments are the
// guest's.
const (
	envRun   = "NOYAU_VM="
	envMark  = "+"
	envStats = "NOYAU_VM_STATS"
)

// Env returns the environment of a runner process: image and kvm are the
// numbers of the descriptors of the image and of /dev/kvm there, above all
// handles; env is the guest's environment. Options are the user's: "stats=1"
// prints counts at the end.
func Env(image, kvm int, env []string, options map[string]string) []string {
	// The Go runtime would keep a descriptor of its own, to follow the limits
	// of its cgroup.
	out := []string{"GODEBUG=containermaxprocs=0,updatemaxprocs=0", envRun + strconv.Itoa(image) + "," + strconv.Itoa(kvm)}
	if options["stats"] != "" {
		out = append(out, envStats+"=1")
	}
	for _, e := range env {
		out = append(out, envMark+e)
	}
	return out
}

// Wanted reports whether this process was started as a runner.
func Wanted() bool { return os.Getenv("NOYAU_VM") != "" }

// spinMax is the longest busy wait before sleeping, ns.
const spinMax = 50e3

// Main is the whole of a runner process. It does not return.
func Main() {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	begin := gettime(unix.CLOCK_MONOTONIC)
	cfg := &Config{Args: os.Args, SpinMax: spinMax}
	for _, e := range os.Environ() {
		if s, ok := strings.CutPrefix(e, envMark); ok {
			cfg.Env = append(cfg.Env, s)
		}
	}
	image, kvm, _ := strings.Cut(os.Getenv("NOYAU_VM"), ",")
	var err error
	if cfg.Image, err = strconv.Atoi(image); err == nil {
		cfg.KVM, err = strconv.Atoi(kvm)
	}
	var r *Runner
	if err == nil {
		r, err = prepare(cfg)
	}
	if err != nil {
		say(err.Error())
		unix.Exit(125)
	}
	r.Timing.Begin = begin
	end := r.Run()
	r.Timing.End = gettime(unix.CLOCK_MONOTONIC)
	if os.Getenv(envStats) != "" {
		say(r.Stats())
	}
	r.finish(end)
}

// prepare makes everything up to the guest's first instruction.
func prepare(cfg *Config) (*Runner, error) {
	cfg.Handles = min(cfg.Image, cfg.KVM)
	if cfg.Handles < abi.HandleFirst {
		return nil, fmt.Errorf("vm: descriptors %d and %d are handles of the guest; it has at least %d", cfg.Image, cfg.KVM, abi.HandleFirst)
	}
	m, err := machine.New(cfg.KVM)
	if err != nil {
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
	if err := seal(Calls(r.boot.Flags&abi.BootNetOut != 0)); err != nil {
		return nil, err
	}
	r.Timing.Sealed = gettime(unix.CLOCK_MONOTONIC)
	return r, nil
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
