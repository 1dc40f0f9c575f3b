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
}

// A noyauArea is what a host reads too: see abi.SnapArea.
type noyauArea struct {
	p, n uintptr
	at   uintptr // in the family's
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

// noyauShareAgain maps the memory that a restored family shares. Under isolation=vm the
// host does it.
func noyauShareAgain() {
	const mapShared = 1
	shared := uintptr(noyau.boot.Shared)
	if shared == 0 {
		return
	}
	for i := uintptr(0); i < uintptr(noyauSnap.head.AreaN); i++ {
		a := &noyauAreas.list[i]
		if noyauHostcall(_noyau_mmap, a.p, a.n, noyauMapRW, mapShared|_MAP_FIXED, shared, a.at) != a.p {
			noyauFatal("runtime: shared memory of a restored family cannot be mapped\n")
		}
	}
}
