package abi

// Snapshot: a pVM's state in a file. The guest writes it and the guest reads it back,
// by the calls that it has for files, so it does not matter what isolates it.

// SnapMagic begins a snapshot, SnapVersion is that of its layout.
const (
	SnapMagic   = 0x50414e5355594f4e // "NOYUSNAP", little endian
	SnapVersion = 1

	SnapHead    = 4096     // bytes of the header, in which a SnapHeader is
	SnapTable   = 64 << 10 // bytes of the table of extents, behind the header
	SnapData    = SnapHead + SnapTable
	SnapExtent  = 24 // bytes of an entry: address, length, offset in the file, u64 each
	SnapExtents = SnapTable / SnapExtent
)

// SnapHeader is the fixed part. The runtime uses it in memory as it is in the file.
type SnapHeader struct {
	Magic   uint64
	Version uint32
	Extents uint32
	Size    uint64 // of all that the guest has written, in bytes
	SP      uint64
	BP      uint64
	PC      uint64
	// Parts that are read and not mapped: variables, and the stack of the system.
	DataLo, DataHi, DataAt    uint64
	StackLo, StackHi, StackAt uint64
}

// StackTop is the end of the stack of an image that is started without randomization.
const StackTop = 0x7ffffffff000

// Messages of snapshots.
const (
	EvSnapshot    = 4  // write a snapshot, into the file of OpSnapshot
	OpSnapshot    = 77 // reply: a descriptor of the file to write
	OpSnapshotted = 78 // B=errno. No reply
	OpLast        = OpSnapshotted
)
