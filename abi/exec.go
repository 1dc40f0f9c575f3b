package abi

// Starting other images: os/exec. A child is prepared by some requests and started by
// the last. The monitor decides which images there are.

// Requests of a pVM whose family may have several members.
const (
	OpExecNew   = 80 // payload: name of an image (see RecExec), "" for the pVM's own. Reply: A=number of the child that is prepared. EACCES: not granted
	OpExecText  = 81 // A=number, B=ExecArgs …; payload: strings, added to what came before. E2BIG
	OpExecFile  = 82 // A=number, B=descriptor in the child, C=what it is: ExecPipe …, D=1, 2, 3: behind it is standard stream 0, 1, 2 of this pVM. ExecListener: Handle, and payload of up to ExecAboutMax bytes for the child. Reply to ExecPipe: the descriptor of the other end, which is end 1; A=id of the pair
	OpExecStart = 83 // A=number, B=signal when this pVM ends, or 0. Reply: A=process id. EAGAIN: the family has its limit
	OpExecDrop  = 84 // A=number: it is not wanted any more. No reply
)

// Kinds of OpExecText.
const (
	ExecArgs = iota // argv, from argv[0] on
	ExecEnv         // "KEY=value"
	ExecDir         // working directory
	ExecPath        // absolute path of the file that was executed
)

// What a descriptor of a child is. The child itself sees stream sockets.
const (
	ExecPipe = iota // the other end comes with the reply
	ExecSame        // the stream socket that is beside the message
	ExecNull        // nothing to read, and what is written is lost
	// ExecListener is the listening socket beside the message, of which the monitor has a
	// name: a published port's, or that of a unix socket. Both have it then.
	ExecListener
	// ExecLike is what another descriptor of the child is, Handle: an ExecPipe or ExecSame. What the
	// child writes to both stays in order.
	ExecLike
)

// ExecAboutMax bounds what a guest tells a child of its about a listener.
const ExecAboutMax = 512

// Limits of one child.
const (
	ExecTextMax  = 120 << 10 // bytes of arguments and environment, with 9 more for each string
	ExecFilesMax = 19        // descriptors: standard streams and 16 more
)

// Boot records.
const (
	RecExec     = 9  // string path, string name: a file of the in-memory root that stands for an image; "" as a path: the program itself
	RecExecFile = 10 // u32 descriptor, u32 handle: open from the start; 0, 1, 2: nobody else has it
	RecExecPath = 11 // string: where the program's executable is
	// RecExecListener is a listener that is open from the start: u32 descriptor, u32 handle,
	// u32 the monitor's name for it, and what the parent says of it.
	RecExecListener = 12
)

// EvOrphan is an event: the parent has ended, getppid answers A, which is 0.
const EvOrphan = 6
