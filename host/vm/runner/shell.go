package runner

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
	"noyau.dev/host/vm/machine"
)

// A shell is a runner that was started before there is an image: it has its
// machine, and waits for one message on its mailbox with everything else. Its
// descriptors: 0 and 2 are the mailbox, a SOCK_SEQPACKET socket (a failure is
// written to 2), 1 is /dev/kvm.
const (
	mailbox  = 0
	shellKVM = 1
	// raised is above all descriptors that come with an image. Where it is low a fork of
	// the process has less to copy.
	raised       = 48
	shellHandles = raised - 4
	// maxOrder is the largest message, bytes.
	maxOrder = 160 << 10
)

// ShellEnv returns the environment of a shell.
func ShellEnv(cpuid []kvm.CPUIDEntry) []string {
	return append(base(cpuid), envRun+shellRun)
}

// EarlyEnv returns the environment of a shell that needs not say that it is ready: its order
// will come unasked.
func EarlyEnv(cpuid []kvm.CPUIDEntry) []string { return append(base(cpuid), envRun+earlyRun) }

// TemplateEnv returns the environment of a template: a shell for pVMs of one snapshot, with
// this limit of memory. It is sent ShellImage with the image, the snapshot and handles first:
// see standby.
func TemplateEnv(cpuid []kvm.CPUIDEntry, memory uint64) []string {
	return append(base(cpuid), fmt.Sprintf("%s%s%d", envRun, templateRun, memory))
}

// ShellReady is the word of a shell whose machine is made.
const ShellReady = "ready"

// ErrOrderSize is returned for orders that no shell can take.
var ErrOrderSize = errors.New("vm: too many arguments or handles for a shell")

// ShellOrder returns the message that makes a shell run an image. With it go the
// handles from 0 on, then the image, then the timing file if timing is set. touch are runs of
// pages, as abi.WarmTouch has them, of a pVM that is restored: those that it will write soon.
func ShellOrder(handles int, timing, stats bool, args, env []string, touch []uint64) ([]byte, error) {
	le := binary.LittleEndian
	b := make([]byte, 0, 4096)
	flags := uint32(0)
	if timing {
		flags |= 1
	}
	if stats {
		flags |= 2
	}
	for _, n := range []int{handles, int(flags), len(args), len(env), len(touch)} {
		b = le.AppendUint32(b, uint32(n))
	}
	for _, run := range touch {
		b = le.AppendUint64(b, run)
	}
	for _, list := range [][]string{args, env} {
		for _, s := range list {
			b = append(le.AppendUint32(b, uint32(len(s))), s...)
		}
	}
	if len(b) > maxOrder || handles > shellHandles {
		return nil, ErrOrderSize
	}
	return b, nil
}

var errOrder = errors.New("vm: the order of a shell is cut off")

// takeOrder takes ShellOrder's message apart. It gives the number of descriptors
// that must have come with it.
func takeOrder(b []byte, o *orders, cfg *Config) (int, error) {
	le := binary.LittleEndian
	const head = 20
	if len(b) < head {
		return 0, errOrder
	}
	n, flags, touch := le.Uint32(b), le.Uint32(b[4:]), uint64(le.Uint32(b[16:]))
	counts := [2]uint32{le.Uint32(b[8:]), le.Uint32(b[12:])}
	if b = b[head:]; touch > uint64(len(b)/8) {
		return 0, errOrder
	}
	cfg.touch, b = b[:touch*8], b[touch*8:]
	if n < abi.HandleFirst || n > shellHandles {
		return 0, fmt.Errorf("vm: a shell is given %d handles; want %d to %d", n, abi.HandleFirst, shellHandles)
	}
	for i, to := range []*[]string{&cfg.Args, &cfg.Env} {
		if uint64(counts[i]) > uint64(len(b)/4) {
			return 0, errOrder
		}
		*to = make([]string, 0, counts[i])
		for range counts[i] {
			if len(b) < 4 || uint32(len(b)-4) < le.Uint32(b) {
				return 0, errOrder
			}
			size := le.Uint32(b)
			*to = append(*to, string(b[4:4+size]))
			b = b[4+size:]
		}
	}
	cfg.Image, o.stats, o.timing = int(n), flags&2 != 0, -1
	files := int(n) + 1
	if flags&1 != 0 {
		o.timing = files
		files++
	}
	return files, nil
}

