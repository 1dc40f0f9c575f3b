package runtime

// Snapshots. A goroutine is memory, and the one thread is where it made a call: what is
// written is the pages of the variables, of which the system stack is one, and of the
// region that hold something, and three registers. A restored pVM maps the pages
// copy-on-write at the same addresses, and returns from the same call.

import (
	"internal/abi"
	noyauabi "internal/noyau/abi"
	"internal/runtime/atomic"
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
	dry   bool    // nothing is written: do the extents fit into the table?
	buf   [noyauabi.WarmMax]byte
}

// noyauStack is the system stack: see the entry point in sys_noyau_amd64.s, and rt0_go,
// which takes 64 KiB of it.
var noyauStack [noyauStackSize]byte

const noyauStackSize = 65 << 10

// noyauMono is what this pVM's monotonic clock is ahead of the host's: a restored one
// goes on from the time of its snapshot.
var noyauMono int64

// noyauArgs is goargs, with copies of the arguments: the stack on which the host has put
// them is not there in a restored pVM.
func noyauArgs() {
	argslice = make([]string, argc)
	for i := range argc {
		argslice[i] = gostring(argv_index(argv, i))
	}
}

// noyauSave stores the registers into the header and returns 0. It returns once more,
// not 0, in a restored pVM: with the address of the info page under isolation=vm, or 0
// and functions of the vDSO.
//
//go:noescape
func noyauSave(h *noyauabi.SnapHeader) (restored, info, gettimeofday, clockGettime uintptr)

// noyauBack is where noyauSave returns to.
var noyauBack uintptr

// noyauResumption is what noyauResume needs: extents of variables, and what
// the second return of noyauSave is given.
type noyauResumption struct {
	n, handle                  uintptr
	gettimeofday, clockGettime uintptr
	sp, bp, pc                 uintptr
	ext                        [noyauabi.SnapVars][3]uint64
}

// noyauResume maps the variables and goes on where noyauSave was called.
func noyauResume(r *noyauResumption)

// noyau_snapshot writes a snapshot to a file. gate is by what the members of a family wait
// for each other (see SnapAlone in package abi); 0: there is none. restored is true when it
// returns in another pVM.
//
//go:linkname noyau_snapshot internal/noyau/rt.snapshot
func noyau_snapshot(handle, gate uintptr) (restored bool, errno uintptr) {
	if noyauSnap.table == 0 {
		systemstack(func() { noyauSnap.table = noyauMetaAlloc(noyauabi.SnapTable, 4096) })
		if noyauSnap.table == 0 {
			return false, 12 // ENOMEM
		}
	}
	noyauForget(handle) // a restored pVM has not got it
	noyauForget(gate)
	systemstack(func() { restored, errno = noyauSnapshot(handle, gate) })
	if !restored {
		noyauOpened(handle)
		if gate != 0 {
			noyauOpened(gate)
		}
	}
	return restored, errno
}

//go:noinline
func noyauSnapshot(handle, gate uintptr) (restored bool, errno uintptr) {
	h := &noyauSnap.head
	if again, info, a, b := noyauSave(h); again != 0 {
		noyauRestored(info, a, b)
		return true, 0
	}
	h.Areas, h.AreaN = 0, 0
	if gate != 0 {
		if errno = noyauStop(gate); errno != 0 {
			return false, errno
		}
	}
	sec, nsec, mono := time_now()
	h.Mono, h.Wall = mono, sec*1e9+int64(nsec)
	gap := uintptr(noyauSnapGap)
	for noyauSnap.dry = true; noyauDump(handle, gap) == noyauTableFull; {
		gap *= 4
	}
	noyauSnap.dry = false
	if errno = noyauDump(handle, gap); errno == noyauTableFull {
		errno = 27 // EFBIG
	}
	if gate != 0 {
		noyauGo(gate, errno)
	}
	return false, errno
}

// noyauTableFull is no errno.
const noyauTableFull = ^uintptr(0)

// An extent is a mapping of each pVM that is restored, so there should be few: gaps of zeros of less
// than noyauSnapGap are inside. Of those, noyauSnapHole and more are holes in the file.
const (
	noyauSnapGap  = 64 * 4096
	noyauSnapHole = 8 * 4096
	noyauSnapMore = 16 // extents there may be more than were counted: the table itself is written
)

