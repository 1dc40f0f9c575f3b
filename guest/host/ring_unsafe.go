package host

import (
	"sync/atomic"
	"unsafe"

	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Under isolation=vm a host call costs tens of microseconds. The ring (see
// abi.VMRing…) saves most of them for connections and UDP sockets: what is sent goes
// into a queue that the monitor empties at the next exit, and what is received may be
// there already when the poll reports it.
//
// Nothing about the ring is remembered outside it, and goroutines that work on it are
// pinned: a pVM that is forked, or restored from a snapshot elsewhere, finds another
// ring, or none, with the next call. A tick may still make the monitor look at the
// ring at any time. So a record counts only when used has grown, and a slot is free
// only when its number was written last.

// ring is the address of the ring, 0 if there is none. Only a pinned goroutine may ask.
func ring() uintptr {
	info := vmInfo()
	if info == 0 {
		return 0
	}
	return *(*uintptr)(at(info, abi.VMInfoRing))
}

// at makes a pointer of an address outside the Go heap.
func at(base, offset uintptr) unsafe.Pointer {
	a := base + offset
	return *(*unsafe.Pointer)(unsafe.Pointer(&a))
}

func ringWord(base, offset uintptr) *uint32 { return (*uint32)(at(base, offset)) }

func ringBit(base, table uintptr, handle int32) bool {
	word := ringWord(base, table+uintptr(handle)/32*4)
	return atomic.LoadUint32(word)>>(uint32(handle)%32)&1 != 0
}

func setRingBit(base, table uintptr, handle int32, on bool) {
	word := ringWord(base, table+uintptr(handle)/32*4)
	if on {
		atomic.OrUint32(word, 1<<(uint32(handle)%32))
	} else {
		atomic.AndUint32(word, ^uint32(1<<(uint32(handle)%32)))
	}
}

// Batch makes a connection or, with datagrams, a UDP socket part of the ring, if
// there is one, until it is closed.
func Batch(handle int32, datagrams bool) {
	rt.Pin()
	if base := ring(); base != 0 && uint32(handle) < abi.VMRingHandlesMax {
		setRingBit(base, abi.VMRingDatagrams, handle, datagrams)
		setRingBit(base, abi.VMRingBatched, handle, true)
	}
	rt.Unpin()
}

// unbatch forgets a handle that is about to be closed, and frees its slot.
func unbatch(handle int32) {
	if vmInfo() == 0 {
		return
	}
	rt.Pin()
	if base := ringOf(handle); base != 0 {
		setRingBit(base, abi.VMRingBatched, handle, false)
		if i, ok := slotOf(base, handle); ok {
			freeSlot(base, i)
		}
	}
	rt.Unpin()
}

// ringOf is the address of the ring if handle is part of it.
func ringOf(handle int32) uintptr {
	base := ring()
	if base == 0 || uint32(handle) >= abi.VMRingHandlesMax || !ringBit(base, abi.VMRingBatched, handle) {
		return 0
	}
	return base
}

// slotOf is the slot that the monitor has filled for handle.
func slotOf(base uintptr, handle int32) (i uintptr, ok bool) {
	if atomic.LoadUint32(ringWord(base, abi.VMRingFilled)) == 0 {
		return 0, false
	}
	for i := uintptr(0); i < abi.VMSlots; i++ {
		if atomic.LoadUint32(ringWord(base, abi.VMRingHandles+4*i)) == uint32(handle) {
			return i, true
		}
	}
	return 0, false
}

func freeSlot(base, i uintptr) {
	*ringWord(base, abi.VMRingDone+4*i) = 0
	atomic.StoreUint32(ringWord(base, abi.VMRingHandles+4*i), abi.VMSlotFree)
}

// left is what was not taken yet of slot i.
func left(base, i uintptr) (data []byte, done *uint32) {
	done = ringWord(base, abi.VMRingDone+4*i)
	total := min(*ringWord(base, abi.VMRingLengths+4*i), abi.VMSlotSize)
	from := min(*done, total)
	return bytesAt(base+abi.VMRingSlots+i*abi.VMSlotSize+uintptr(from), uintptr(total-from)), done
}

// take receives from the slot that the monitor has filled for handle, or finds
// that there is nothing to receive. flags are those of Recv. ok is false if a call must find
// out.
func take(handle int32, p []byte, flags int) (n int, errno linux.Errno, ok bool) {
	if vmInfo() == 0 {
		return 0, 0, false
	}
	rt.Pin()
	defer rt.Unpin()
	base := ringOf(handle)
	if base == 0 {
		return 0, 0, false
	}
	i, ok := slotOf(base, handle)
	if !ok {
		return 0, linux.EAGAIN, !ringBit(base, abi.VMRingReadable, handle)
	}
	peek := flags&linux.MSG_PEEK != 0
	if ringBit(base, abi.VMRingDatagrams, handle) {
		n, total, _ := takeDatagram(base, i, p, nil, peek)
		if flags&linux.MSG_TRUNC != 0 {
			n = total
		}
		return n, 0, true
	}
	data, done := left(base, i)
	n = copy(p, data)
	switch {
	case peek:
	case n < len(data):
		*done += uint32(n)
	default:
		freeSlot(base, i)
	}
	return n, 0, true
}

// takeFrom is take for datagrams: it stores the sender's address into sa and reports
// how long the datagram was.
func takeFrom(handle int32, p []byte, peek bool, sa []byte) (n, total, salen int, errno linux.Errno, ok bool) {
	if vmInfo() == 0 {
		return 0, 0, 0, 0, false
	}
	rt.Pin()
	defer rt.Unpin()
	base := ringOf(handle)
	if base == 0 || !ringBit(base, abi.VMRingDatagrams, handle) {
		return 0, 0, 0, 0, false
	}
	i, ok := slotOf(base, handle)
	if !ok {
		return 0, 0, 0, linux.EAGAIN, !ringBit(base, abi.VMRingReadable, handle)
	}
	n, total, salen = takeDatagram(base, i, p, sa, peek)
	return n, total, salen, 0, true
}

func pad8(n uint32) uint32 { return (n + 7) &^ 7 }

// takeDatagram takes the next record of a slot, in which there is at least one.
func takeDatagram(base, i uintptr, p, sa []byte, peek bool) (n, total, salen int) {
	rec, done := left(base, i)
	if len(rec) < abi.VMRecHeader {
		freeSlot(base, i)
		return 0, 0, 0
	}
	alen := uint32(*(*uint16)(unsafe.Pointer(&rec[2])))
	total = int(*(*uint32)(unsafe.Pointer(&rec[4])))
	addr := rec[abi.VMRecHeader:][:alen]
	data := rec[abi.VMRecHeader+pad8(alen):][:total]
	n, salen = copy(p, data), copy(sa, addr)
	if !peek {
		size := abi.VMRecHeader + pad8(alen) + pad8(uint32(total))
		if *done += size; int(size) >= len(rec) {
			freeSlot(base, i)
		}
	}
	return n, total, salen
}

// queue appends p, for the address sa if that is not empty, to what will be sent at
// the next exit. ok is false if that is not possible now: then a call must send it,
// which the monitor answers after the queue was emptied.
func queue(handle int32, p, sa []byte) (ok bool) {
	if vmInfo() == 0 || len(p) > abi.VMQueued || len(sa) > abi.VMRecAddrMax || uint32(handle) >= abi.VMRingHandlesMax {
		return false
	}
	rt.Pin()
	defer rt.Unpin()
	base := ringOf(handle)
	if handle == abi.HandleControl {
		base = ring()
	}
	if base == 0 || *ringWord(base, abi.VMRingBlocked) != 0 || ringBit(base, abi.VMRingFailed, handle) {
		return false
	}
	writing, used := ringWord(base, abi.VMRingWriting), ringWord(base, abi.VMRingUsed)
	if !atomic.CompareAndSwapUint32(writing, 0, 1) {
		return false
	}
	o := atomic.LoadUint32(used)
	body := abi.VMRecHeader + pad8(uint32(len(sa)))
	size := body + pad8(uint32(len(p)))
	if ok = o <= abi.VMRingOutSize && abi.VMRingOutSize-o >= size; ok {
		rec := base + abi.VMRingOut + uintptr(o)
		*ringWord(rec, 0) = uint32(handle) | uint32(len(sa))<<16
		*ringWord(rec, 4) = uint32(len(p))
		copy(bytesAt(rec+abi.VMRecHeader, uintptr(len(sa))), sa)
		copy(bytesAt(rec+uintptr(body), uintptr(len(p))), p)
		atomic.StoreUint32(used, o+size)
	}
	atomic.StoreUint32(writing, 0)
	return ok
}

// Settled makes the monitor send what is queued, and reports whether nothing is left
// of what was sent on the connection handle: a peer that does not read keeps it there.
func Settled(handle int32) bool {
	if vmInfo() == 0 {
		return true
	}
	rt.Pin()
	base := ringOf(handle)
	settled := base == 0 || atomic.LoadUint32(ringWord(base, abi.VMRingUsed)) == 0
	rt.Unpin()
	if settled {
		return true
	}
	_, e := rt.HostCall(abi.CallSend, uintptr(handle), 0, 0, linux.MSG_DONTWAIT|linux.MSG_NOSIGNAL, 0, 0)
	return linux.Errno(e) != linux.EAGAIN
}
