package runtime

// Snapshots of a family: the members stop all at once, and the memory that they share is
// shared again by those that are restored.

import (
	noyauabi "internal/noyau/abi"
	"unsafe"
)

// noyauAreas are the pieces of memory that this pVM shares with its family. The memory for
// the table is had with the first.
var noyauAreas struct {
	list  *[noyauabi.SnapAreas]noyauArea
	n     uintptr
	over  bool // there are more
	claim [noyauabi.SnapClaims]byte
	word  [noyauabi.SnapGate / 8]uint64

	rights struct { // a struct cmsghdr with descriptors
		size        uintptr
		level, kind int32
		fd          [noyauabi.ShareBatch]int32
	}
}

// A noyauArea is what a host reads too: see abi.SnapArea.
type noyauArea struct {
	p, n uintptr
	at   uintptr // its place
}

// noyau_shared notes that n bytes at p are shared.
//
//go:linkname noyau_shared internal/noyau/rt.shared
func noyau_shared(p, n, at uintptr) {
	a := &noyauAreas
	if a.list == nil {
		systemstack(func() {
			a.list = (*[noyauabi.SnapAreas]noyauArea)(unsafe.Pointer(noyauMetaAlloc(noyauabi.SnapAreas*noyauabi.SnapArea, 4096)))
		})
	}
	if a.list == nil || a.n == uintptr(len(a.list)) {
		a.over = true
		return
	}
	a.list[a.n] = noyauArea{p, (n + 4095) &^ 4095, at}
	a.n++
}

// noyau_unshared forgets what was noted for p.
//
//go:linkname noyau_unshared internal/noyau/rt.unshared
func noyau_unshared(p uintptr) {
	a := &noyauAreas
	for i := uintptr(0); i < a.n; i++ {
		if a.list[i].p == p {
			a.n--
			a.list[i] = a.list[a.n]
			return
		}
	}
}

// noyau_opened notes a handle that was given at the start, and is to be a dead socket in a
// restored pVM until it is something else.
//
//go:linkname noyau_opened internal/noyau/rt.opened
func noyau_opened(handle uintptr) { noyauOpened(handle) }

// noyauNextArea is where the first piece of shared memory in [p, end) begins, and where it
// ends; both are end if there is none.
func noyauNextArea(p, end uintptr) (lo, hi uintptr) {
	lo, hi = end, end
	for i := uintptr(0); i < noyauAreas.n; i++ {
		if a := &noyauAreas.list[i]; a.p+a.n > p && a.p < lo {
			lo, hi = max(a.p, p), a.p+a.n
		}
	}
	return lo, hi
}

// noyauHear waits for a message at the gate.
func noyauHear(gate uintptr, p unsafe.Pointer, n uintptr) int {
	const eintr = -4
	for {
		if r := int(noyauHostcall(noyauabi.CallRecv, gate, uintptr(noescape(p)), n, noyauabi.CallWait, 0, 0)); r != eintr {
			return r
		}
	}
}

// noyauStop says that this pVM stands still, and returns when all of its family do: from
// then on it may write itself. It runs on g0, as all of a snapshot.
func noyauStop(gate uintptr) uintptr {
	const nosignal = 0x4000
	a := &noyauAreas
	a.word[0] = uint64(a.n)
	for i := uintptr(0); i < a.n; i++ {
		a.word[1+i] = uint64(a.list[i].at)
	}
	if a.over {
		a.word[0] = ^uint64(0)
	}
	if r := noyauHostcall(noyauabi.CallSend, gate, uintptr(unsafe.Pointer(&a.word)), 8*(1+a.n), nosignal, 0, 0); int(r) < 0 {
		return -r
	}
	n := noyauHear(gate, unsafe.Pointer(&a.word), unsafe.Sizeof(a.word))
	switch {
	case n == 8 && a.word[0] == noyauabi.SnapAlone:
	case n == noyauabi.SnapClaims && a.word[0] == noyauabi.SnapFamily:
		*(*[noyauabi.SnapAreas / 8]byte)(unsafe.Pointer(&a.claim)) = *(*[noyauabi.SnapAreas / 8]byte)(unsafe.Pointer(&a.word[1]))
		h := &noyauSnap.head
		h.Areas, h.AreaN = uint64(uintptr(unsafe.Pointer(a.list))), uint32(a.n)
	default:
		return 125 // ECANCELED
	}
	return 0
}

// noyauGo says how the writing went, and returns when all have written.
func noyauGo(gate, errno uintptr) {
	const nosignal = 0x4000
	a := &noyauAreas
	a.word[0] = uint64(errno)
	if r := noyauHostcall(noyauabi.CallSend, gate, uintptr(unsafe.Pointer(&a.word)), 8, nosignal, 0, 0); int(r) >= 0 {
		noyauHear(gate, unsafe.Pointer(&a.word), 8)
	}
}

// noyauShareAgain maps the memory that this member of a restored family shares, which comes
// on the control channel before all else: see noyauabi.ShareBatch. Under isolation=vm the host
// does it.
func noyauShareAgain() {
	const mapShared = 1
	a := &noyauAreas
	n := uintptr(noyau.boot.Shared)
	if n != uintptr(noyauSnap.head.AreaN) || n != 0 && (a.list == nil || n > a.n) {
		noyauFatal("runtime: this member of a restored family is to share what it did not have\n")
	}
	for i := uintptr(0); i < n; {
		fds := noyauTakeShared()
		if len(fds) == 0 || uintptr(len(fds)) > n-i {
			noyauFatal("runtime: shared memory of a restored family has not come\n")
		}
		for j, fd := range fds {
			x := &a.list[i]
			if uint64(x.at) != a.word[j] || noyauHostcall(_noyau_mmap, x.p, x.n, noyauMapRW, mapShared|_MAP_FIXED, uintptr(fd), 0) != x.p {
				noyauFatal("runtime: shared memory of a restored family cannot be mapped\n")
			}
			noyauHostcall(noyauabi.CallClose, uintptr(fd), 0, 0, 0, 0, 0)
			i++
		}
	}
}

// noyauTakeShared takes the next of these messages: places into noyauAreas.word, for as many
// descriptors.
func noyauTakeShared() []int32 {
	const cloexec, header = 0x40000000, 16 // MSG_CMSG_CLOEXEC, struct cmsghdr
	a := &noyauAreas
	iov := [2]uintptr{uintptr(unsafe.Pointer(&a.word)), unsafe.Sizeof(a.word)}
	msg := [7]uintptr{2: uintptr(noescape(unsafe.Pointer(&iov))), 3: 1, 4: uintptr(unsafe.Pointer(&a.rights)), 5: unsafe.Sizeof(a.rights)}
	a.rights.size = 0
	n := noyauHostcall(noyauabi.CallRecvmsg, noyauabi.HandleControl, uintptr(noescape(unsafe.Pointer(&msg))), cloexec, 0, 0, 0)
	if int(n) <= 0 || msg[5] == 0 || a.rights.size < header || a.rights.size > unsafe.Sizeof(a.rights) {
		return nil
	}
	fds := a.rights.fd[:(a.rights.size-header)/4]
	if n != 8*uintptr(len(fds)) {
		return nil
	}
	return fds
}
