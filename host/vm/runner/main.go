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

// spinMax is the longest busy wait before sleeping, ns.
const spinMax = 50e3

// exact is Linux's default of what a timer may be late, ns.
const exact = 50e3

// Main is the whole of a runner process. It does not return.
func Main() {
	runtime.LockOSThread()
	// The monitor lets the threads of a runner oversleep. This one must be exact.
	unix.Prctl(unix.PR_SET_TIMERSLACK, exact, 0, 0, 0)
	debug.SetGCPercent(-1)
	begin := gettime(unix.CLOCK_MONOTONIC)
	r, err := begun(os.Environ(), begin)
	if err != nil {
		say(err.Error())
		exit(125)
	}
	r.Timing.publish(r.page)
	end := r.Run()
	r.Timing.End = gettime(unix.CLOCK_MONOTONIC)
	r.Timing.publish(r.page)
	if r.stats {
		say(r.Stats())
	}
	r.finish(end)
}

// begun does what the environment says, up to the guest's first instruction.
func begun(env []string, begin int64) (*Runner, error) {
	o, guestEnv, err := parseEnv(env)
	if err != nil {
		return nil, err
	}
	if o.zygote {
		if err := beZygote(&o); err != nil {
			return nil, err
		}
		begin = o.began
	}
	cfg := &Config{alone: o.isBorn, template: o.template, ahead: o.ahead, Args: os.Args, Env: guestEnv, SpinMax: spinMax, Image: o.image, KVM: o.kvm}
	if !o.shell && min(cfg.Image, cfg.KVM) < abi.HandleFirst {
		return nil, fmt.Errorf("vm: descriptors %d and %d are handles of the guest; it has at least %d", cfg.Image, cfg.KVM, abi.HandleFirst)
	}
	m, err := o.makeMachine()
	if err != nil {
		return nil, o.late(cfg, err)
	}
	made := gettime(unix.CLOCK_MONOTONIC)
	if o.shell {
		if !o.template && !o.direct { // whose guest may fork
			m.VM.CloseDevice()
		}
		if err := waitForImage(m, &o, cfg); err != nil {
			return nil, err
		}
	}
	if o.template {
		return standby(m, cfg, begin, made)
	}
	cfg.Handles = cfg.Image
	var page []byte
	if o.timing >= 0 {
		if page, err = mapTiming(o.timing); err != nil {
			return nil, err
		}
	}
	r, err := New(m, cfg)
	if err != nil {
		return nil, err
	}
	r.page, r.stats, r.Timing.Order = page, o.stats, o.order
	r.Timing.Begin, r.Timing.Machine, r.Timing.Loaded = begin, made, gettime(unix.CLOCK_MONOTONIC)
	if err := r.startTick(); err != nil {
		return nil, err
	}
	filter, err := o.ahead.filter(r.boot.Flags&abi.BootNetOut != 0, r.forks.allowed)
	if err != nil {
		return nil, err
	}
	if err := install(filter); err != nil {
		return nil, err
	}
	r.hold(cfg.alone)
	r.Timing.Sealed = gettime(unix.CLOCK_MONOTONIC)
	return r, nil
}

// makeMachine makes what does not depend on an image.
func (o *orders) makeMachine() (*machine.Machine, error) {
	if o.ahead == nil {
		return machine.New(o.kvm, o.cpuid)
	}
	return o.ahead.m, o.ahead.m.Make()
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
		send(abi.HandleControl, b[:])
	}
	exit(end.Code)
}

var line [4096]byte

// say writes a line to the guest's standard error.
func say(s string) {
	b := append(line[:0], "noyau: vm: "...)
	b = append(b, strings.TrimPrefix(s, "vm: ")...)
	b = append(b[:min(len(b), len(line)-1)], '\n')
	write(abi.HandleStderr, b)
}
