// Package kvm is the part of Linux's KVM interface that a sealed one-vCPU
// guest needs: /dev/kvm, one VM, one vCPU, memory slots. It knows nothing of
// what the guest is. It imports only the standard library's lowest packages and
// x/sys/unix, since the runner links it and starts often.
package kvm

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A VM is a virtual machine with one vCPU. It is used by one thread.
type VM struct {
	dev, vm, vcpu int
	mapped        []byte
	run           *run
	size          uintptr // of the shared page

	// What was set, for Remake.
	cpuid   *cpuidList
	xcrs    xcrList
	msrs    msrList
	zeroTSC bool
}

// cpuidList is struct kvm_cpuid2.
type cpuidList struct {
	n, _ uint32
	e    [256]CPUIDEntry
}

// xcrList is struct kvm_xcrs.
type xcrList struct {
	n, flags uint32
	e        [16]struct {
		xcr, _ uint32
		value  uint64
	}
	_ [16]uint64
}

// maxMSRs is how many registers are ever set.
const maxMSRs = 4

// msrList is struct kvm_msrs.
type msrList struct {
	n, _ uint32
	e    [maxMSRs]struct {
		index, _ uint32
		value    uint64
	}
}

// ioctl makes a request whose argument is the address of a variable, or nil. The Go
// runtime is not told: in a forked runner there is no other thread that it could
// hand anything to.
func ioctl(fd int, req uintptr, arg unsafe.Pointer) (uintptr, unix.Errno) {
	for {
		r, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
		if e != unix.EINTR {
			return r, e
		}
	}
}

// ioctlNumber is ioctl for an argument that is a number.
func ioctlNumber(fd int, req, arg uintptr) (uintptr, unix.Errno) {
	for {
		r, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
		if e != unix.EINTR {
			return r, e
		}
	}
}

// Prepare returns a VM that Create can make through the descriptor dev of /dev/kvm, which is
// all that it can for a process to be forked. It says what this host's KVM lacks.
func Prepare(dev int) (*VM, error) {
	if v, e := ioctl(dev, reqAPIVersion, nil); e != 0 || v != 12 {
		return nil, fmt.Errorf("kvm: want interface version 12 of /dev/kvm, got %d (%v)", v, e)
	}
	for _, c := range []struct {
		n    uintptr
		name string
	}{{3, "USER_MEMORY"}, {74, "SYNC_REGS"}, {136, "IMMEDIATE_EXIT"}, {55, "XSAVE"}, {56, "XCRS"}} {
		if v, _ := ioctlNumber(dev, reqCheckExtension, c.n); v == 0 {
			return nil, fmt.Errorf("kvm: this host's KVM lacks KVM_CAP_%s", c.name)
		}
	}
	size, e := ioctl(dev, reqVCPUMapSize, nil)
	if e != 0 || size < unsafe.Sizeof(run{}) {
		return nil, fmt.Errorf("kvm: size of the shared page: %d (%v)", size, e)
	}
	return &VM{dev: dev, vm: -1, vcpu: -1, size: size, cpuid: new(cpuidList)}, nil
}

// Create makes the VM and its vCPU. A VM belongs to the address space that made it: no
// other process can run it.
func (v *VM) Create() error {
	vm, e := ioctl(v.dev, reqCreateVM, nil)
	if e != 0 {
		return fmt.Errorf("kvm: create VM: %w", e)
	}
	vcpu, e := ioctl(int(vm), reqCreateVCPU, nil)
	if e != 0 {
		closeFD(int(vm))
		return fmt.Errorf("kvm: create vCPU: %w", e)
	}
	p, _, e := unix.RawSyscall6(unix.SYS_MMAP, 0, v.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, vcpu, 0)
	if e != 0 {
		closeFD(int(vcpu))
		closeFD(int(vm))
		return fmt.Errorf("kvm: map the shared page: %w", e)
	}
	v.vm, v.vcpu = int(vm), int(vcpu)
	v.run = *(**run)(unsafe.Pointer(&p))
	v.mapped = unsafe.Slice((*byte)(unsafe.Pointer(v.run)), v.size)
	v.run.validRegs = syncRegs
	return nil
}

// Detached returns a VM without KVM behind it, for tests of what surrounds one: it
// keeps registers and takes memory, and cannot run.
func Detached() *VM {
	r := new(run)
	return &VM{dev: -1, vm: -1, vcpu: -1, run: r}
}

// Close ends the VM. The descriptor of /dev/kvm stays open.
func (v *VM) Close() {
	unix.RawSyscall(unix.SYS_MUNMAP, uintptr(unsafe.Pointer(v.run)), v.size, 0)
	unix.Close(v.vcpu)
	unix.Close(v.vm)
}

