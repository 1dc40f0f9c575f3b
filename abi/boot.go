package abi

// The boot block is the content of HandleBoot: a BootHeader, then a payload of
// records. Arguments, environment and the auxiliary vector are not in it: they
// lie on the initial stack as the System V ABI says, under every isolation.

// BootSize is the size of an encoded BootHeader, in bytes.
const BootSize = 128

// BootHeader is the fixed part, read by the runtime before its heap exists.
// All fields are little endian at the offsets of their order here.
type BootHeader struct {
	Magic   uint64 // abi.Magic
	Version uint32 // abi.Version
	Flags   uint32 // BootVM …
	Size    uint64 // size of the whole boot block, in bytes
	Memory  uint64 // limit of the memory region in bytes; 0 means RegionMax
	ID      uint64 // this pVM's id, unique per monitor; what getpid shows is PID
	PID     uint32 // what getpid answers
	PPID    uint32
	UID     uint32 // what getuid answers
	GID     uint32
	TickUS  uint32   // preemption tick while busy, microseconds
	Restore uint32   // handle of a snapshot to go on from; 0: none. The next one is a ForkDead socket
	Seed    [32]byte // fresh random bytes
	// With Restore: where in the file this pVM's header is, and how many pieces of memory it
	// shares with its family; see ShareBatch.
	RestoreAt uint64
	Shared    uint32
	_         [20]byte // reserved, zero
}

// Bits of BootHeader.Flags.
const (
	BootVM     = 1 << iota // the guest runs under isolation=vm
	BootTrace              // print the app's system calls (noyau run --trace)
	BootTTY0               // handle 0 is a terminal on the host's side
	BootTTY1               // handle 1 is
	BootTTY2               // handle 2 is
	BootNetOut             // unconnected UDP may be sent with CallSend to any address; else OpSendTo
	BootFork               // fork is allowed
	BootFamily             // the family may have several members
	BootNames              // unix sockets have names outside: of a family, or of channels
	BootWarm               // with Restore: HandleControl is a mailbox, on which the pVM waits to become one; see WarmTouch
)

// A restored pVM that finds BootWarm in its boot block was made ahead of time. It does what
// does not depend on who it will be, says that it is ready by sending one byte, and waits on
// its mailbox for messages of at most WarmMax bytes: a u32 kind, a u32 that it does not look
// at, a u64 count, then what is counted. It says that it is ready after each but the last. Under
// isolation=vm it is the host that says so: there, CallRecv on HandleControl waits for a
// message.
const (
	// WarmTouch: u64 runs of pages, address + pages-1, which it writes to without a
	// change, so that it has them later.
	WarmTouch = 1
	// WarmOrder: u64 handle numbers, for descriptors beside the message in that order. They
	// replace what is there, among them HandleControl and HandleBoot, by which it becomes a
	// pVM. Under isolation=vm CallRecv returns the header of the boot block behind them, and
	// the host has registered HandleControl with the poll.
	WarmOrder = 2

	WarmHead    = 16   // bytes before what is counted
	WarmMax     = 1024 // bytes
	WarmHandles = 4    // the most in an order
)

// Kinds of boot records. A record is: kind u16, reserved u16, length u32, then
// length bytes, padded with zeros to a multiple of 8. Strings are u16 length
// plus bytes (see AppendString). Unknown kinds are skipped.
const (
	RecHostname = 1 // string
	RecDir      = 2 // string: the working directory at start (-w)
	RecFile     = 3 // string path, u32 mode, then the content: a file of the in-memory root
	RecHostFile = 4 // string path, u32 mode, u32 handle, u64 size: content behind a read-only handle
	RecVolume   = 5 // string guest path, u32 volume number, u32 flags (VolumeReadOnly)
	RecWinsize  = 6 // u16 rows, u16 cols: of the terminal at start
	RecLimit    = 7 // u32 resource (RLIMIT_*), u64 soft, u64 hard: what getrlimit answers
	RecTraceTo  = 8 // u32 handle that the trace is written to (default: 2)
)

// VolumeReadOnly is a flag of RecVolume.
const VolumeReadOnly = 1
