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
// The numbers are those of a host call as under process, but for what needs no call
// here: CallSigaction, CallSigstack (the signal page), CallClock (the info page),
// CallRecvmsg and CallSendmsg. On the control channel CallRecv and CallSend have, where
// the socket address would be, the handles beside the message: argument 5 is the
// address of u32 numbers, argument 6 their size in bytes, at an address for CallRecv,
// which takes from there how many fit and stores how many came.
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
// There is no call for the time.
//
// The memory region of RegionSize bytes is there from the start: VMInfoRegion says so.
//
// A boot block that has room there is in the page, as of the start, of a restore (not that of
// a standby, see WarmTouch), or of the order of a standby: VMInfoBootSize bytes at the offset
// VMInfoBoot. If VMInfoBootSize is 0, as in a fork, it is to be read from HandleBoot.
const (
	VMInfoMagicAt   = 0x00
	VMInfoHypercall = 0x08 // address of the hypercall page
	VMInfoSeq       = 0x10
	VMInfoTSCBase   = 0x18
	VMInfoTSCMul    = 0x20 // nanoseconds per TSC tick, times 2^32
	VMInfoMonoBase  = 0x28
	VMInfoWallBase  = 0x30
	VMInfoRegion    = 0x48 // bytes that are mapped at RegionBase
	VMInfoBootSize  = 0x50
	VMInfoWatched   = 0x58 // not 0: HandleControl is registered with the poll
	VMInfoBoot      = 0x100
)

// Where things lie in the guest's address space. Guests learn these addresses
// from the auxiliary vector; they are here for the monitor and its tests.
const (
	VMStackBase     = 0x7fffffe40000 // lowest byte of the initial stack; a guard lies below
	VMStackSize     = 256 << 10
	VMInfoPage      = 0x7fffffea0000
	VMHypercallPage = 0x7fffffec0000
)

// The signal page says how exceptions and ticks reach a guest, which alone writes it:
// Linux's struct sigaction (handler, flags, restorer, mask, u64 each) of signal n at
// VMSigActions+n*VMSigAction, and the stack of handlers with SA_ONSTACK. Of zeros there
// is no handler and no such stack. It is read when a signal is delivered, so there is
// no call for any of it. Signals are masked by delivery and rt_sigreturn alone.
const (
	VMInfoSignals = 0x40 // address of the page, in the info page

	VMSigStack   = 0x00 // lowest address of the stack
	VMSigSize    = 0x08 // its size in bytes; 0: none
	VMSigActions = 0x40
	VMSigAction  = 32
	VMSigMax     = 65 // above all signals

	// VMSignals is where the page lies today.
	VMSignals = 0x7fffffed0000
)

// The ring is memory that guest and monitor share so that data needs fewer exits.
// Its address is in the info page (VMInfoRing); 0 means there is none. Using it is
// never required: the monitor receives ahead only for handles whose bit the guest
// has set in VMRingBatched, so a guest that sets none gets all by calls.
//
// Out: the guest appends records (handle u16, length of an address u16, length of
// the data u32, address, data, each padded to 8 bytes) at VMRingOut+used, then adds
// to used. The monitor sends each with one call, in order, at the next exit of any
// kind, before anything else. The guest sets writing while it appends and does not
// append while somebody else writes, or while blocked is not 0: then a peer does not
// read and what is in the queue stays there. The bit of a handle in VMRingFailed,
// written by the monitor only, is set after a send or a receive has failed: the next
// CallRecv or CallSend on it answers with the error.
//
// In: when CallPoll reports that a handle with a bit in VMRingBatched is readable, the
// monitor may already have received up to VMSlotSize bytes into a free slot. A slot
// belongs to the handle in VMRingHandles (VMSlotFree: none) until the guest writes
// VMSlotFree there. Its content comes before what CallRecv gives. If the handle has a
// bit in VMRingDatagrams too, the content is datagrams: records as above, whose
// address (struct sockaddr) is the sender's; a datagram that does not fit is left to CallRecv.
//
// The bit of a handle in VMRingReadable, written by the monitor only, is clear
// after a receive that took all there was: CallRecv would say EAGAIN, and does not
// need to be made before CallPoll has reported the handle again.
const (
	VMInfoRing = 0x38

	VMRingUsed       = 0x00 // u32: bytes of records, written by the guest; reset by the monitor
	VMRingWriting    = 0x04 // u32: the guest is appending
	VMRingBlocked    = 0x08 // u32: by the monitor: do not append
	VMRingFilled     = 0x0c // u32: by the monitor: slots in use when it last ran
	VMRingHandles    = 0x100
	VMRingLengths    = 0x200
	VMRingDone       = 0x300   // u32 each: how much of each slot the guest has taken, its own affair
	VMRingHandlesMax = 1 << 16 // handles from here on have no part in the ring
	VMRingReadable   = 0x1000  // a bit for each handle, as in the next three
	VMRingFailed     = VMRingReadable + VMRingHandlesMax/8
	VMRingBatched    = VMRingFailed + VMRingHandlesMax/8
	VMRingDatagrams  = VMRingBatched + VMRingHandlesMax/8
	VMRingOut        = VMRingDatagrams + VMRingHandlesMax/8
	VMRingOutSize    = 64 << 10
	VMRingSlots      = VMRingOut + VMRingOutSize
	VMSlots          = 64
	VMSlotSize       = 4096
	VMSlotFree       = 0xffffffff
	VMRingSize       = VMRingSlots + VMSlots*VMSlotSize

	// Of a record.
	VMRecHeader  = 8
	VMRecAddrMax = 32     // bytes of an address
	VMRecNobody  = 0xffff // in place of a handle: nothing is sent

	// VMRing is where the ring lies today.
	VMRing = 0x7fffffee0000
	// VMQueued is the most bytes that one record should have: more is better sent by a call.
	VMQueued = 16 << 10
)
