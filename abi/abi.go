// Package abi is everything that an image and its monitor share: numbers,
// message layouts and limits. It holds data types and pure functions only, and
// imports nothing, so that the Go runtime inside an image can use it.
//
// The host ABI is a small subset of the Linux system call interface: same
// numbers, same argument order, same error numbers. Under isolation=process
// the image executes them as system calls, cut down by seccomp to exactly this
// list; under isolation=vm the monitor answers the same numbers as hypercalls.
// What needs a decision (listen, connect, open a file …) is not a call: it is a
// message on the control channel (see Msg), answered by the monitor, which
// checks it against the pVM's policy and may give back a handle.
//
// A handle is a small non-negative integer: a file descriptor under process,
// an index in the monitor's table under vm. It is a capability; no call
// names a global object.
package abi

// Version is the version of everything in this package. An image carries it in
// its manifest and a monitor refuses another.
const Version = 5

// Magic begins the boot block.
const Magic = 0x314c4f5541594f4e // "NOYAUOL1", little endian

// Handles that every pVM has from the start.
const (
	HandleStdin   = 0 // stream socket or the like; nonblocking
	HandleStdout  = 1
	HandleStderr  = 2
	HandleControl = 3 // sequenced-packet socket to the monitor: Msg both ways
	HandleBoot    = 4 // read-only file: BootHeader, then the boot payload
	HandlePoll    = 5 // the epoll instance of this pVM (process only)
	HandleLeash   = 6 // where fork is allowed: says nothing and cannot be closed, ends with the monitor; else the boot block again
	HandleFirst   = 6 // the first number that is not the same for all
)

// Host calls: the numbers are those of Linux on amd64. All calls are
// nonblocking, but CallPoll.
const (
	CallRecv   = 45  // recvfrom(handle, buf, len, flags, *sockaddr, *socklen)
	CallSend   = 44  // sendto(handle, buf, len, MSG_NOSIGNAL|…, sockaddr|0, socklen)
	CallPread  = 17  // pread64(handle, buf, len, offset)
	CallPwrite = 18  // pwrite64(handle, buf, len, offset)
	CallAccept = 288 // accept4(handle, *sockaddr, *socklen, SOCK_NONBLOCK|SOCK_CLOEXEC)
	CallClose  = 3   // close(handle)
	CallWatch  = 233 // epoll_ctl(HandlePoll, ADD|DEL, handle, *epoll_event); always edge-triggered
	CallPoll   = 281 // epoll_pwait(HandlePoll, *epoll_event, max, timeout ms, 0, 8)
	CallMap    = 9   // mmap inside the memory region: grow, or release what was there
	CallExit   = 231 // exit_group(code)

	CallSigreturn = 15 // rt_sigreturn

	// process only: under vm there are the signal page, the clock of the info page,
	// and handles beside messages (see VMHandles)
	CallRecvmsg   = 47  // recvmsg(HandleControl): a reply that carries a handle
	CallSendmsg   = 46  // sendmsg(HandleControl): a request that names a handle only the pVM has
	CallSigaction = 13  // rt_sigaction, at start
	CallSigstack  = 131 // sigaltstack, at start
	CallClock     = 228 // clock_gettime, only where the vDSO cannot

	CallFork   = 56 // clone(SIGCHLD), only where the policy allows fork
	CallItimer = 38 // setitimer, only with CallFork: timers are not inherited
)

// Memory layout, the same under every isolation. Addresses are guest virtual.
const (
	// RegionBase is where the memory region (Go heap, runtime metadata,
	// anonymous maps) begins. All CallMap requests lie inside the region.
	RegionBase = 0xc000000000
	// RegionMax is the largest size of the region, in bytes (256 GiB).
	RegionMax = 1 << 38

	PageSize = 4096

	// HeapArena is what the Go heap grows by.
	HeapArena = 4 << 20

	// RegionLow is how much of the region lies before the heap: most of the metadata.
	RegionLow = 12 << 20
)

// RegionSize is how much of the region an image asks for at its start if its heap may take
// memory bytes (BootHeader.Memory; 0: no limit), and how much of that is for the heap, in
// bytes. The rest is metadata: the page allocator's summaries and the arena index are
// reserved for the whole address space (some 7 MB, hardly touched), other things
// grow with the heap.
func RegionSize(memory uint64) (size, heap uint64) {
	if memory == 0 {
		return RegionMax, RegionMax / 2
	}
	heap = (memory + HeapArena - 1) &^ (HeapArena - 1)
	return (heap + heap/4 + 64<<20) &^ (HeapArena - 1), heap
}

// Network as the pVM sees it. The addresses are those that QEMU's user network
// uses, which many know. They exist only inside: the host never sees them.
const (
	GuestIP4   = "10.0.2.15" // the pVM's own address, /24
	GuestIP6   = "fd00::15"  // likewise, /64
	GatewayIP4 = "10.0.2.2"  // the host's loopback, if the policy allows it
	GatewayIP6 = "fd00::2"   // likewise, ::1
	DNSIP4     = "10.0.2.3"  // the monitor's name service, udp and tcp port 53
)

// Limits of the control channel.
const (
	MaxMsg     = 64 << 10 // bytes of one message, header included
	MaxPayload = MaxMsg - MsgSize
	MaxPath    = 4096 // bytes of a path, no NUL inside
	MaxPending = 4096 // requests of one pVM under way at once; more get EAGAIN
)
