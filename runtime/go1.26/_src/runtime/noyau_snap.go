package runtime

// Snapshots. A goroutine is memory, and the one thread is where it made a call: what is
// written is the variables, the pages of the region that hold something, the system
// stack, and three registers. A restored pVM maps the pages copy-on-write at the same
// addresses, and returns from the same call.

import (
	"internal/abi"
	noyauabi "internal/noyau/abi"
	"unsafe"
)

// noyauOpen has a bit for each handle that the host gave after the start.
var noyauOpen [noyauMaxHandles / 64]uint64
var noyauOpenTop uintptr

//go:nosplit
func noyauOpened(handle uintptr) {
	if handle < noyauMaxHandles {
		noyauOpen[handle/64] |= 1 << (handle % 64)
		noyauOpenTop = max(noyauOpenTop, handle+1)
	}
}

var noyauSnap struct {
	head  noyauabi.SnapHeader
	table uintptr // of extents
	boot  [noyauabi.BootSize]byte
}

// noyauSave stores the registers into the header and returns 0. It returns once more,
// 1, after noyauResume in a restored pVM.
//
//go:noescape
func noyauSave(h *noyauabi.SnapHeader) uintptr

// noyauResume reads the stack and goes on where noyauSave was called.
func noyauResume(handle, lo, n, off, sp, bp, pc uintptr)

// noyau_snapshot writes a snapshot to a file. restored is true when it returns in
// another pVM.
//
//go:linkname noyau_snapshot internal/noyau/rt.snapshot
func noyau_snapshot(handle uintptr) (restored bool, errno uintptr) {
	if noyauSnap.table == 0 {
		systemstack(func() { noyauSnap.table = noyauMetaAlloc(noyauabi.SnapTable, 4096) })
		if noyauSnap.table == 0 {
			return false, 12 // ENOMEM
		}
	}
	systemstack(func() { restored, errno = noyauSnapshot(handle) })
	return restored, errno
}

//go:noinline
func noyauSnapshot(handle uintptr) (restored bool, errno uintptr) {
	if noyauSave(&noyauSnap.head) != 0 {
		noyauRestored()
		return true, 0
	}
	return false, noyauDump(handle)
}

// noyauPut writes [p, p+n) at *off and moves it on. It returns an errno.
func noyauPut(handle, p, n uintptr, off *uintptr) uintptr {
	for n > 0 {
		r := noyauHostcall(noyauabi.CallPwrite, handle, p, min(n, 1<<30), *off, 0, 0)
		if int(r) <= 0 {
			if r == 0 {
				return 28 // ENOSPC
			}
			return -r
		}
		p, n, *off = p+r, n-r, *off+r
	}
	return 0
}

func noyauDump(handle uintptr) uintptr {
	h := &noyauSnap.head
	h.Magic, h.Version, h.Extents = noyauabi.SnapMagic, noyauabi.SnapVersion, 0
	off := uintptr(noyauabi.SnapData)
	m := &noyauMem
	end := noyauRegionBase + noyauMem.size
	for _, r := range [2][2]uintptr{{noyauRegionBase, m.heap}, {m.meta, end}} {
		if e := noyauDumpRange(handle, r[0], r[1], &off); e != 0 {
			return e
		}
	}
	h.DataLo = uint64(firstmoduledata.noptrdata &^ 4095)
	// The largest variables come last, and are mostly not in use. What a fresh
	// process has touched of them before it restores, this one has touched as well.
	hi := (firstmoduledata.enoptrbss + 4095) &^ 4095
	for noyauZero(hi - 4096) {
		hi -= 4096
	}
	h.DataHi = uint64(min(hi, firstmoduledata.enoptrbss))
	h.DataAt = uint64(off)
	// Nothing may change from here on: what follows is what a restored pVM sees.
	if e := noyauPut(handle, uintptr(h.DataLo), uintptr(h.DataHi-h.DataLo), &off); e != 0 {
		return e
	}
	stackLo, stackAt := uintptr(h.SP), off
	if e := noyauPut(handle, stackLo, noyauabi.StackTop-stackLo, &off); e != 0 {
		return e
	}
	h.StackLo, h.StackHi, h.StackAt, h.Size = uint64(stackLo), noyauabi.StackTop, uint64(stackAt), uint64(off)
	at := uintptr(noyauabi.SnapHead)
	if e := noyauPut(handle, noyauSnap.table, uintptr(h.Extents)*noyauabi.SnapExtent, &at); e != 0 {
		return e
	}
	at = 0
	return noyauPut(handle, uintptr(unsafe.Pointer(h)), unsafe.Sizeof(*h), &at)
}

