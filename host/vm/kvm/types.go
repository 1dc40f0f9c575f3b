package kvm

// Regs are the general registers, laid out as struct kvm_regs.
type Regs struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RIP, RFLAGS                            uint64
}

// Segment is struct kvm_segment.
type Segment struct {
	Base                         uint64
	Limit                        uint32
	Selector                     uint16
	Type, Present, DPL, DB, S, L uint8
	G, AVL, Unusable, _          uint8
}

// Table is struct kvm_dtable: the place of the GDT or IDT.
type Table struct {
	Base  uint64
	Limit uint16
	_     [3]uint16
}

// Sregs are the system registers, laid out as struct kvm_sregs.
type Sregs struct {
	CS, DS, ES, FS, GS, SS, TR, LDT         Segment
	GDT, IDT                                Table
	CR0, CR2, CR3, CR4, CR8, EFER, APICBase uint64
	Pending                                 [4]uint64
}

// run is the start of struct kvm_run, which the kernel shares with us.
type run struct {
	requestWindow uint8
	immediateExit uint8
	_             [6]uint8
	exitReason    uint32
	_             [20]uint8
	data          [256]byte // the union, at offset 32
	validRegs     uint64    // at 288
	dirtyRegs     uint64
	regs          Regs // at 304
	sregs         Sregs
	events        [64]byte
}

// Bits of validRegs and dirtyRegs.
const (
	syncRegs  = 1
	syncSregs = 2
)

// CPUIDEntry is struct kvm_cpuid_entry2.
type CPUIDEntry struct {
	Function, Index, Flags uint32
	EAX, EBX, ECX, EDX     uint32
	_                      [3]uint32
}

// XSaveSize is the size in bytes of the XSAVE image that KVM exchanges.
const XSaveSize = 4096

// XSave is an extended processor state in the standard (not compacted) format.
type XSave [XSaveSize]byte

// An Exit says why the guest stopped.
type Exit uint32

// The exits that a sealed guest can cause; all others end it.
const (
	ExitIO       Exit = 2
	ExitHLT      Exit = 5
	ExitMMIO     Exit = 6
	ExitShutdown Exit = 8
	ExitEntry    Exit = 9
	ExitIntr     Exit = 10
	ExitInternal Exit = 17
)

// String names e as KVM's documentation does.
func (e Exit) String() string {
	switch e {
	case 0:
		return "unknown"
	case 1:
		return "exception"
	case ExitIO:
		return "io"
	case ExitHLT:
		return "hlt"
	case ExitMMIO:
		return "mmio"
	case ExitShutdown:
		return "shutdown (triple fault)"
	case ExitEntry:
		return "failed entry"
	case ExitIntr:
		return "interrupted"
	case ExitInternal:
		return "internal error (an instruction that KVM cannot emulate)"
	}
	return "number " + utoa(uint32(e))
}

func utoa(n uint32) string {
	var b [10]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}
