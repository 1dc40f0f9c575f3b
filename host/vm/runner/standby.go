package runner

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// Standby: a shell of a template goes on, with its image and its snapshot, up to the point
// where it matters which pVM its guest will be. The guest runs that far, so that the first
// touches of its memory are made; the list of system calls is narrowed before.
//
// It is sent ShellImage with the image, the snapshot, and the handles from 0 on as they will
// be, but HandleControl, in the place of which it puts the mailbox; HandleBoot is a boot block
// with BootWarm. What comes then are the messages of abi.WarmTouch; it says ShellReady when it
// waits for one.

// OrderTiming is what the handle number of a timing page is in an order, which is no handle
// of the guest's.
const OrderTiming = 1 << 32

// OrderStats is a bit of the word of an order that is not the guest's: say figures at the end.
const OrderStats = 1

// maxTemplate is the most handles of a template.
const maxTemplate = 32

// waitForTemplate does for a template what waitForImage does for others: b is the message
// that came.
func waitForTemplate(m *machine.Machine, cfg *Config, n int, fds []int) error {
	const files = 2
	if n != len(ShellImage()) || len(fds) < files+abi.HandleFirst-1 || len(fds) >= files+maxTemplate {
		return fmt.Errorf("vm: a template got %d bytes and %d descriptors", n, len(fds))
	}
	if err := preload(m, cfg, fds[0]); err != nil {
		return err
	}
	// Away from the numbers of handles, those of the snapshot among them.
	h, err := mapSnapshot(m, fds[1], 0)
	if err != nil {
		return err
	}
	unix.Close(fds[1])
	if err := m.Prefault(true); err != nil {
		return err
	}
	fds = slices.Insert(fds[files:], abi.HandleControl, mailbox)
	cfg.saved, cfg.Handles = h, len(fds)
	top := max(raised, int(h.Handles))
	if err := m.VM.Raise(top); err != nil {
		return err
	}
	for i, fd := range fds {
		if fds[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, top); err != nil {
			return fmt.Errorf("vm: descriptors of a template: %w", err)
		}
		unix.Close(fd)
	}
	return place(fds)
}

// standby makes a runner that waits, and returns when it has become one of a pVM.
func standby(m *machine.Machine, cfg *Config, begin, made int64) (*Runner, error) {
	r := newRunner(m, cfg)
	w := &theWaiting
	w.r = r
	err := w.prepare(cfg)
	if err == nil {
		r.hold(cfg.alone)
		err = w.run()
	}
	if err != nil { // nobody reads its standard error yet
		send(abi.HandleControl, []byte(err.Error()))
		return nil, err
	}
	r.Timing = Timing{Begin: begin, Machine: made, Order: w.ordered, Loaded: w.ordered, Sealed: gettime(unix.CLOCK_MONOTONIC)}
	return r, nil
}

// waiting is a runner whose guest does not know yet who it is.
type waiting struct {
	r       *Runner
	fillers []int
	buf     [abi.WarmMax]byte
	ordered int64
}

var ready = []byte(ShellReady)

// theWaiting is no part of a stack, which can move: the kernel writes to it.
var theWaiting waiting

// prepare does all up to the guest's first instruction.
func (w *waiting) prepare(cfg *Config) (err error) {
	r := w.r
	if r.boot, err = readBoot(); err != nil {
		return err
	}
	if r.boot.Flags&abi.BootWarm == 0 || cfg.memory != r.boot.Memory {
		return fmt.Errorf("vm: a template with the boot block of something else")
	}
	r.setTick()
	if err := r.fillInfo(); err != nil {
		return err
	}
	r.startForks()
	file, dead := int(r.boot.Restore), int(r.boot.Restore)+1
	if file < abi.HandleFirst || dead >= cfg.Handles {
		return fmt.Errorf("vm: handles %d and %d are to be a snapshot and a socket, but there are %d handles", file, dead, cfg.Handles)
	}
	if err := r.bury(cfg.saved, file, dead, max(cfg.Handles, int(cfg.saved.Handles))); err != nil {
		return err
	}
	if w.fillers, err = fill(cfg.Handles); err != nil {
		return err
	}
	r.resume(cfg.saved)
	if err := r.startTick(); err != nil {
		return err
	}
	calls := Calls(r.boot.Flags&abi.BootNetOut != 0, r.forks.allowed)
	if !r.forks.allowed {
		calls = append(calls, standbyCalls()...)
	}
	return seal(calls)
}

// fill takes the free numbers below n, so that nothing that comes lands on one of a handle, and
// says which these were.
func fill(below int) (list []int, err error) {
	for {
		n, err := unix.FcntlInt(abi.HandleControl, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("vm: descriptors of a template: %w", err)
		}
		if n >= below {
			return list, unix.Close(n)
		}
		list = append(list, n)
	}
}

