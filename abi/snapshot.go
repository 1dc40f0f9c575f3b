package abi

// Snapshot: a pVM's state in a file. The guest writes it and the guest reads it back,
// by the calls that it has for files, so it does not matter what isolates it.

// SnapMagic begins a snapshot, SnapVersion is that of its layout.
const (
	SnapMagic   = 0x50414e5355594f4e // "NOYUSNAP", little endian
	SnapVersion = 3

	SnapHead    = 4096     // bytes of the header, in which a SnapHeader is
	SnapTable   = 64 << 10 // bytes of the table of extents, behind the header
	SnapData    = SnapHead + SnapTable
	SnapExtent  = 24 // bytes of an entry: address, length, offset in the file, u64 each
	SnapExtents = SnapTable / SnapExtent
	// SnapVars is the most extents of variables.
	SnapVars = 64

	// SnapAreas is the most pieces of shared memory that one pVM of a family has in a
	// snapshot, SnapArea the bytes of each in its table: address, length, and its place
	// among all that the family shares, u64 each.
	SnapAreas = 1024
	SnapArea  = 24

	// SnapHandles is above all handles that a snapshot can speak of.
	SnapHandles = 1 << 17
)

// SnapHeader is the fixed part, little endian at the offsets of the order here. The
// runtime uses it in memory as it is in the file. SP, BP and PC are where a restored
// pVM begins, with the address of the info page of isolation=vm in RBX, or 0.
type SnapHeader struct {
	Magic   uint64
	Version uint32
	Extents uint32
	Size    uint64 // of all that the guest has written, in bytes
	SP      uint64
	BP      uint64
	PC      uint64
	Region  uint64 // bytes of the memory region
	DataLo  uint64 // the variables, whole pages
	DataHi  uint64
	Open    uint64 // address of a bit for each handle below Handles that was given after the start
	Handles uint64
	Mono    int64  // the pVM's monotonic clock, ns
	Wall    int64  // wall clock, ns since the Unix epoch
	Areas   uint64 // address of the table of AreaN pieces of shared memory, in the region
	AreaN   uint32
	Shared  uint32 // entries of the table of extents, behind the others, that are parts of shared memory; 0 in a file that is complete
}

// SnapHeaderSize is the size of an encoded SnapHeader, in bytes.
const SnapHeaderSize = 120

// Where some fields of a SnapHeader are.
const (
	SnapExtentsAt = 12
	SnapSizeAt    = 16
	SnapSharedAt  = 116
)

// An Extent is a run of pages: where they are in memory, and in the file. Pages that are
// equal in several members of a family may be in the file once.
type Extent struct{ Addr, Len, At uint64 }

// TakeSnap decodes the header of a snapshot, or of one member in that of a family, from its
// SnapData bytes, and says what is wrong with it or with the table of extents, in a file
// of size bytes; "" if nothing is. Then all extents are whole pages, in ascending order of
// addresses and without a page in common, lie in the region or among the variables, and
// in the file.
func TakeSnap(b []byte, size uint64) (h SnapHeader, wrong string) {
	if len(b) < SnapData {
		return h, "it is too short"
	}
	h = SnapHeader{
		Magic: get64(b), Version: get32(b[8:]), Extents: get32(b[12:]), Size: get64(b[16:]),
		SP: get64(b[24:]), BP: get64(b[32:]), PC: get64(b[40:]),
		Region: get64(b[48:]), DataLo: get64(b[56:]), DataHi: get64(b[64:]),
		Open: get64(b[72:]), Handles: get64(b[80:]), Mono: int64(get64(b[88:])), Wall: int64(get64(b[96:])),
		Areas: get64(b[104:]), AreaN: get32(b[112:]), Shared: get32(b[116:]),
	}
	const within = PageSize - 1
	switch {
	case h.Magic != SnapMagic:
		return h, "it does not begin as one"
	case h.Version != SnapVersion:
		return h, "it is of another version"
	case h.Size < SnapData || h.Size > size:
		return h, "it is cut off"
	case h.Extents > SnapExtents || h.Shared > SnapExtents-h.Extents:
		return h, "it has too many extents"
	case h.Region > RegionMax || h.Region&within != 0:
		return h, "its memory region is of an impossible size"
	case h.DataLo > h.DataHi || h.DataHi > RegionBase || (h.DataLo|h.DataHi)&within != 0:
		return h, "its variables are in an impossible place"
	case h.Handles > SnapHandles || h.Open < h.DataLo || h.Open > h.DataHi || h.DataHi-h.Open < (h.Handles+63)/64*8:
		return h, "its handles are in an impossible place"
	case h.AreaN > SnapAreas || h.AreaN > 0 && (h.Areas < RegionBase || h.Areas > RegionBase+h.Region || h.Areas%8 != 0 ||
		uint64(h.AreaN)*SnapArea > RegionBase+h.Region-h.Areas):
		return h, "its shared memory is in an impossible place"
	}
	end, vars := uint64(0), 0
	for i := range int(h.Extents) {
		e := SnapExtentAt(b, i)
		lo, hi := uint64(RegionBase), RegionBase+h.Region
		if e.Addr < RegionBase {
			lo, hi = h.DataLo, h.DataHi
			vars++
		}
		switch {
		case (e.Addr|e.Len)&within != 0 || e.Len == 0:
			return h, "an extent is not of whole pages"
		case e.Addr < lo || e.Addr >= hi || e.Len > hi-e.Addr:
			return h, "an extent is in an impossible place"
		case e.Addr < end:
			return h, "extents are out of order or have pages in common"
		case e.At&within != 0 || e.At < SnapData || e.At > h.Size || e.Len > h.Size-e.At:
			return h, "an extent is not where it should be in the file"
		}
		end = e.Addr + e.Len
	}
	if vars > SnapVars {
		return h, "its variables are in too many extents"
	}
	return h, ""
}

