package abi

// isolation=vm: the image runs at CPL 3 of a KVM virtual machine. It starts as
// Linux would start it (registers, stack, auxiliary vector), with one more
// auxiliary entry, ATNoyau, whose presence means "this is a vm". A host call is
// then not a SYSCALL instruction but
//
//	RAX = number, RDI RSI RDX R10 R8 R9 = arguments
//	MOVL EAX, (hypercall page)      a 4-byte store, any plain MOV
//	RAX = result, or -errno         all other registers are kept
//
// rt_sigreturn works the same way with RSP where the handler's RET left it.
// Any other access to the hypercall page ends the VM.
const (
	// ATNoyau is the type of the auxiliary vector entry that holds the address
	// of the info page. Linux hands out small numbers only.
	ATNoyau = 0x4e6f7961

	// VMInfoMagic begins the info page: "NOYAUVM1", little endian.
	VMInfoMagic = 0x314d565541594f4e
)

// Byte offsets in the info page, which the guest can only read. All fields are
// 64-bit little endian. The clock fields change together: read VMInfoSeq, which
// is odd during a change, then the fields, then VMInfoSeq again, and start over
// if it is odd or differs. Then, with d = RDTSC - TSCBase as a signed number,
//
//	monotonic ns = MonoBase + (d*TSCMul)>>32     (128-bit product)
//	wall ns      = WallBase + (d*TSCMul)>>32     (since the Unix epoch)
//
// If TSCMul is 0 the TSC cannot be used: ask with CallClock.
const (
	VMInfoMagicAt   = 0x00
	VMInfoHypercall = 0x08 // address of the hypercall page
	VMInfoSeq       = 0x10
	VMInfoTSCBase   = 0x18
	VMInfoTSCMul    = 0x20 // nanoseconds per TSC tick, times 2^32
	VMInfoMonoBase  = 0x28
	VMInfoWallBase  = 0x30
)

// Where things lie in the guest's address space. Guests learn these addresses
// from the auxiliary vector; they are here for the monitor and its tests.
const (
	VMStackBase     = 0x7fffffe40000 // lowest byte of the initial stack; a guard lies below
	VMStackSize     = 256 << 10
	VMInfoPage      = 0x7fffffea0000
	VMHypercallPage = 0x7fffffec0000
)