// Descriptors returns the numbers of the VM and of the vCPU.
func (v *VM) Descriptors() (vm, vcpu int) { return v.vm, v.vcpu }

// Raise moves the descriptors that are below low to numbers from low on.
func (v *VM) Raise(low int) error {
	for _, fd := range []*int{&v.dev, &v.vm, &v.vcpu} {
		if *fd < 0 || *fd >= low {
			continue
		}
		n, _, e := unix.RawSyscall(unix.SYS_FCNTL, uintptr(*fd), unix.F_DUPFD_CLOEXEC, uintptr(low))
		if e != 0 {
			return fmt.Errorf("kvm: move descriptor %d to %d and above: %w", *fd, low, e)
		}
		closeFD(*fd)
		*fd = int(n)
	}
	return nil
}

// SetMemory makes mem the guest-physical memory at gpa, as memory slot number
// slot. mem is page aligned and must stay mapped.
func (v *VM) SetMemory(slot uint32, gpa uint64, mem []byte) error {
	if v.vm < 0 {
		return nil
	}
	if e := v.AddMemory(slot, gpa, mem); e != 0 {
		return fmt.Errorf("kvm: memory slot %d at %#x, %d bytes: %w", slot, gpa, len(mem), e)
	}
	return nil
}

// AddMemory is SetMemory that does not allocate if it fails.
func (v *VM) AddMemory(slot uint32, gpa uint64, mem []byte) unix.Errno {
	r := struct {
		slot, flags uint32
		gpa, size   uint64
		addr        uintptr
	}{slot, 0, gpa, uint64(len(mem)), uintptr(unsafe.Pointer(unsafe.SliceData(mem)))}
	_, e := ioctl(v.vm, reqSetMemory, unsafe.Pointer(&r))
	return e
}

// SupportedCPUID returns what this host can show a guest.
func (v *VM) SupportedCPUID() ([]CPUIDEntry, error) { return SupportedCPUID(v.dev) }

// SupportedCPUID is the same through a descriptor of /dev/kvm.
func SupportedCPUID(dev int) ([]CPUIDEntry, error) {
	var b cpuidList
	b.n = uint32(len(b.e))
	if _, e := ioctl(dev, reqSupportedCPUID, unsafe.Pointer(&b)); e != 0 {
		return nil, fmt.Errorf("kvm: supported CPUID: %w", e)
	}
	return append([]CPUIDEntry(nil), b.e[:b.n]...), nil
}

// Show says what SetCPUID will set; it may come before Create.
func (v *VM) Show(list []CPUIDEntry) { v.cpuid.n = uint32(copy(v.cpuid.e[:], list)) }

// SetCPUID sets what the guest sees; leaves that are not in it read as zeros.
func (v *VM) SetCPUID() error {
	if _, e := ioctl(v.vcpu, reqSetCPUID, unsafe.Pointer(v.cpuid)); e != 0 {
		return fmt.Errorf("kvm: set CPUID (%d entries): %w", v.cpuid.n, e)
	}
	return nil
}

// SetXCR0 sets which extended states the guest has.
func (v *VM) SetXCR0(mask uint64) error {
	v.xcrs.n, v.xcrs.e[0].value = 1, mask
	if _, e := ioctl(v.vcpu, reqSetXCRs, unsafe.Pointer(&v.xcrs)); e != 0 {
		return fmt.Errorf("kvm: set XCR0 to %#x: %w", mask, e)
	}
	return nil
}

// Sregs reads the system registers.
func (v *VM) Sregs(s *Sregs) error {
	if _, e := ioctl(v.vcpu, reqGetSregs, unsafe.Pointer(s)); e != 0 {
		return fmt.Errorf("kvm: get system registers: %w", e)
	}
	return nil
}

// SetSregs sets the system registers at the next Run.
func (v *VM) SetSregs(s *Sregs) {
	v.run.sregs = *s
	v.run.dirtyRegs |= syncSregs
}

// XSave reads the extended state.
func (v *VM) XSave(x *XSave) error {
	if v.vcpu < 0 {
		return nil
	}
	if _, e := ioctl(v.vcpu, reqGetXSave, unsafe.Pointer(x)); e != 0 {
		return fmt.Errorf("kvm: get extended state: %w", e)
	}
	return nil
}

// SetXSave sets the extended state; KVM refuses an image that is malformed.
func (v *VM) SetXSave(x *XSave) error {
	if v.vcpu < 0 {
		return nil
	}
	if _, e := ioctl(v.vcpu, reqSetXSave, unsafe.Pointer(x)); e != 0 {
		return fmt.Errorf("kvm: set extended state: %w", e)
	}
	return nil
}

