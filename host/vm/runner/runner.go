// Package runner runs one image in a virtual machine: it loads the ELF file,
// answers the guest's host calls with the same Linux calls on its own
// descriptors, and plays the kernel's part for faults and signals.
//
// It is the whole of a process of its own (see Main), which the monitor starts
// as it starts an image under isolation=process: with the same descriptors at
// the same numbers. The guest's handles are this process's descriptor numbers;
// those that are not the guest's it cannot name.
//
// After start-up nothing here allocates, and no garbage is collected.
package runner

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
	"noyau.dev/host/vm/machine"
)

// Config is what a Runner needs besides descriptors 0 to 5.
type Config struct {
	Args, Env []string
	Image     int   // descriptor of the image
	KVM       int   // descriptor of /dev/kvm
	Handles   int   // descriptors below this number are the guest's
	SpinMax   int64 // longest busy wait in CallPoll, ns

	ahead    *ahead
	template bool // the snapshot's pages take the place of the image's variables
	alone    bool // the process has one thread: there is no Go scheduler to be told of what blocks

	// What was done before New: the image is mapped, the region is there for a
	// guest with this limit of memory.
	loaded *program
	opened bool
	memory uint64
	touch  []byte          // runs of pages that a restored guest will write soon, 8 bytes each
	saved  *abi.SnapHeader // of a template: the snapshot, whose pages are mapped already
}

// Counts are what happened since the start.
type Counts struct {
	Calls   [512]uint64 // by number
	Other   uint64      // calls with other numbers
	Faults  uint64      // exceptions delivered as signals
	Touches uint64      // first touches of memory answered by an exit
	Ticks   uint64      // preemption ticks delivered
	Kicks   uint64      // signals that interrupted the guest
	Spins   uint64      // waits that ended before sleeping
	Sleeps  uint64
	Sent    uint64 // data sent from the ring
	Filled  uint64 // data received into the ring
}