// run runs the guest until it has its order. Before that it may read its boot block, watch
// its handles and ask for messages, and nothing else.
func (w *waiting) run() error {
	r := w.r
	for {
		switch ev := r.m.Run(); ev.Kind {
		case machine.Hypercall:
			g := r.m.VM.Regs()
			c := call{g.RAX, g.RDI, g.RSI, g.RDX, g.R10, g.R8, g.R9}
			switch {
			case c.nr == abi.CallPread && c.a1 == abi.HandleBoot, c.nr == abi.CallWatch:
				g.RAX = r.do(&c)
			case c.nr == abi.CallRecv && c.a1 == abi.HandleControl:
				b := r.m.Bytes(machine.Addr(c.a2), abi.WarmMax, true)
				if b == nil || c.a3 != abi.WarmMax {
					return fmt.Errorf("vm: a template's guest waits in a wrong way")
				}
				n, err := w.wait()
				if err != nil {
					return err
				}
				copy(b, w.buf[:n])
				g.RAX = uint64(n)
			default:
				return fmt.Errorf("vm: a template's guest made host call %d before it had its handles", c.nr)
			}
			r.m.VM.Changed()
		case machine.Fault:
			if ev.Vector != machine.VecPF || ev.Code&1 != 0 || !r.m.Touch(machine.Addr(ev.CR2)) {
				return fmt.Errorf("vm: a template's guest: %s", describe(&ev, r.m.VM.Regs().RIP, r.m.VM.Regs().RSP))
			}
		case machine.Dead:
			return fmt.Errorf("vm: a template's guest: %s", ev.Reason)
		}
		r.clock.refresh()
		if w.ordered != 0 {
			return nil
		}
	}
}

// wait takes the next message, of which the guest gets what is in buf then. It ends
// the process if the monitor lets go of it.
func (w *waiting) wait() (int, error) {
	r := w.r
	send(abi.HandleControl, ready)
	clear(r.control[:])
	r.clock.pause()
	v := r.block(unix.SYS_RECVMSG, abi.HandleControl, r.header(w.buf[:], len(r.control)), unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
	for v == fail(unix.EINTR) {
		v = r.block(unix.SYS_RECVMSG, abi.HandleControl, r.header(w.buf[:], len(r.control)), unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
	}
	if v == 0 {
		exit(0)
	}
	le := binary.LittleEndian
	n := int(v)
	if int64(v) < abi.WarmHead || r.msg.flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || le.Uint64(w.buf[8:]) > uint64(n-abi.WarmHead)/8 {
		return 0, fmt.Errorf("vm: an order of a template is cut off (%d bytes, flags %#x)", int64(v), r.msg.flags)
	}
	list := w.buf[abi.WarmHead:][:le.Uint64(w.buf[8:])*8]
	switch le.Uint32(w.buf[:]) {
	case abi.WarmTouch:
		r.touch(list)
		return n, nil
	case abi.WarmOrder:
		return w.begin(list)
	}
	return 0, fmt.Errorf("vm: an order of a template of kind %d", le.Uint32(w.buf[:]))
}

// begin makes the runner that of a pVM. list has the numbers of the handles that came.
func (w *waiting) begin(list []byte) (int, error) {
	r, le := w.r, binary.LittleEndian
	w.ordered = gettime(unix.CLOCK_MONOTONIC)
	r.stats = le.Uint32(w.buf[4:])&OrderStats != 0
	fds := r.rights()
	if len(fds) != len(list)/8 {
		return 0, fmt.Errorf("vm: an order of a template came with %d descriptors, want %d", len(fds), len(list)/8)
	}
	for i, fd := range fds {
		at := le.Uint64(list[8*i:])
		if at == OrderTiming {
			page, err := mapTiming(int(fd))
			if err != nil {
				return 0, err
			}
			r.page = page
			continue
		}
		if at > abi.HandleBoot || !r.handles.has(at) {
			return 0, fmt.Errorf("vm: an order of a template for handle %d, which it has not", at)
		}
		if v := r.sys(unix.SYS_DUP3, uintptr(fd), uintptr(at), unix.O_CLOEXEC, 0, 0, 0); int64(v) < 0 {
			return 0, fmt.Errorf("vm: handle %d: %w", at, unix.Errno(-int64(v)))
		}
		r.sys(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0)
	}
	for _, fd := range w.fillers {
		r.sys(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0)
	}
	if err := r.watchControl(); err != nil {
		return 0, err
	}
	boot := w.buf[abi.WarmHead+len(list):]
	if len(boot) < abi.BootSize {
		return 0, fmt.Errorf("vm: an order of a template for too many handles")
	}
	boot = boot[:abi.BootSize]
	was := r.boot
	if n := r.sys(unix.SYS_PREAD64, abi.HandleBoot, addr(boot), abi.BootSize, 0, 0, 0); n != abi.BootSize || !r.boot.Take(boot) {
		return 0, fmt.Errorf("vm: a template's pVM has no boot block of ABI version %d", abi.Version)
	}
	const fixed = abi.BootNetOut | abi.BootFork
	if r.boot.Flags&abi.BootWarm != 0 || r.boot.Memory != was.Memory || (r.boot.Flags^was.Flags)&fixed != 0 || r.boot.TickUS != was.TickUS {
		return 0, fmt.Errorf("vm: a template's pVM has the boot block of something else")
	}
	r.tellBoot()
	return abi.WarmHead + len(list) + abi.BootSize, nil
}
