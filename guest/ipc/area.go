package ipc

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Start registers the calls that make pairs and shared memory: a brick, linked if the program
// can make such calls (package noyau.dev/pvm does).
func Start() {
	kernel.Register(abi.SysPair, pair)
	kernel.Register(abi.SysShare, share)
	kernel.Register(abi.SysShareWait, shareWait)
	kernel.Register(abi.SysShareWake, shareWake)
	kernel.OnRestore(reshare)
	kernel.OnFork(forked)
	keepAreas, thawAreas = keepAll, thawAll
}

// An area is a piece of shared memory, and the connection by which those that wait for
// what is in it are woken.
type area struct {
	p, n   uintptr
	id     uint64   // of the connection, in the family; 0: of none that there is
	at     uint64   // its place in the family; nowhere: only this pVM has it
	handle [2]int32 // the ends of the connection; -1: closed
	end    [2]*End  // of a pair; nil: closed here, or it is none
	src    rt.Source
	spin   rt.Spin

	// By these those who wait for memory are woken, members with even process ids by the first
	// and those with odd ones by the second: who rings would else be rung too. -1: there is none, and the
	// connection is used. All who have the memory have it, or nobody has: it is not
	// made again when they are restored.
	eventfd  [2]int32
	eventSrc rt.Source
}

// nowhere is no place: the memory is like any other of this pVM's.
const nowhere = uint64(abi.ShareNowhere)

// areas are all that this pVM has, by address: what a snapshot of several members must
// save once, and what must be made again with connections of their own.
var areas struct {
	mu sync.Mutex
	m  map[uintptr]*area
}

// newArea has the monitor make an area of n bytes, a multiple of the page size, with an eventfd
// if that is asked for and can be of use.
func newArea(n uintptr, eventfd bool) (*area, linux.Errno) {
	if rt.Boot().Flags&abi.BootFork == 0 {
		return nil, linux.EPERM
	}
	gate.RLock() // a snapshot knows of all areas, or of none
	defer gate.RUnlock()
	handles, id, at, e := requestArea(n, eventfd && host.CanRing())
	if e != 0 {
		return nil, e
	}
	defer host.Close(handles[2])
	a := &area{n: n, id: id, eventfd: [2]int32{handles[3], -1}, at: at, handle: [2]int32{handles[0], handles[1]}}
	if a.p = rt.Pages(n); a.p == 0 {
		e = linux.ENOMEM
	} else if e = host.Map(a.p, n, true, handles[2], 0); e != 0 {
		rt.FreePages(a.p, n)
	}
	if e != 0 {
		host.Close(a.handle[0])
		host.Close(a.handle[1])
		a.closeEventfd()
		host.Post(abi.Msg{Op: abi.OpUnshare, A: at})
		return nil, e
	}
	a.another()
	areas.mu.Lock()
	if areas.m == nil {
		areas.m = make(map[uintptr]*area)
	}
	areas.m[a.p] = a
	areas.mu.Unlock()
	rt.Shared(a.p, n, at)
	return a, 0
}

// requestArea returns the two ends of a connection, the memory and the eventfd, and what they are in
// the family.
func requestArea(n uintptr, eventfd bool) (h [4]int32, id, at uint64, errno linux.Errno) {
	m, take := abi.Msg{Op: abi.OpPair, A: linux.SOCK_STREAM, B: uint64(n)}, h[:3]
	if h[3] = -1; eventfd {
		m.C, take = abi.PairEventfd, h[:]
	}
	r, e := host.Request(m)
	if e != 0 {
		return h, 0, 0, e
	}
	if !r.Take(take) { // there are not so many left
		host.Post(abi.Msg{Op: abi.OpUnshare, A: r.B})
		return h, 0, 0, linux.EMFILE
	}
	return h, r.A, r.B, 0
}

// drop closes one end of a pair, and gives the memory back with the second.
func (a *area) drop(side int) {
	gate.RLock() // in a restored pVM it has another handle soon
	defer gate.RUnlock()
	a.dropNow(side)
}

// dropNow is drop for who has the gate.
func (a *area) dropNow(side int) {
	areas.mu.Lock()
	defer areas.mu.Unlock()
	host.Close(a.handle[side])
	a.handle[side], a.end[side] = -1, nil
	a.heads().ends[side].closed.Add(1) // those that have the other end look whether it was the last
	if a.handle[1-side] < 0 {
		delete(areas.m, a.p)
		if a.at != nowhere {
			rt.Unshared(a.p)
			host.Post(abi.Msg{Op: abi.OpUnshare, A: a.at})
		}
		rt.FreePages(a.p, a.n)
	}
}

// alone makes an area one that only this pVM has. Its place meant something to the monitor that
// this pVM had before.
func (a *area) alone() {
	if a.at != nowhere {
		rt.Unshared(a.p)
	}
	a.id, a.at = 0, nowhere
}

// tell has those who wait for an end here look again.
func (a *area) tell() {
	for _, c := range a.end {
		if c != nil {
			c.tell(rt.In | rt.Out)
		}
	}
}

func allAreas() []*area {
	areas.mu.Lock()
	defer areas.mu.Unlock()
	var list []*area
	for _, a := range areas.m {
		list = append(list, a)
	}
	return list
}