// MSR reads a model specific register of the guest.
func (v *VM) MSR(index uint32) (uint64, error) {
	m := msrList{n: 1}
	m.e[0].index = index
	if n, e := ioctl(v.vcpu, reqGetMSRs, unsafe.Pointer(&m)); e != 0 || n != 1 {
		return 0, fmt.Errorf("kvm: get MSR %#x: %v", index, e)
	}
	return m.e[0].value, nil
}

// SetMSR sets a model specific register of the guest.
func (v *VM) SetMSR(index uint32, value uint64) error {
	m := msrList{n: 1}
	m.e[0].index, m.e[0].value = index, value
	if n, e := ioctl(v.vcpu, reqSetMSRs, unsafe.Pointer(&m)); e != 0 || n != 1 {
		return fmt.Errorf("kvm: set MSR %#x: %v", index, e)
	}
	if v.msrs.n == maxMSRs {
		return fmt.Errorf("kvm: set MSR %#x: %d were set already", index, maxMSRs)
	}
	v.msrs.e[v.msrs.n] = m.e[0]
	v.msrs.n++
	return nil
}

var noOffset uint64

// ClearTSCOffset makes the guest's time stamp counter equal to the host's. It
// reports false where KVM cannot (before Linux 5.16).
func (v *VM) ClearTSCOffset() bool {
	a := struct {
		flags, group uint32
		attr         uint64
		addr         uintptr
	}{addr: uintptr(unsafe.Pointer(&noOffset))}
	_, e := ioctl(v.vcpu, reqSetAttr, unsafe.Pointer(&a))
	v.zeroTSC = e == 0
	return v.zeroTSC
}

// TSCKHz is the frequency of the guest's time stamp counter; 0 if unknown.
func (v *VM) TSCKHz() uint64 {
	n, e := ioctl(v.vcpu, reqTSCKHz, nil)
	if e != 0 {
		return 0
	}
	return uint64(n)
}

// Regs are the guest's registers as of the last exit. Changes take effect at
// the next Run if Changed is called.
func (v *VM) Regs() *Regs { return &v.run.regs }

// Changed says that the caller wrote to Regs.
func (v *VM) Changed() { v.run.dirtyRegs |= syncRegs }

// Finish completes the instruction of the last exit, if KVM has that still to
// do, without running the guest any further.
func (v *VM) Finish() {
	v.run.immediateExit = 1
	unix.RawSyscall(unix.SYS_IOCTL, uintptr(v.vcpu), reqRun, 0)
	v.run.immediateExit = 0
}

// Run runs the guest until it exits. A signal to this thread gives ExitIntr.
func (v *VM) Run() (Exit, error) {
	// The Go runtime need not know that this may take long: nothing else wants
	// this thread's processor, and no garbage is collected.
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(v.vcpu), reqRun, 0)
	switch e {
	case 0:
		return Exit(v.run.exitReason), nil
	case unix.EINTR, unix.EAGAIN:
		return ExitIntr, nil
	}
	return 0, fmt.Errorf("kvm: run: %w", e)
}

// MMIO describes an ExitMMIO: which guest-physical address, how many bytes.
func (v *VM) MMIO() (gpa uint64, n uint32, write bool) {
	d := (*struct {
		gpa   uint64
		_     [8]byte
		n     uint32
		write uint8
	})(unsafe.Pointer(&v.run.data))
	return d.gpa, d.n, d.write != 0
}

// IO describes an ExitIO.
func (v *VM) IO() (port uint16, size uint8, count uint32, out bool) {
	d := (*struct {
		dir, size uint8
		port      uint16
		count     uint32
	})(unsafe.Pointer(&v.run.data))
	return d.port, d.size, d.count, d.dir == 1
}

// Suberror is the detail of ExitInternal and ExitEntry.
func (v *VM) Suberror() uint64 {
	return *(*uint64)(unsafe.Pointer(&v.run.data))
}

// Idle makes a VM and a vCPU that are never used.
func Idle(dev int) (vm, vcpu int, err error) {
	v, e := ioctl(dev, reqCreateVM, nil)
	if e != 0 {
		return -1, -1, fmt.Errorf("kvm: create VM: %w", e)
	}
	c, e := ioctl(int(v), reqCreateVCPU, nil)
	if e != 0 {
		closeFD(int(v))
		return -1, -1, fmt.Errorf("kvm: create vCPU: %w", e)
	}
	return int(v), int(c), nil
}

// Pilot is Idle with the descriptors at and at+1.
func Pilot(dev, at int) error {
	vm, vcpu, err := Idle(dev)
	if err != nil {
		return err
	}
	for i, fd := range []int{vm, vcpu} {
		if err := unix.Dup3(fd, at+i, unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("kvm: move descriptor %d: %w", fd, err)
		}
		unix.Close(fd)
	}
	return nil
}