// noyauPut writes [p, p+n) at *off and moves it on. It returns an errno.
func noyauPut(handle, p, n uintptr, off *uintptr) uintptr {
	if noyauSnap.dry {
		return 0
	}
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

// noyauDump writes the snapshot. noyauTableFull means that the table is too small for extents
// between which are gaps of that many bytes of zeros.
func noyauDump(handle, gap uintptr) uintptr {
	h := &noyauSnap.head
	m := &noyauMem
	h.Magic, h.Version, h.Extents = noyauabi.SnapMagic, noyauabi.SnapVersion, 0
	h.Region = uint64(m.size)
	h.DataLo = uint64(firstmoduledata.noptrdata &^ 4095)
	h.DataHi = uint64((firstmoduledata.enoptrbss + 4095) &^ 4095)
	h.Open, h.Handles = uint64(uintptr(unsafe.Pointer(&noyauOpen))), uint64(noyauOpenTop)
	off := uintptr(noyauabi.SnapData)
	// Variables with a first value are written whole: where they are zero by now, a
	// fresh process has that value. What it has touched of the others before it
	// restores, this one has touched as well. Nothing that a restored pVM sees of
	// them changes from here on.
	lo, zero := uintptr(h.DataLo), (firstmoduledata.edata+4095)&^4095
	e := noyauDumpRange(handle, lo, zero, uintptr(h.DataHi), gap, &off)
	if e == 0 && h.Extents > noyauabi.SnapVars {
		e = noyauTableFull
	}
	if e == 0 {
		e = noyauDumpOwn(handle, noyauRegionBase, m.low, gap, &off)
	}
	if e == 0 {
		e = noyauDumpRange(handle, noyauHeapBase, 0, m.heap, gap, &off)
	}
	if e == 0 {
		e = noyauDumpOwn(handle, m.meta, noyauRegionBase+m.size, gap, &off)
	}
	h.Shared = 0
	if e == 0 && h.AreaN != 0 {
		own := h.Extents
		for i := uintptr(0); i < noyauAreas.n && e == 0; i++ {
			if a := &noyauAreas.list[i]; noyauAreas.claim[i/8]&(1<<(i%8)) != 0 {
				k := h.Extents
				e = noyauDumpRange(handle, a.p, 0, a.p+a.n, gap, &off)
				for ; k < h.Extents; k++ {
					x := (*[3]uint64)(unsafe.Pointer(noyauSnap.table + uintptr(k)*noyauabi.SnapExtent))
					x[0] = x[0] - uint64(a.p) + uint64(a.at)
				}
			}
		}
		h.Extents, h.Shared = own, h.Extents-own
	}
	if e != 0 {
		return e
	}
	h.Size = uint64(off)
	at := uintptr(noyauabi.SnapHead)
	if e := noyauPut(handle, noyauSnap.table, uintptr(h.Extents+h.Shared)*noyauabi.SnapExtent, &at); e != 0 {
		return e
	}
	at = 0
	return noyauPut(handle, uintptr(unsafe.Pointer(h)), unsafe.Sizeof(*h), &at)
}

// noyauDumpOwn is noyauDumpRange without the memory that the pVM shares with its family.
func noyauDumpOwn(handle, p, end, gap uintptr, off *uintptr) uintptr {
	for p < end {
		last, next := end, end
		if noyauSnap.head.AreaN != 0 {
			last, next = noyauNextArea(p, end)
		}
		if e := noyauDumpRange(handle, p, 0, last, gap, off); e != 0 {
			return e
		}
		p = next
	}
	return 0
}

// noyauDumpRange writes the pages of [p, end) that hold something, and those below whole, as
// extents between which are gaps of zeros of that size at least.
func noyauDumpRange(handle, p, whole, end, gap uintptr, off *uintptr) uintptr {
	h := &noyauSnap.head
	for p < end {
		if p >= whole && noyauZero(p) {
			p += 4096
			continue
		}
		if h.Extents == noyauabi.SnapExtents || noyauSnap.dry && h.Extents == noyauabi.SnapExtents-noyauSnapMore {
			return noyauTableFull
		}
		e := (*[3]uint64)(unsafe.Pointer(noyauSnap.table + uintptr(h.Extents)*noyauabi.SnapExtent))
		e[0], e[2] = uint64(p), uint64(*off)
		h.Extents++
		last := p + 4096
		for q := last; q < end && q-last < gap; q += 4096 {
			if q >= whole && noyauZero(q) {
				continue
			}
			if q-last >= noyauSnapHole {
				if e := noyauPut(handle, p, last-p, off); e != 0 {
					return e
				}
				*off += q - last
				p = q
			}
			last = q + 4096
		}
		if e := noyauPut(handle, p, last-p, off); e != 0 {
			return e
		}
		e[1] = uint64(last) - e[0]
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

// noyauRestore runs in osinit of a fresh process and does not return. Under
// isolation=vm the host does this, and no fresh image is started.
func noyauRestore(handle uintptr) {
	var h noyauabi.SnapHeader
	read := func(p unsafe.Pointer, n, off uintptr) bool {
		return noyauHostcall(noyauabi.CallPread, handle, uintptr(noescape(p)), n, uintptr(noyau.boot.RestoreAt)+off, 0, 0) == n
	}
	if !read(unsafe.Pointer(&h), unsafe.Sizeof(h), 0) || h.Magic != noyauabi.SnapMagic || h.Version != noyauabi.SnapVersion ||
		h.DataLo != uint64(firstmoduledata.noptrdata&^4095) || h.DataHi != uint64((firstmoduledata.enoptrbss+4095)&^4095) ||
		h.Region != uint64(noyauMem.size) || h.Extents > noyauabi.SnapExtents {
		noyauFatal("runtime: the snapshot is of another program or damaged\n")
	}
	// What noyauResume reads must outlast the variables, this stack among them: it lies
	// on the stack that the host made, below the arguments.
	r := (*noyauResumption)(unsafe.Pointer((uintptr(unsafe.Pointer(argv)) - 8192) &^ 63))
	r.n, r.handle = 0, handle
	r.gettimeofday, r.clockGettime = vdsoGettimeofdaySym, vdsoClockgettimeSym
	r.sp, r.bp, r.pc = uintptr(h.SP), uintptr(h.BP), uintptr(h.PC)
	var some [64][3]uint64
	for i := uintptr(0); i < uintptr(h.Extents); {
		k := min(uintptr(len(some)), uintptr(h.Extents)-i)
		if !read(unsafe.Pointer(&some), k*noyauabi.SnapExtent, noyauabi.SnapHead+i*noyauabi.SnapExtent) {
			noyauFatal("runtime: the snapshot is damaged: it has no table\n")
		}
		for j := uintptr(0); j < k; j++ {
			e := &some[j]
			if e[0] < noyauRegionBase {
				if r.n == uintptr(len(r.ext)) {
					noyauFatal("runtime: the snapshot is damaged: its variables are in too many extents\n")
				}
				r.ext[r.n] = *e
				r.n++
			} else if noyauHostcall(_noyau_mmap, uintptr(e[0]), uintptr(e[1]), noyauMapRW, _MAP_PRIVATE|_MAP_FIXED, handle, uintptr(e[2])) != uintptr(e[0]) {
				noyauFatal("runtime: the snapshot cannot be mapped\n")
			}
		}
		i += k
	}
	noyauResume(r)
}

// noyauRestored runs on g0, as the first thing after noyauSave has returned anew. What
// the variables say of the host is of the one where the snapshot was made.
func noyauRestored(info, gettimeofday, clockGettime uintptr) {
	noyauHyper, noyauInfo = 0, 0
	vdsoGettimeofdaySym, vdsoClockgettimeSym = gettimeofday, clockGettime
	if info != 0 {
		noyauVMInit(info)
	}
	memory := noyau.boot.Memory
	b := &noyauSnap.buf
	if noyauReadBoot(b[:noyauabi.BootSize]) != noyauabi.BootSize || !noyau.boot.Take(b[:]) {
		exit(125)
	}
	noyauMailForget()
	for _, sig := range [...]uint32{_SIGSEGV, _SIGBUS, _SIGFPE, _SIGILL, _SIGTRAP, _SIGPROF} {
		setsig(sig, abi.FuncPCABIInternal(sighandler))
	}
	signalstack(&getg().m.gsignal.stack)
	if info == 0 {
		noyauShareAgain()
		noyauBury()
	}
	noyauRewatch(true)
	host := false // it has watched the control channel
	// From here on it matters who this is.
	if noyau.boot.Flags&noyauabi.BootWarm != 0 {
		noyauAwait()
		host = noyauHyper != 0
	}
	clear(b[:])
	noyau.boot.Memory = memory
	noyauMono += noyauSnap.head.Mono - nanotime()
	noyauReseed()
	if !host {
		noyauRewatch(false)
	}
}

// noyauRewatch registers with the new poller what the old one knew: the control channel,
// which a standby gets later, or all others.
func noyauRewatch(others bool) {
	for i, s := range noyauPoll.sources {
		if s != nil && (i != noyauabi.HandleControl) == others {
			noyauWatch(int32(i))
		}
	}
}

// noyauAwait waits for what makes a pVM of a process that was made ahead of time: see
// noyauabi.WarmTouch. It ends the process if nobody wants it any more.
func noyauAwait() {
	b := &noyauSnap.buf
	word := func(at uintptr) uint64 { return *(*uint64)(unsafe.Pointer(&b[at])) }
	for {
		n, fds := noyauMail()
		count := word(8)
		if n < noyauabi.WarmHead || count > uint64(n-noyauabi.WarmHead)/8 {
			exit(125)
		}
		switch list := b[noyauabi.WarmHead:][:count*8]; uint32(word(0)) {
		case noyauabi.WarmTouch:
			noyauTouchAll(list)
		case noyauabi.WarmOrder:
			noyauBegin(list, n, fds)
			return
		default:
			exit(125)
		}
	}
}

// noyauTouchAll writes to pages what they have in them.
func noyauTouchAll(list []byte) {
	for ; len(list) >= 8; list = list[8:] {
		run := *(*uintptr)(unsafe.Pointer(&list[0]))
		for p, end := run&^4095, (run&^4095)+(run&4095+1)*4096; p < end; p += 4096 {
			atomic.Or8((*uint8)(unsafe.Pointer(p)), 0)
		}
	}
}

// noyauMail says ready and takes the next message of the mailbox into noyauSnap.buf, and
// under isolation=process its descriptors.
func noyauMail() (n uintptr, fds []int32) {
	const cloexec, header = 0x40000000, 16 // MSG_CMSG_CLOEXEC, struct cmsghdr
	b := uintptr(unsafe.Pointer(&noyauSnap.buf))
	if noyauHyper != 0 {
		return noyauHostcall(noyauabi.CallRecv, noyauabi.HandleControl, b, noyauabi.WarmMax, 0, 0, 0), nil
	}
	noyauHostcall(noyauabi.CallSend, noyauabi.HandleControl, b, 1, 0x4040, 0, 0)
	rights := &noyauRights
	iov := [2]uintptr{b, noyauabi.WarmMax}
	msg := [7]uintptr{2: uintptr(noescape(unsafe.Pointer(&iov))), 3: 1, 4: uintptr(unsafe.Pointer(rights)), 5: unsafe.Sizeof(*rights)}
	rights.size = 0
	n = noyauHostcall(noyauabi.CallRecvmsg, noyauabi.HandleControl, uintptr(noescape(unsafe.Pointer(&msg))), cloexec, 0, 0, 0)
	if int(n) <= 0 {
		exit(0)
	}
	if msg[5] == 0 {
		return n, nil
	}
	if rights.size < header || rights.size > unsafe.Sizeof(*rights) {
		exit(125)
	}
	return n, rights.fd[:(rights.size-header)/4]
}

// noyauRights is a struct cmsghdr with descriptors.
var noyauRights struct {
	size        uintptr
	level, kind int32
	fd          [noyauabi.WarmHandles]int32
}

// noyauBegin does what the order of n bytes says, in which list are the numbers of handles.
func noyauBegin(list []byte, n uintptr, fds []int32) {
	const cloexec = 0x80000
	head := noyauSnap.buf[:]
	if noyauHyper != 0 { // the host has placed the handles
		at := noyauabi.WarmHead + uintptr(len(list))
		if n != at+noyauabi.BootSize {
			exit(125)
		}
		head = head[at:]
	} else {
		if len(fds) != len(list)/8 {
			exit(125)
		}
		for i, fd := range fds {
			noyauHostcall(noyauabi.CallDup, uintptr(fd), *(*uintptr)(unsafe.Pointer(&list[8*i])), cloexec, 0, 0, 0)
			noyauHostcall(noyauabi.CallClose, uintptr(fd), 0, 0, 0, 0, 0)
		}
		if noyauReadBoot(head[:noyauabi.BootSize]) != noyauabi.BootSize {
			exit(125)
		}
	}
	if !noyau.boot.Take(head) || noyau.boot.Flags&noyauabi.BootWarm != 0 {
		exit(125)
	}
}

// noyauBury puts a dead socket in the place of each handle of before, above all of which
// it stands meanwhile. The snapshot's own is closed already. Under isolation=vm the host does it.
func noyauBury() {
	const cloexec = 0x80000
	given, dead := uintptr(noyau.boot.Restore)+1, noyauOpenTop+64
	noyauHostcall(noyauabi.CallDup, given, dead, cloexec, 0, 0, 0)
	noyauHostcall(noyauabi.CallClose, given, 0, 0, 0, 0, 0)
	for w := range noyauOpen[:(noyauOpenTop+63)/64] {
		for i, bits := uintptr(w)*64, noyauOpen[w]; bits != 0; i, bits = i+1, bits>>1 {
			if bits&1 != 0 {
				noyauHostcall(noyauabi.CallDup, dead, i, cloexec, 0, 0, 0)
			}
		}
	}
	noyauHostcall(noyauabi.CallClose, dead, 0, 0, 0, 0, 0)
}