// Runner is one guest. All its methods are for one thread.
type Runner struct {
	m *machine.Machine
	// How system calls are made; tests look at them instead.
	sys, block func(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64
	boot       abi.BootHeader
	forks      forks
	handles    handles
	ring       ring
	sig        signals
	clock      clock
	Timing     Timing
	page       []byte // where Timing is published; nil: nowhere
	stats      bool
	Counts     Counts

	tick, lastTick int64 // ns
	spin           spinner
	spinMax        int64 // ns

	// Scratch that the kernel reads and writes.
	sockaddr [maxAddr]byte
	socklen  uint32
	event    [12]byte
	timeout  unix.Timespec
	msg      msghdr
	iov      iovec
	control  [maxControl]byte
	passed   [abi.MaxRights + 1]uint32
	random   [16]byte
}

// End is how a guest ended.
type End struct {
	Code   int    // exit code, 128+n for signal n
	Signal int    // 0: it called exit
	Report string // for a person; "" after exit
}

func newRunner(m *machine.Machine, cfg *Config) *Runner {
	var r *Runner
	if cfg.ahead != nil {
		r = cfg.ahead.r
	} else {
		r = newRoom()
	}
	r.m, r.sys, r.block, r.spinMax = m, raw, blocking, cfg.SpinMax
	if cfg.alone {
		r.block = raw
	}
	for h := range cfg.Handles {
		r.handles.add(uint64(h))
	}
	return r
}

// newRoom makes all memory that a Runner needs; most of it is never touched.
func newRoom() *Runner {
	r := &Runner{handles: newHandles(0)}
	r.sig.xsave = new(kvm.XSave)
	r.ring.room()
	r.forks.watched = newHandles(0)
	return r
}

// New makes a Runner around a machine that is ready but for the image.
func New(m *machine.Machine, cfg *Config) (*Runner, error) {
	r := newRunner(m, cfg)
	var err error
	if r.boot, err = readBoot(); err != nil {
		return nil, err
	}
	r.setTick()
	if err := r.load(cfg); err != nil {
		return nil, err
	}
	r.startForks()
	r.tellBoot()
	return r, r.watchControl()
}

func (r *Runner) setTick() {
	if r.tick = int64(r.boot.TickUS) * 1000; r.tick == 0 {
		r.tick = 10e6
	}
}

// readBoot reads the header of the boot block.
func readBoot() (h abi.BootHeader, err error) {
	var b [abi.BootSize]byte
	if n, err := unix.Pread(abi.HandleBoot, b[:], 0); err != nil || n != len(b) {
		return h, fmt.Errorf("vm: no boot block at descriptor %d: %d bytes, %v", abi.HandleBoot, n, err)
	}
	if !h.Take(b[:]) {
		return h, fmt.Errorf("vm: descriptor %d is no boot block of ABI version %d: noyau and its runner are of different versions; build noyau-vm again, from the sources of noyau", abi.HandleBoot, abi.Version)
	}
	return h, nil
}

// tellBoot puts the boot block into the info page, if it has room there: it is the monitor's, and
// the guest can read it as well from its handle.
func (r *Runner) tellBoot() {
	info := r.m.Info()
	room := info[abi.VMInfoBoot:]
	if r.boot.Size > uint64(len(room)) {
		return
	}
	room = room[:r.boot.Size]
	if n := r.sys(unix.SYS_PREAD64, abi.HandleBoot, addr(room), uintptr(len(room)), 0, 0, 0); n == r.boot.Size {
		put64(info[abi.VMInfoBootSize:], n)
	}
}

// watchControl registers the control channel for the guest.
func (r *Runner) watchControl() error {
	le := binary.LittleEndian
	le.PutUint32(r.event[:], unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET)
	le.PutUint64(r.event[4:], abi.HandleControl)
	if v := r.sys(unix.SYS_EPOLL_CTL, abi.HandlePoll, unix.EPOLL_CTL_ADD, abi.HandleControl, ptrOf(&r.event), 0, 0); int64(v) < 0 {
		return fmt.Errorf("vm: watch the control channel: %w", unix.Errno(-int64(v)))
	}
	r.forks.watch(abi.HandleControl, true)
	put64(r.m.Info()[abi.VMInfoWatched:], 1)
	return nil
}

// open makes the region. A snapshot says itself how much of it a guest has.
func (cfg *Config) open(m *machine.Machine, boot *abi.BootHeader) error {
	size, _ := abi.RegionSize(boot.Memory)
	if err := m.InitRegion(size); err != nil {
		return err
	}
	cfg.opened, cfg.memory = true, boot.Memory
	if boot.Restore != 0 {
		return nil
	}
	size = min(size, abi.RegionMax)
	put64(m.Info()[abi.VMInfoRegion:], size)
	return m.OpenRegion(size)
}

// loadImage maps the image behind a descriptor. saved: a snapshot has the variables.
func loadImage(m *machine.Machine, fd int, saved bool) (*program, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("vm: the image: %w", err)
	}
	p, err := parseELF(func(b []byte, off int64) error {
		n, err := unix.Pread(fd, b, off)
		if err == nil && n != len(b) {
			err = fmt.Errorf("%d bytes at %d, want %d", n, off, len(b))
		}
		return err
	}, st.Size)
	if err != nil {
		return nil, err
	}
	return p, m.MapImage(fd, p.segments, saved)
}

func (r *Runner) load(cfg *Config) error {
	p, err := cfg.loaded, error(nil)
	if p == nil {
		if p, err = loadImage(r.m, cfg.Image, r.boot.Restore != 0); err != nil {
			return err
		}
	}
	raw(unix.SYS_CLOSE, uintptr(cfg.Image), 0, 0, 0, 0, 0)
	if !cfg.opened {
		if err := cfg.open(r.m, &r.boot); err != nil {
			return err
		}
	}
	if cfg.memory != r.boot.Memory {
		return fmt.Errorf("vm: a shell runs images with a limit of %d bytes of memory; this one has %d", cfg.memory, r.boot.Memory)
	}
	if err := r.fillInfo(); err != nil {
		return err
	}
	if r.boot.Restore != 0 {
		return r.restore(cfg)
	}
	// Not by the vDSO, which begins with some pages of its own.
	if n := r.sys(unix.SYS_GETRANDOM, ptrOf(&r.random), 16, 0, 0, 0, 0); n != 16 {
		return fmt.Errorf("vm: getrandom: %w", unix.Errno(-n))
	}
	sp, err := buildStack(r.m, p, cfg.Args, cfg.Env, r.random, r.boot.UID, r.boot.GID)
	if err != nil {
		return err
	}
	r.m.Start(p.entry, sp)
	return r.m.Attach()
}