// noyauDumpRange writes the pages of [p, end) that hold something. Short gaps are
// written too, so that there are few extents.
func noyauDumpRange(handle, p, end uintptr, off *uintptr) uintptr {
	const gap = 8 * 4096
	for p < end {
		if noyauZero(p) {
			p += 4096
			continue
		}
		from, last := p, p+4096
		for q := last; q < end && q-last < gap; q += 4096 {
			if !noyauZero(q) {
				last = q + 4096
			}
		}
		h := &noyauSnap.head
		if h.Extents == noyauabi.SnapExtents {
			return 27 // EFBIG
		}
		e := (*[3]uint64)(unsafe.Pointer(noyauSnap.table + uintptr(h.Extents)*noyauabi.SnapExtent))
		e[0], e[1], e[2] = uint64(from), uint64(last-from), uint64(*off)
		h.Extents++
		if r := noyauPut(handle, from, last-from, off); r != 0 {
			return r
		}
		p = last
	}
	return 0
}

func noyauZero(page uintptr) bool {
	w := (*[512]uint64)(unsafe.Pointer(page))
	for i := 0; i < len(w); i += 8 {
		if w[i]|w[i+1]|w[i+2]|w[i+3]|w[i+4]|w[i+5]|w[i+6]|w[i+7] != 0 {
			return false
		}
	}
	return true
}

// noyauRestore runs in osinit of a fresh process and does not return. All that it keeps
// is on its stack, since it replaces the variables.
func noyauRestore(handle uintptr) {
	var h noyauabi.SnapHeader
	read := func(p unsafe.Pointer, n, off uintptr) bool {
		return noyauHostcall(noyauabi.CallPread, handle, uintptr(noescape(p)), n, off, 0, 0) == n
	}
	if !read(unsafe.Pointer(&h), unsafe.Sizeof(h), 0) || h.Magic != noyauabi.SnapMagic || h.Version != noyauabi.SnapVersion ||
		h.DataLo != uint64(firstmoduledata.noptrdata&^4095) || h.DataHi > uint64(firstmoduledata.enoptrbss) {
		noyauFatal("runtime: the snapshot is of another program or damaged\n")
	}
	var some [64][3]uint64
	for i := uintptr(0); i < uintptr(h.Extents); {
		k := min(uintptr(len(some)), uintptr(h.Extents)-i)
		if !read(unsafe.Pointer(&some), k*noyauabi.SnapExtent, noyauabi.SnapHead+i*noyauabi.SnapExtent) {
			noyauFatal("runtime: the snapshot is damaged: it has no table\n")
		}
		for j := uintptr(0); j < k; j++ {
			e := &some[j]
			r := noyauHostcall(_noyau_mmap, uintptr(e[0]), uintptr(e[1]), noyauMapRW, _MAP_PRIVATE|_MAP_FIXED, handle, uintptr(e[2]))
			if r != uintptr(e[0]) {
				noyauFatal("runtime: the snapshot cannot be mapped\n")
			}
		}
		i += k
	}
	a, b := vdsoGettimeofdaySym, vdsoClockgettimeSym
	ok := read(unsafe.Pointer(uintptr(h.DataLo)), uintptr(h.DataHi-h.DataLo), uintptr(h.DataAt))
	vdsoGettimeofdaySym, vdsoClockgettimeSym = a, b
	if !ok {
		noyauFatal("runtime: the snapshot is damaged: it is too short\n")
	}
	noyauResume(handle, uintptr(h.StackLo), uintptr(h.StackHi-h.StackLo), uintptr(h.StackAt), uintptr(h.SP), uintptr(h.BP), uintptr(h.PC))
}

// noyauRestored runs on g0, as the first thing after noyauSave has returned anew.
func noyauRestored() {
	const cloexec = 0x80000
	memory := noyau.boot.Memory
	b := &noyauSnap.boot
	n := noyauHostcall(noyauabi.CallPread, noyauabi.HandleBoot, uintptr(unsafe.Pointer(b)), noyauabi.BootSize, 0, 0, 0)
	if n != noyauabi.BootSize || !noyau.boot.Take(b[:]) {
		exit(125)
	}
	clear(b[:])
	noyau.boot.Memory = memory
	noyauReseed()
	for _, sig := range [...]uint32{_SIGSEGV, _SIGBUS, _SIGFPE, _SIGILL, _SIGTRAP, _SIGPROF} {
		setsig(sig, abi.FuncPCABIInternal(sighandler))
	}
	signalstack(&getg().m.gsignal.stack)

	// No handle of before is there. A dead socket takes the place of each, above
	// all of which it stands meanwhile.
	file := uintptr(noyau.boot.Restore)
	dead := noyauOpenTop + 64
	noyauHostcall(noyauabi.CallDup, file+1, dead, cloexec, 0, 0, 0)
	noyauHostcall(noyauabi.CallClose, file, 0, 0, 0, 0, 0)
	noyauHostcall(noyauabi.CallClose, file+1, 0, 0, 0, 0, 0)
	for w := range noyauOpen[:(noyauOpenTop+63)/64] {
		for i, bits := uintptr(w)*64, noyauOpen[w]; bits != 0; i, bits = i+1, bits>>1 {
			if bits&1 != 0 {
				noyauHostcall(noyauabi.CallDup, dead, i, cloexec, 0, 0, 0)
			}
		}
	}
	noyauHostcall(noyauabi.CallClose, dead, 0, 0, 0, 0, 0)
	for handle, s := range noyauPoll.sources {
		if s != nil {
			noyauWatch(int32(handle))
		}
	}
}
