package abi

// Fork: how a pVM copies itself, and what members of a family say to each other
// through the monitor.

// Private system calls of the library OS, far above those of Linux, which answers
// them with ENOSYS. Package noyau.dev/pvm wraps them.
const (
	SysPrivate = 0x4e00 // the first
	SysFork    = 0x4e00 // fork(rights that the child does not have): the child's process id; 0 in the child
	SysPair    = 0x4e01 // pair(type SOCK_STREAM|SOCK_SEQPACKET, *[2]int32, PairPipe or 0): a connection that fork shares
	SysShare   = 0x4e02 // share(bytes, *uintptr): memory that fork shares; its address. The first ShareHead bytes are the library OS's

	// Narrowing and more have the numbers in between.
	SysShareWait = 0x4e08 // wait(memory, address of a uint32, old value): until it is another
	SysShareWake = 0x4e09 // wake(memory): those that wait look again

	SysPrivates = 16
)

// Requests of a family.
const (
	OpFork   = 70 // A=1: after EvFork. Reply: A=process id of the child, descriptors Fork…; EAGAIN: the family has its limit; ENOSYS: not possible here
	OpForked = 71 // the guest forks now: child A has the handles of this moment; or, with B not 0, it could not or will not. No reply, unless C=1: then that to an OpFork for the next child, given ahead of need
	OpHello  = 72 // the first message on a child's channel. No reply
	OpWait   = 73 // A=process id of a child, 0: any; B=1: do not wait, WaitKeep: it can be waited for again. Reply: A=process id, 0: none yet, B=wait status as wait4(2) has it. ECHILD
	OpKill   = 74 // A=process id of a member, B=signal, 0: only ask; C=KillRuns: about one that has not ended. ESRCH
	OpPair   = 75 // A=SOCK_STREAM or SOCK_SEQPACKET. B=bytes of memory, a multiple of the page size, 0: none. Reply: two descriptors, the ends of a connection, and that of the memory. A=id of the pair in the family, B=place of the memory, by which the guest names it later. C=PairEventfd: that too
	OpShare  = 76 // A=bytes. Reply: a descriptor of so much shared memory; A=its place
)

// PairEventfd is OpPair's C: a further descriptor comes, an eventfd that wakes all who watch it
// when it is written to; without memory nothing but that.
const PairEventfd = 1

// KillRuns is OpKill's C, with B 0: one that has ended and was not waited for is ESRCH.
const KillRuns = 1

// ShareMax is the most bytes of one piece of shared memory, ShareMost the most pieces that a
// member of a family has, and the most pairs without memory. ShareNowhere is no place.
const (
	ShareMax     = 1 << 32
	ShareMost    = 1 << 14
	ShareNowhere = 1<<64 - 1
)

// PairPipe makes the first end of a pair one that only reads, the second one that only writes.
const PairPipe = 1

// ShareHead is what lies before the bytes that SysShare has made.
const ShareHead = 128

// WaitKeep is a bit of OpWait's B.
const WaitKeep = 2

// Descriptors beside the reply to OpFork, in this order.
const (
	ForkControl = iota // HandleControl of the child
	ForkBoot           // HandleBoot
	ForkPoll           // HandlePoll
	ForkDead           // a socket that is not connected: takes the place of the parent's connections
	ForkHandles
)

// MaxRights is the most descriptors beside one message to the guest.
const MaxRights = ForkHandles

// Host calls of a pVM that may fork, besides CallFork and CallItimer.
const (
	CallDup   = 292 // dup3(handle, number, O_CLOEXEC)
	CallPrctl = 157 // prctl(PR_SET_PDEATHSIG, SIGKILL)

	// CallRing is write(handle, *uint64, 8): it wakes who waits, see PairEventfd. It costs less than a
	// byte on a connection. Isolation=vm has none, as what costs there is the exit.
	CallRing = 1

	// CallYield is sched_yield(): others have the processor first. It is for who waits for
	// shared memory. Isolation=vm has none.
	CallYield = 24

	// ForkFlags are the flags of CallFork: CLONE_PARENT|SIGCHLD. The child is the
	// monitor's, which waits for it.
	ForkFlags = 0x8000 | 17
)
