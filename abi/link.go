package abi

// Links: members that signal each other do it by memory and a connection that the two
// share, without the monitor. It makes a link when it is asked to, and takes it away
// when one of the two ends or when somebody of the family loses NarrowSignal.
const (
	OpSignalLink   = 92 // A=process id of another member. Reply: B=its box for the guest's own end, C=a number that no other link of the family ever has, descriptors Link…. ESRCH; EPERM: one of the two has lost NarrowSignal; EAGAIN
	OpSignalUnlink = 93 // A=process id, C=number: the guest does not want that link any more. No reply

	EvLink   = 7 // A=process id of a member that asked for a link, B and C as above, with the descriptors
	EvUnlink = 8 // A=process id, C=number: the link to that member is no more. What its other end has not taken out of its box can be sent by OpKill. B=1: since a right was lost; then nothing that lies in the guest's own box counts
)

// Descriptors of a link, in this order.
const (
	LinkDoorbell = iota // a connection: a byte is a ring
	LinkMemory          // LinkSize bytes
	LinkHandles
)

// The memory of a link: a box for each end, LinkBoxSize bytes apart. The owner takes the
// signals out of its box, and sets LinkAsleep before it sleeps; the other end adds signals,
// and rings if it finds LinkAsleep set, which it clears.
const (
	LinkSize    = PageSize
	LinkBoxSize = 256
	LinkSignals = 0 // u32: bit n-1 for signal n; only those in LinkAllowed mean something
	LinkAsleep  = 4 // u32: not 0: ring. 1 at the beginning

	// LinkAllowed are the signals 1 to 31 but SIGKILL, and but those of job control,
	// which go by the monitor: SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU.
	LinkAllowed = (1<<31 - 1) &^ (1<<(9-1) | 1<<(18-1) | 1<<(19-1) | 1<<(20-1) | 1<<(21-1) | 1<<(22-1))
)

// LinkMost bounds the links of a member: of one more, the oldest is taken away.
const LinkMost = 16

// MailboxMost bounds the mailboxes that the runtime of a pVM looks at before it sleeps.
const MailboxMost = 8