// fillInfo writes the page by which the guest finds everything, and starts its clock.
func (r *Runner) fillInfo() error {
	info := r.m.Info()
	put64(info[abi.VMInfoMagicAt:], abi.VMInfoMagic)
	put64(info[abi.VMInfoHypercall:], abi.VMHypercallPage)
	put64(info[abi.VMInfoRing:], abi.VMRing)
	r.ring.start(r)
	put64(info[abi.VMInfoSignals:], abi.VMSignals)
	return r.clock.start(hostClocks(r.m), info, r.m.VM.TSCKHz(), r.m.TSCEqual)
}

// Run runs the guest to its end.
func (r *Runner) Run() End {
	for {
		ev := r.m.Run()
		switch ev.Kind {
		case machine.Hypercall:
			if end, ended := r.hypercall(); ended {
				return end
			}
		case machine.Fault:
			if end, ended := r.fault(&ev); ended {
				r.ring.flush()
				return end
			}
		case machine.Interrupt:
			r.interrupt()
		case machine.Dead:
			r.ring.flush()
			return killed(unix.SIGSYS, ev.Reason)
		}
		r.clock.refresh()
	}
}

func killed(sig unix.Signal, report string) End {
	return End{128 + int(sig), int(sig), report}
}

func (r *Runner) hypercall() (End, bool) {
	r.ring.flush()
	r.yield()
	g := r.m.VM.Regs()
	c := call{g.RAX, g.RDI, g.RSI, g.RDX, g.R10, g.R8, g.R9}
	if c.nr < uint64(len(r.Counts.Calls)) {
		r.Counts.Calls[c.nr]++
	} else {
		r.Counts.Other++
	}
	switch c.nr {
	case abi.CallExit:
		r.ring.drain()
		return End{Code: int(c.a1 & 0xff)}, true
	case abi.CallSigreturn:
		if why := r.sig.sigreturn(r.m); why != "" {
			return killed(unix.SIGSEGV, why), true
		}
		return End{}, false
	case abi.CallFork:
		g.RAX = r.fork(&c)
		r.m.VM.Changed()
		return End{}, false
	}
	g.RAX = r.do(&c)
	r.m.VM.Changed()
	return End{}, false
}

func (r *Runner) fault(ev *machine.Event) (End, bool) {
	g := r.m.VM.Regs()
	if ev.Vector == machine.VecPF && ev.Code&1 == 0 && r.m.Touch(machine.Addr(ev.CR2)) {
		r.Counts.Touches++
		return End{}, false
	}
	si := faultSignal(ev, g.RIP)
	sig := unix.Signal(si.sig)
	if r.sig.blocked>>(si.sig-1)&1 != 0 {
		return killed(sig, describe(ev, g.RIP, g.RSP)+" in a signal handler"), true
	}
	rip, rsp := g.RIP, g.RSP
	if why := r.sig.deliver(r.m, &si); why != "" {
		return killed(sig, describe(ev, rip, rsp)+" "+why), true
	}
	r.Counts.Faults++
	return End{}, false
}

// interrupt delivers a tick if one is due. Other signals interrupt the guest
// too, the Go runtime's own for instance.
func (r *Runner) interrupt() {
	r.Counts.Kicks++
	r.ring.flush()
	now := gettime(unix.CLOCK_MONOTONIC)
	if now-r.lastTick < r.tick*3/4 {
		return
	}
	r.lastTick = now
	if r.sig.blocked>>(unix.SIGPROF-1)&1 != 0 {
		return
	}
	if r.sig.deliver(r.m, &siginfo{sig: int32(unix.SIGPROF), code: siKernel}) == "" {
		r.Counts.Ticks++
	}
}
