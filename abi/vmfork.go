package abi

// Fork under isolation=vm. The guest makes the same call, CallFork with ForkFlags, and
// the third argument is the address of what its host then does in its place in the
// child, where each host call would be an exit: it moves the handles of OpFork's reply
// to their numbers and closes the old ones, reads the head of the child's boot block,
// says OpHello, puts the dead socket in the place of the connections, registers with the
// new HandlePoll what was registered with the old one (for EPOLLIN, EPOLLOUT and
// EPOLLRDHUP, edge-triggered, with the handle as the data), and sets the tick.
//
// The ring of the child is empty and has no handles.
//
// All fields are little endian.
const (
	VMForkGive  = 0  // ForkHandles numbers of 32 bits: the handles of OpFork's reply
	VMForkBoot  = 16 // u64: address of BootSize bytes for the head of the boot block
	VMForkOwn   = 24 // u64: address of a bitmap of the handles that are connections
	VMForkWords = 32 // u64: its size in words of 64 bits, at most VMForkMost
	VMForkSize  = 40

	VMForkMost = 1 << 17 / 64
)
