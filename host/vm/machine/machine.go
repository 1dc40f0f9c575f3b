// Package machine is a sealed virtual machine: one vCPU at CPL 3, page tables
// that the guest can neither read nor write, memory that is never both writable
// and executable, and exactly two ways out: the hypercall page and exceptions.
//
// It knows nothing of system calls, signals or ELF; that is package runner.
package machine

import (
	"encoding/binary"
	"fmt"

	"noyau.dev/host/vm/kvm"
)

// A Machine is used by one thread, that which calls New.
type Machine struct {
	Memory
	VM    *kvm.VM
	sregs kvm.Sregs // the template of CPL 3
	cur   kvm.Sregs
	cr4   uint64 // bits of CR4 that only some processors have
	// XCR0 is the set of extended states that the guest has, XSize the bytes
	// that they take in an XSAVE area.
	XCR0  uint64
	XSize int
	// HWCap is what AT_HWCAP tells on Linux: CPUID leaf 1, EDX.
	HWCap uint32
	// TSCEqual says that the guest's time stamp counter is the host's. Else TSC reads it.
	TSCEqual bool

	prefault bool // Prefault has its page
}

// New makes everything that does not depend on an image. cpuid is what HostCPUID
// returned on this host; nil: New asks.
func New(dev int, cpuid []kvm.CPUIDEntry) (*Machine, error) {
	m, err := Prepare(dev, cpuid)
	if err == nil {
		err = m.Make()
	}
	return m, err
}

// Prepare does of New what takes no virtual machine, and can so be done once for many forks
// of a process. Make does the rest.
func Prepare(dev int, host []kvm.CPUIDEntry) (m *Machine, err error) {
	m = new(Machine)
	if m.VM, err = kvm.Prepare(dev); err != nil {
		return nil, err
	}
	if len(host) == 0 {
		if host, err = m.VM.SupportedCPUID(); err != nil {
			return nil, err
		}
	}
	list, xcr0, extra := filterCPUID(host)
	if xcr0&3 != 3 {
		return nil, fmt.Errorf("vm: this host's KVM offers no XSAVE to guests (XCR0 %#x)", xcr0)
	}
	m.VM.Show(list)
	m.XCR0, m.XSize, m.cr4 = xcr0, xsize(list, xcr0), extra
	for _, e := range list {
		if e.Function == 1 {
			m.HWCap = e.EDX
		}
	}
	if m.XSize > kvm.XSaveSize {
		return nil, fmt.Errorf("vm: extended state of %d bytes, more than KVM's %d", m.XSize, kvm.XSaveSize)
	}
	m.region.room()
	return m, nil
}

// Make makes the machine that was prepared. It does not allocate.
func (m *Machine) Make() error {
	if err := m.VM.Create(); err != nil {
		return err
	}
	err := m.init()
	if err != nil {
		m.VM.Close()
	}
	return err
}

// Detached returns a machine that cannot run, for tests of what surrounds one.
func Detached() (*Machine, error) {
	m := &Machine{VM: kvm.Detached(), XCR0: 7, XSize: 832}
	return m, m.initSystem(m.VM)
}

func (m *Machine) init() error {
	if err := m.initSystem(m.VM); err != nil {
		return err
	}
	if err := m.VM.SetCPUID(); err != nil {
		return err
	}
	if err := m.VM.Sregs(&m.sregs); err != nil {
		return err
	}
	userSregs(&m.sregs, m.t.root, m.cr4)
	m.VM.SetSregs(&m.sregs)
	if err := m.VM.SetXCR0(m.XCR0); err != nil {
		return err
	}
	if err := m.VM.SetMSR(msrLSTAR, superStub+vectorSyscall*stubSize); err != nil {
		return err
	}
	if err := m.VM.SetMSR(msrFMASK, 0x47700); err != nil { // TF IF DF IOPL NT AC
		return err
	}
	m.TSCEqual = m.VM.ClearTSCOffset()
	return nil
}

// TSC is the guest's time stamp counter, as of now.
func (m *Machine) TSC() (uint64, error) { return m.VM.MSR(msrTSC) }

// xsize returns the size of the standard-format XSAVE area of the states in xcr0.
func xsize(list []kvm.CPUIDEntry, xcr0 uint64) int {
	n := uint32(576)
	for _, e := range list {
		if e.Function == 0xd && e.Index >= 2 && xcr0>>e.Index&1 != 0 {
			n = max(n, e.EBX+e.EAX)
		}
	}
	return int(n)
}

