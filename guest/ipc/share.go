package ipc

import (
	"sync"
	"sync/atomic"

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

// another asks for the second eventfd. Without it there is none.
func (a *area) another() {
	if a.eventfd[0] < 0 {
		return
	}
	r, e := host.Request(abi.Msg{Op: abi.OpPair, A: linux.SOCK_STREAM, C: abi.PairEventfd})
	if e != 0 || r.FD < 0 {
		a.closeEventfd()
		return
	}
	a.eventfd[1] = r.FD
}

// closeEventfd closes the eventfds, if there are any.
func (a *area) closeEventfd() {
	for i, h := range a.eventfd {
		if h >= 0 {
			rt.Unwatch(h)
			host.Close(h)
			a.eventfd[i] = -1
		}
	}
}

// hear watches the eventfd that is this pVM's.
func (a *area) hear() linux.Errno {
	h := a.eventfd[rt.Boot().PID%2]
	if h < 0 {
		return 0
	}
	a.eventSrc.Only = rt.Hup
	return linux.Errno(rt.Watch(h, &a.eventSrc))
}

// forked runs in a pVM that was forked: its eventfds may be the others.
func forked() {
	if kernel.Restored() {
		return // it has none any more: see reshare
	}
	for _, a := range allAreas() {
		if a.eventfd[0] >= 0 && (rt.Boot().PID^rt.Boot().PPID)%2 != 0 {
			rt.Unwatch(a.eventfd[rt.Boot().PPID%2])
			a.hear()
		}
	}
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

// A shareHead lies before the bytes of memory that the app shares. Members ring for each
// other by end 0 of the connection.
type shareHead struct {
	bell rt.Bell
	rung endHead
	_    [48]byte
}

// share is share(bytes, *address): memory that is the same in this pVM and in all that
// it forks from now on. It is never given back. The first 128 bytes are the library OS's.
func share(a kernel.Args) (uintptr, linux.Errno) {
	at, e := kernel.Ptr[uintptr](a.A2)
	if e != 0 {
		return 0, e
	}
	if a.A1 == 0 || a.A1 > 1<<32 {
		return 0, linux.EINVAL
	}
	m, e := newArea((a.A1+abi.PageSize-1)&^(abi.PageSize-1), true)
	if e != 0 {
		return 0, e
	}
	m.src.Only = rt.Hup
	e = linux.Errno(rt.Watch(m.handle[1], &m.src))
	if e == 0 {
		e = m.hear()
	}
	if e != 0 {
		m.closeEventfd()
		m.drop(0)
		m.drop(1)
		return 0, e
	}
	*at = m.p
	return 0, 0
}

func shared(p uintptr) (*area, linux.Errno) {
	areas.mu.Lock()
	defer areas.mu.Unlock()
	if a := areas.m[p]; a != nil && a.end[0] == nil && a.end[1] == nil {
		return a, 0
	}
	return nil, linux.EINVAL
}

// shareWait is wait(memory, address, old): it returns when the uint32 at that address is
// another than old and shareWake was called for that memory since, or before.
func shareWait(a kernel.Args) (uintptr, linux.Errno) {
	m, e := shared(a.A1)
	if e != 0 {
		return 0, e
	}
	v, e := kernel.Ptr[atomic.Uint32](a.A2)
	if e != 0 {
		return 0, e
	}
	hush(&m.share().rung, &m.handle[1])
	for old := uint32(a.A3); v.Load() == old; {
		rt.ParkWord(&rt.Word{At: a.A2, Bell: addrBell(&m.share().bell), Spin: &m.spin}, old)
	}
	return 0, 0
}

// shareWake is wake(memory).
func shareWake(a kernel.Args) (uintptr, linux.Errno) {
	m, e := shared(a.A1)
	if e != 0 {
		return 0, e
	}
	if n, ok := m.share().bell.Pull(); ok {
		if m.eventfd[0] < 0 {
			// Those that wait for other numbers sleep on, and take nothing out.
			hush(&m.share().rung, &m.handle[1])
		}
		gate.RLock()
		if m.eventfd[0] >= 0 {
			for i, h := range m.eventfd {
				if who := rt.Sleeper(n); who == rt.Several || who%2 == uint32(i) {
					host.Ring(h)
				}
			}
		} else {
			m.share().rung.rung.Add(1)
			host.Send(m.handle[0], ding[:], 0)
		}
		gate.RUnlock()
		m.share().bell.Pulled(n)
	}
	return 0, 0
}

// reshare runs in a pVM that was restored from a snapshot without the other members.
// What was shared is its own copy: new memory with this content takes its place, and is
// shared with what this pVM forks, which it cannot do before. Pairs are made again if this
// pVM has both ends; where it has one, the other is nobody's.
func reshare() {
	family := rt.Boot().Shared != 0
	for _, a := range allAreas() {
		a.closeEventfd() // what stands for it
		if family && a.at != nowhere {
			a.rejoin()
			continue
		}
		a.alone()
		pair := a.end[0] != nil || a.end[1] != nil
		if pair && (a.end[0] == nil || a.end[1] == nil) || rt.Boot().Flags&abi.BootFork == 0 && pair {
			a.hang()
			continue
		}
		if rt.Boot().Flags&abi.BootFork == 0 {
			continue // nobody to share it with
		}
		h, id, at, e := requestArea(a.n, false)
		if e == 0 {
			e = a.replace(h[2])
			host.Close(h[2])
			a.id, a.at = id, at
			rt.Shared(a.p, a.n, at)
		}
		if e == 0 {
			e = a.rewire(h[0], h[1])
		}
		if e != 0 {
			host.Send(abi.HandleStderr, []byte("noyau: shared memory of a restored pVM cannot be made again\n"), 0)
			rt.Exit(125)
		}
	}
}

// hang makes the ends of a pair know that nobody has the other.
func (a *area) hang() {
	for _, c := range a.end {
		if c != nil {
			c.hung.Store(true)
		}
	}
}

// rewire gives an area another connection.
func (a *area) rewire(x, y int32) linux.Errno {
	for i, h := range [2]int32{x, y} {
		if e := a.rewireEnd(i, h); e != 0 {
			return e
		}
	}
	return 0
}

// rewireEnd gives one end of an area another handle.
func (a *area) rewireEnd(i int, h int32) linux.Errno {
	rt.Unwatch(a.handle[i])
	host.Close(a.handle[i])
	a.handle[i] = h
	src := &a.src
	if c := a.end[i]; c != nil {
		src = &c.src
		rt.ForgetWord(&c.inWord)
		rt.ForgetWord(&c.outWord)
		c.inWord.Handle, c.outWord.Handle = h, h
		c.hung.Store(false)
	} else if i == 0 {
		return 0 // the ringing end of memory is not watched
	}
	if e := rt.Watch(h, src); e != 0 {
		return linux.Errno(e)
	}
	if c := a.end[i]; c != nil {
		c.tell(rt.In | rt.Out)
	}
	return 0
}

// rejoin gives the ends of an area of a restored family their places in its connection again.
func (a *area) rejoin() {
	for i, old := range a.handle {
		if old < 0 {
			continue
		}
		r, e := host.Request(abi.Msg{Op: abi.OpRejoin, A: uint64(old)})
		if e == 0 && r.FD >= 0 {
			e = a.rewireEnd(i, r.FD)
		}
		if c := a.end[i]; e != 0 && c != nil {
			c.hung.Store(true)
		}
	}
}

// tell has those who wait for an end here look again.
func (a *area) tell() {
	for _, c := range a.end {
		if c != nil {
			c.tell(rt.In | rt.Out)
		}
	}
}

// ding has all who may wait for what is in an area look again, here and in other members: what
// was rung while a restored pVM had no connection is lost.
func (a *area) ding() {
	pair := a.end[0] != nil || a.end[1] != nil
	for i, h := range a.handle {
		if h < 0 {
			continue
		}
		switch {
		case pair:
			a.heads().ends[1-i].rung.Add(1)
		case i == 0:
			a.share().rung.rung.Add(1)
		default:
			continue // nobody rings by that one
		}
		host.Send(h, ding[:], 0)
		if c := a.end[i]; c != nil {
			c.tell(rt.In | rt.Out)
		}
	}
}

// keepAll is keep for areas.
func keepAll() {
	for _, a := range allAreas() {
		for i, h := range a.handle {
			if h >= 0 {
				host.RequestWith(abi.Msg{Op: abi.OpKeep, A: uint64(h), B: a.id, C: uint64(i)}, h)
			}
		}
	}
}

func thawAll() {
	for _, a := range allAreas() {
		if kernel.Restored() {
			a.ding()
		} else {
			a.tell() // the other end may have gone meanwhile: see End.gone
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

// replace puts the memory behind a handle in the place of a. Nobody writes to it between.
func (a *area) replace(handle int32) linux.Errno {
	rt.Pin()
	defer rt.Unpin()
	for done := uintptr(0); done < a.n; {
		k, e := rt.HostCall(abi.CallPwrite, uintptr(handle), a.p+done, min(a.n-done, 1<<30), done, 0, 0)
		if e != 0 {
			return linux.Errno(e)
		}
		if k == 0 {
			return linux.EIO
		}
		done += k
	}
	return host.Map(a.p, a.n, true, handle, 0)
}