// AppendExtent appends an entry of the table.
func AppendExtent(b []byte, e Extent) []byte {
	return Append64(Append64(Append64(b, e.Addr), e.Len), e.At)
}

// SnapEntries is how many entries of the table TakeSnap looks at, from the first SnapHead
// bytes; the rest of the table need not have been read.
func SnapEntries(b []byte) int { return int(min(get32(b[SnapExtentsAt:]), SnapExtents)) }

// SnapExtentAt is an entry of the table in the first SnapData bytes of a snapshot.
func SnapExtentAt(b []byte, i int) Extent {
	b = b[SnapHead+i*SnapExtent:]
	return Extent{get64(b), get64(b[8:]), get64(b[16:])}
}

// Messages of snapshots.
const (
	EvSnapshot    = 4  // write a snapshot, into the file of OpSnapshot
	OpSnapshot    = 77 // reply: a descriptor of the file to write; of a family, also a gate: see SnapAlone
	OpSnapshotted = 78 // B=errno. No reply
	OpReopen      = 79 // a restored pVM asks for the file of Handle, a name of before. Reply: a descriptor; payload: Stat. EBADF: it is closed. Handle 0: those that were not asked for are closed
	OpKeep        = 96 // before OpSnapshot: the socket beside the message is handle A, and end C of the pair with id B; 0: not known
	OpRejoin      = 97 // a restored pVM asks for what its handle A of before was, an end of a pair. Reply: a descriptor; A=id of the pair, B=which end. EBADF: nobody knows. A=0: it has asked for all, no reply
	OpUnshare     = 98 // A=place of a piece of shared memory that the guest has no more, with the ends that came with it; B=id of a pair without memory of which it has no end any more, then A is ShareNowhere; 0: none. No reply
)

// The gate is a socket by which the members of a family wait for each other: SnapGate bytes
// at most in each message, u64 each. With the file in hand a member stops, and says which
// pieces of shared memory it has (their number, then their places). When all
// have stopped it hears SnapAlone, or SnapFamily and a bit for each of these that it is to
// write; it writes, says the errno, and waits for a last message to go on. The end of the gate
// at any time: it goes on.
const (
	SnapAlone  = 1 // it is the only one: shared memory is like any other
	SnapFamily = 2
	SnapGate   = 8 + 8*SnapAreas
	SnapClaims = 8 + SnapAreas/8
)

// ShareBatch is the most descriptors in one of the messages that a restored member of a family
// finds on HandleControl before all others. With them it has BootHeader.Shared descriptors of
// memory, one for each piece that it shares, in the order in which it said at the gate where
// they are; the message is these places, u64 each.
const ShareBatch = 64

// CallWait is a flag of CallRecv (MSG_WAITALL): on a socket that blocks, it may.
const CallWait = 0x100