// Start sets the first instruction and the stack pointer.
func (m *Machine) Start(rip, rsp uint64) {
	*m.VM.Regs() = kvm.Regs{RIP: rip, RSP: rsp, RFLAGS: flags}
	m.VM.Changed()
}

// Kind is the kind of an Event.
type Kind int

// What Run returns.
const (
	Hypercall Kind = iota // a 4-byte store to the hypercall page
	Fault                 // an exception at CPL 3; see Event
	Interrupt             // a signal to this thread
	Dead                  // the guest cannot go on; Event.Reason says why
)

// An Event is why the guest stopped. Regs are those of the guest's CPL 3 for all
// kinds but Dead.
type Event struct {
	Kind   Kind
	Vector uint8  // Fault: of the exception
	Code   uint64 // Fault: its error code, 0 if it has none
	CR2    uint64 // Fault: the address of a page fault
	Reason string // Dead
}

// Vectors of exceptions that the runner treats one by one.
const (
	VecDE  = 0
	VecDB  = 1
	VecBP  = 3
	VecOF  = 4
	VecBR  = 5
	VecUD  = 6
	VecNM  = 7
	VecDF  = 8
	VecNP  = 11
	VecSS  = 12
	VecGP  = 13
	VecPF  = 14
	VecMF  = 16
	VecAC  = 17
	VecXM  = 19
	vecErr = 1<<8 | 1<<10 | 1<<11 | 1<<12 | 1<<13 | 1<<14 | 1<<17 | 1<<21 | 1<<29 | 1<<30
)

// Run runs the guest until something happens.
func (m *Machine) Run() Event {
	x, err := m.VM.Run()
	if err != nil {
		return m.dead(err.Error())
	}
	switch x {
	case kvm.ExitMMIO:
		gpa, n, write := m.VM.MMIO()
		if gpa == gpaHypercall && n == 4 && write {
			return Event{Kind: Hypercall}
		}
		if gpa >= gpaHypercall && gpa < gpaHypercall+page {
			how := "load"
			if write {
				how = "store"
			}
			return m.dead(fmt.Sprintf("forged hypercall: a %s of %d bytes at offset %#x of the hypercall page", how, n, gpa-gpaHypercall))
		}
		return m.dead(fmt.Sprintf("access to guest-physical address %#x, where nothing is", gpa))
	case kvm.ExitIO:
		return m.fault()
	case kvm.ExitIntr:
		return Event{Kind: Interrupt}
	case kvm.ExitInternal, kvm.ExitEntry:
		return m.dead(fmt.Sprintf("KVM exit: %s, %#x", x, m.VM.Suberror()))
	}
	return m.dead("KVM exit: " + x.String())
}

// fault reads the frame that the processor pushed for an exception and turns
// the registers back to what they were at CPL 3.
func (m *Machine) fault() Event {
	port, size, count, out := m.VM.IO()
	if !out || size != 1 || count != 1 || port > vectorSyscall {
		return m.dead(fmt.Sprintf("port I/O (port %#x) that is no exception stub", port))
	}
	if port == vectorSyscall {
		// SYSCALL keeps the return address in RCX and the flags in R11, and the stack.
		r := m.VM.Regs()
		return m.dead(fmt.Sprintf("SYSCALL instruction before %#x: host calls are stores to the hypercall page", r.RCX))
	}
	f := m.system[(pageSuper+1)*page-48:][:48]
	le := binary.LittleEndian
	ev := Event{Kind: Fault, Vector: uint8(port)}
	if vecErr>>port&1 != 0 {
		ev.Code = le.Uint64(f)
	}
	cs := le.Uint64(f[16:])
	r := m.VM.Regs()
	r.RIP, r.RFLAGS, r.RSP = le.Uint64(f[8:]), le.Uint64(f[24:]), le.Uint64(f[32:])
	if cs != UserCS || port == VecDF {
		return m.dead(fmt.Sprintf("exception %d (code %#x) with CS %#x, RIP %#x: not from user code", port, ev.Code, cs, r.RIP))
	}
	if err := m.VM.Sregs(&m.cur); err != nil {
		return m.dead(err.Error())
	}
	ev.CR2 = m.cur.CR2
	s := m.sregs
	s.FS.Base, s.GS.Base = m.cur.FS.Base, m.cur.GS.Base
	m.VM.SetSregs(&s)
	m.VM.Changed()
	return ev
}

func (m *Machine) dead(reason string) Event {
	return Event{Kind: Dead, Reason: reason}
}