// ShellImage returns the message that makes a shell load an image before its
// order comes; the image's descriptor goes with it. The shell says ShellReady
// again. The order must then be for the same image. For templates see standby.
func ShellImage() []byte { return make([]byte, 16) }

// waitForImage turns a shell into a runner: cfg and o are as they would be had
// it been started with the image. It ends the process if the monitor lets go of
// the shell.
func waitForImage(m *machine.Machine, o *orders, cfg *Config) error {
	if err := m.VM.Raise(raised); err != nil {
		return err
	}
	if o.spare {
		if err := rehearse(m, cfg); err != nil {
			return err
		}
		defer name(runnerName)
	}
	if o.direct {
		return o.takeHandles(cfg)
	}
	boot := &abi.BootHeader{}
	if o.template {
		boot.Memory, boot.Restore = o.memory, 1
	}
	if err := cfg.open(m, boot); err != nil {
		return err
	}
	if !o.template {
		if err := m.Prefault(false); err != nil {
			return err
		}
	}
	x := o.box()
	for {
		if e := tell(ShellReady); e != 0 {
			return fmt.Errorf("vm: a shell's mailbox: %w", e)
		}
		b, fds, err := x.receive(o.blocking())
		if err != nil {
			return err
		}
		o.order = gettime(unix.CLOCK_MONOTONIC)
		if len(b) == len(ShellImage()) && len(fds) == 1 && cfg.loaded == nil {
			if err := preload(m, cfg, fds[0]); err != nil {
				return err
			}
			continue
		}
		if o.template {
			return waitForTemplate(m, cfg, len(b), fds)
		}
		return o.begin(cfg, b, fds)
	}
}

// box is room for what comes to the mailbox.
func (o *orders) box() *box {
	if o.ahead != nil {
		return o.ahead.box
	}
	return new(box)
}

// blocking is how to make a system call that may block.
func (o *orders) blocking() func(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
	if o.isBorn {
		return raw
	}
	return blocking
}

// takeHandles waits for an order and takes the handles.
func (o *orders) takeHandles(cfg *Config) error {
	b, fds, err := o.box().receive(o.blocking())
	if err != nil {
		return err
	}
	return o.begin(cfg, b, fds)
}

// begin does what an order says, and puts the handles that came with it into their places.
func (o *orders) begin(cfg *Config, order []byte, fds []int) error {
	want, err := takeOrder(order, o, cfg)
	if err != nil {
		return err
	}
	if len(fds) != want {
		return fmt.Errorf("vm: a shell got %d descriptors, want %d", len(fds), want)
	}
	if err := place(fds); err != nil {
		return err
	}
	// If the monitor ended before this process had asked to die with it, nobody has the
	// other end any more.
	if o.isBorn && raw(unix.SYS_RECVFROM, abi.HandleControl, ptrOf(&peeked), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0) == 0 {
		exit(0)
	}
	return nil
}

var peeked byte

// preload does all for an image that can be done before it is known how it is run.
func preload(m *machine.Machine, cfg *Config, fd int) error {
	p, err := loadImage(m, fd, cfg.template)
	if err != nil {
		return err
	}
	cfg.loaded = p
	unix.Close(fd)
	if cfg.template {
		return nil // the snapshot comes first
	}
	return m.Prefault(false)
}

// place moves the descriptors to the numbers from 0 on, over the mailbox.
func place(fds []int) error {
	for i, fd := range fds {
		if fd <= i {
			return fmt.Errorf("vm: descriptor %d is in the way of handle %d", fd, i)
		}
		if err := unix.Dup3(fd, i, unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("vm: handle %d: %w", i, err)
		}
	}
	for _, fd := range fds {
		if fd >= len(fds) {
			raw(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0)
		}
	}
	return nil
}
