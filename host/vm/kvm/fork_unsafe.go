package kvm

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A State is what a guest can see and change of its vCPU.
type State struct {
	regs  Regs
	sregs Sregs
	xsave XSave
}

// Save reads the state of the vCPU, which has exited for a store to memory that is
// not there and for nothing else.
func (v *VM) Save(s *State) error {
	v.run.validRegs = syncRegs | syncSregs
	v.Finish()
	v.run.validRegs = syncRegs
	s.regs, s.sregs = v.run.regs, v.run.sregs
	return v.XSave(&s.xsave)
}

// Remake makes a new VM and vCPU in the place of those of v, in a fork of the process
// that made v: these belong to the other's memory. The vCPU has the state s, and there
// is no memory yet. It does not allocate, and returns what failed and why.
func (v *VM) Remake(s *State) (failed string, e unix.Errno) {
	closeFD(v.vm)
	closeFD(v.vcpu)
	vm, e := ioctl(v.dev, reqCreateVM, nil)
	if e != 0 {
		return "create VM", e
	}
	v.vm = int(vm)
	vcpu, e := ioctl(v.vm, reqCreateVCPU, nil)
	if e != 0 {
		return "create vCPU", e
	}
	v.vcpu = int(vcpu)
	// The page that lies there is shared with the other process.
	if _, _, e := unix.RawSyscall6(unix.SYS_MMAP, uintptr(unsafe.Pointer(v.run)), uintptr(len(v.mapped)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED, vcpu, 0); e != 0 {
		return "map the shared page", e
	}
	if _, e := ioctl(v.vcpu, reqSetCPUID, unsafe.Pointer(v.cpuid)); e != 0 {
		return "set CPUID", e
	}
	if _, e := ioctl(v.vcpu, reqSetXCRs, unsafe.Pointer(&v.xcrs)); e != 0 {
		return "set XCR0", e
	}
	if n, e := ioctl(v.vcpu, reqSetMSRs, unsafe.Pointer(&v.msrs)); e != 0 || n != uintptr(v.msrs.n) {
		return "set MSRs", e
	}
	if v.zeroTSC && !v.ClearTSCOffset() {
		return "set the time stamp counter", unix.EINVAL
	}
	if _, e := ioctl(v.vcpu, reqSetXSave, unsafe.Pointer(&s.xsave)); e != 0 {
		return "set extended state", e
	}
	v.run.validRegs = syncRegs
	v.run.regs, v.run.sregs = s.regs, s.sregs
	v.run.dirtyRegs = syncRegs | syncSregs
	return "", 0
}

// CloseDevice gives up the descriptor of /dev/kvm: there will be no Remake.
func (v *VM) CloseDevice() {
	if v.dev >= 0 {
		closeFD(v.dev)
		v.dev = -1
	}
}

// CanRemake reports whether Remake is possible in a fork.
func (v *VM) CanRemake() bool { return v.dev >= 0 && v.cpuid != nil && v.xcrs.n != 0 }

func closeFD(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
