package abi

// MsgSize is the size of an encoded message header, in bytes.
const MsgSize = 48

// Msg is the header of every message on the control channel. A payload of up
// to MaxPayload bytes follows it. One message is one packet. The guest chooses
// ID (never 0) and the monitor's reply repeats it; replies come in any order.
// The monitor's own messages (events) have ID 0.
//
// In a reply Errno is 0 or a Linux error number. If Handle is not 0 the reply
// gives a handle: under process the descriptor travels beside the message
// (SCM_RIGHTS) and Handle is the monitor's name for it, to be used in later
// messages; under vm Handle is also the number for host calls.
type Msg struct {
	ID     uint32
	Op     uint16
	Flags  uint16
	Handle uint32
	Errno  int32
	A      uint64
	B      uint64
	C      uint64
	D      uint64
}

// Requests. "path" is a payload string relative to the root of volume A, "" or
// "." for the root itself; never absolute, never containing "..", "." or empty
// components; the monitor refuses others with EINVAL and resolves strictly
// beneath the root (EXDEV for a symbolic link that leaves it or is absolute).
// Unless said otherwise Handle is a file handle that an OpOpen reply named.
const (
	// Sockets.
	OpListen  = 1 // payload Addr; A=protocol (Proto*), B=backlog. Reply: Handle; payload: the Addr bound, in the guest's terms. EACCES: not published, so inside only
	OpConnect = 2 // payload Addr remote [, Addr local]; A=protocol. Reply when connected: Handle; payload: local Addr. UDP: a connected socket
	OpUDP     = 3 // an unconnected UDP socket; payload Addr local (port 0: any). Reply: Handle; payload: Addr bound
	OpSendTo  = 4 // UDP datagram to an address, checked by policy; Handle; payload: Addr, then the data. Reply A=bytes; with ID 0 there is no reply and what is refused is lost
	OpSockopt = 5 // Handle, or the socket beside the message (process); A=level, B=name, C=value, D: 0 get, 1 set; get: reply A=value. SO_LINGER: l_onoff in the low 32 bits, l_linger in the high
	OpShut    = 6 // shutdown; Handle or socket beside; A=how
	OpDrop    = 7 // the pVM has closed its side of Handle; no reply. Handle 0: it gives up the request whose ID is A, which is then answered soon, with EINTR unless it is done

	// Files.
	OpOpen     = 20 // A=volume, B=flags (O_*), C=mode; path. Reply: Handle; payload: Stat
	OpStat     = 21 // A=volume, B=AT_SYMLINK_NOFOLLOW or 0; path. Reply payload: Stat
	OpFstat    = 22 // Handle. Reply payload: Stat
	OpReadDir  = 23 // Handle, A=cookie (0: from the start), B=most bytes. Reply: payload linux_dirent64 records; A=next cookie; empty at the end
	OpMkdir    = 24 // A=volume, C=mode; path
	OpUnlink   = 25 // A=volume, B=AT_REMOVEDIR or 0; path
	OpRename   = 26 // A=volume, B=flags of renameat2; two paths
	OpLink     = 27 // A=volume; two paths
	OpSymlink  = 28 // A=volume; target string, path
	OpReadlink = 29 // A=volume; path. Reply: string
	OpChmod    = 30 // A=volume, C=mode; path; or Handle with no payload
	OpChown    = 31 // A=volume, B=uid, C=gid, D=AT_SYMLINK_NOFOLLOW; path; or Handle
	OpTruncate = 32 // Handle, A=size
	OpTimes    = 33 // A=volume, B=flags, C=atime ns, D=mtime ns (TimeOmit: leave); path; or Handle
	OpSync     = 34 // Handle, A=1: data only (fdatasync)
	OpFlock    = 35 // Handle, A=operation (LOCK_*); a blocking one is answered when it has the lock
	OpLock     = 36 // fcntl record lock (open file description locks): Handle, A=type, B=start, C=length, D=1 wait, 2 get. Reply to get: A=type, B=start, C=length
	OpStatfs   = 37 // A=volume. Reply payload: Statfs
	OpFalloc   = 38 // Handle, A=mode, B=offset, C=length
	OpAccess   = 39 // A=volume, B=mode; path
	OpMknod    = 40 // A=volume, C=mode (FIFO and regular only); path

	// Process.
	OpKilled  = 60 // the pVM is about to end as if killed by signal A; no reply, exit follows
	OpTermGet = 61 // A=0,1,2: termios of the terminal behind it. Reply: payload struct termios (kernel layout, 36 bytes)
	OpTermSet = 62 // A=0,1,2, B=TCSETS/W/F; payload termios
)

// Events: messages of the monitor's own accord (ID 0).
const (
	EvSignal   = 1 // deliver signal A to the app, as the kernel would to a process
	EvWinsize  = 2 // A=rows, B=columns; followed by SIGWINCH semantics
	EvFork     = 3 // fork, by OpFork with A=1: somebody outside wants a copy
	EvGiveBack = 5 // the family needs the place of the child that was prepared by OpForked with C=1: give it back by OpForked with B=EAGAIN
)

// Protocols of OpListen and OpConnect.
const (
	ProtoTCP = 6
	ProtoUDP = 17
)

// TimeOmit as a time in OpTimes leaves that time as it is.
const TimeOmit = 1 << 63

// AddrSize is the size of an encoded Addr, in bytes.
const AddrSize = 24

// Addr is an IP endpoint. An IPv4 address is in the first 4 bytes of IP.
type Addr struct {
	Family uint8 // 4 or 6
	Port   uint16
	Zone   uint32
	IP     [16]byte
}

// StatSize is the size of an encoded Stat, in bytes.
const StatSize = 96

// Stat describes a file of a volume. Ino is the host's; Dev is the volume
// number plus one. UID and GID are as the guest should see them.
type Stat struct {
	Dev, Ino, Nlink     uint64
	Mode, UID, GID      uint32
	_                   uint32
	Rdev                uint64
	Size                int64
	Blksize             int64
	Blocks              int64
	Atime, Mtime, Ctime int64 // nanoseconds since the Unix epoch
}

// StatfsSize is the size of an encoded Statfs, in bytes.
const StatfsSize = 64

// Statfs describes the file system behind a volume.
type Statfs struct {
	Type, Bsize, Blocks, Bfree, Bavail, Files, Ffree, Namelen uint64
}
