package host

import (
	"sync/atomic"
	"unsafe"

	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Under isolation=vm a host call costs tens of microseconds. The ring (see
// abi.VMRing…) saves most of them for accepted connections: what is sent goes into
// a queue that the monitor empties at the next exit, and what is received may be
// there already when the poll reports it.
//
// Goroutines can be preempted anywhere, and another one may then make a host call
// that lets the monitor look at the ring. So a record counts only when used has
// grown, and a slot is free only when its number was written last.

// maxBatched bounds the handles whose data may go through the ring.
const maxBatched = abi.VMRingHandlesMax

// batched has a bit for each accepted connection; only with a ring.
var batched [maxBatched / 64]atomic.Uint64

// ringBase is the address of the ring, 0 if there is none, 1 before it was looked up.
var ringBase uintptr = 1

func ring() uintptr {
	if ringBase == 1 {
		base := uintptr(0)
		if info := vmInfo(); info != 0 {
			base = *(*uintptr)(at(info, abi.VMInfoRing))
			rt.RingChild(ringChild)
		}
		ringBase = base
	}
	return ringBase
}

// at makes a pointer of an address outside the Go heap.
func at(base, offset uintptr) unsafe.Pointer {
	a := base + offset
	return *(*unsafe.Pointer)(unsafe.Pointer(&a))
}

func ringWord(base, offset uintptr) *uint32 { return (*uint32)(at(base, offset)) }

// batch marks an accepted connection.
func batch(handle int32) {
	if ring() != 0 && uint32(handle) < maxBatched {
		batched[handle/64].Or(1 << (handle % 64))
	}
}

// unbatch forgets a handle that is about to be closed.
func unbatch(handle int32) {
	if isBatched(handle) {
		batched[handle/64].And(^uint64(1 << (handle % 64)))
	}
}

// inRing counts the goroutines that look into the ring. No snapshot is made meanwhile,
// since a restored pVM may have no ring.
var inRing atomic.Int32

// enterRing says whether the handle's data may be in the ring; then leaveRing must be
// called.
func enterRing(handle int32) bool {
	inRing.Add(1)
	if !isBatched(handle) {
		inRing.Add(-1)
		return false
	}
	return true
}

func leaveRing() { inRing.Add(-1) }

// resetRing is called in a restored pVM: its connections are gone, and so may be the ring.
func resetRing() {
	ringBase, orphaned = 1, false
	for i := range batched {
		batched[i].Store(0)
	}
	clear(slotDone[:])
}

// orphaned says that slots may be owned by handles that are not batched any more.
var orphaned bool

// ringChild runs in a forked pVM before any goroutine. Connections are the parent's, and
// so is what lies in the ring of them. A goroutine may be in the middle of taking from
// a slot, which therefore stays its own until the handle is closed.
func ringChild() {
	for i := range batched {
		if batched[i].Load() != 0 {
			batched[i].Store(0)
			orphaned = true
		}
	}
}

func isBatched(handle int32) bool {
	return uint32(handle) < maxBatched && batched[handle/64].Load()>>(handle%64)&1 != 0
}

// take receives from the slot that the monitor has filled for handle, or finds
// that there is nothing to receive. ok is false if a call must find out.
func take(handle int32, p []byte, peek bool) (n int, errno linux.Errno, ok bool) {
	if !enterRing(handle) {
		return 0, 0, false
	}
	defer leaveRing()
	base := ringBase
	if atomic.LoadUint32(ringWord(base, abi.VMRingFilled)) == 0 {
		return 0, linux.EAGAIN, drained(base, handle)
	}
	for i := uintptr(0); i < abi.VMSlots; i++ {
		owner := ringWord(base, abi.VMRingHandles+4*i)
		if atomic.LoadUint32(owner) != uint32(handle) {
			continue
		}
		length := ringWord(base, abi.VMRingLengths+4*i)
		total := uintptr(*length)
		from := uintptr(slotDone[i])
		data := bytesAt(base+abi.VMRingSlots+i*abi.VMSlotSize+from, total-from)
		n = copy(p, data)
		switch {
		case peek:
		case n < len(data):
			slotDone[i] += uint32(n)
		default:
			slotDone[i] = 0
			atomic.StoreUint32(owner, abi.VMSlotFree)
		}
		return n, 0, true
	}
	return 0, linux.EAGAIN, drained(base, handle)
}

// drained reports whether the last receive took all, and no event came since.
func drained(base uintptr, handle int32) bool {
	word := ringWord(base, abi.VMRingReadable+uintptr(handle)/32*4)
	return atomic.LoadUint32(word)>>(uint32(handle)%32)&1 == 0
}

// slotDone is how much of each slot was taken. The goroutine that reads the
// connection owns it: the read lock of its file.
var slotDone [abi.VMSlots]uint32

// dropSlot frees the slot of a handle that is closed.
func dropSlot(handle int32) {
	inRing.Add(1)
	defer leaveRing()
	base := ringBase
	if base <= 1 {
		return // a restored pVM has none
	}
	for i := uintptr(0); i < abi.VMSlots; i++ {
		if owner := ringWord(base, abi.VMRingHandles+4*i); atomic.LoadUint32(owner) == uint32(handle) {
			slotDone[i] = 0
			atomic.StoreUint32(owner, abi.VMSlotFree)
		}
	}
}

// queue appends p to what will be sent at the next exit. ok is false if that is
// not possible now: then a call must send it, which the monitor answers after the
// queue was emptied.
func queue(handle int32, p []byte) (ok bool) {
	if !enterRing(handle) {
		return false
	}
	defer leaveRing()
	base := ringBase
	if len(p) > abi.VMQueued || *ringWord(base, abi.VMRingBlocked) != 0 {
		return false
	}
	writing := ringWord(base, abi.VMRingWriting)
	if !atomic.CompareAndSwapUint32(writing, 0, 1) {
		return false
	}
	used := ringWord(base, abi.VMRingUsed)
	o := atomic.LoadUint32(used)
	size := 8 + (uint32(len(p))+7)&^7
	if o > abi.VMRingOutSize || abi.VMRingOutSize-o < size {
		atomic.StoreUint32(writing, 0)
		return false
	}
	rec := base + abi.VMRingOut + uintptr(o)
	*ringWord(rec, 0) = uint32(handle)
	*ringWord(rec, 4) = uint32(len(p))
	copy(bytesAt(rec+8, uintptr(len(p))), p)
	atomic.StoreUint32(used, o+size)
	atomic.StoreUint32(writing, 0)
	return true
}
