package proc

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A link goes directly to another member: see package abi. Signals lie in a box of memory
// that both have, and the doorbell is rung only for who sleeps.
//
// A signal is never lost by the end of a link: each end takes the other's signals out of
// its box one last time, and what this one has sent and finds untaken goes by the
// monitor. Nor is it delivered twice, as taking is atomic.
type link struct {
	id     uint64
	owner  uint64 // rt.Boot().ID of the pVM that it is a link of: a fork has none
	pid    uint32 // the other
	handle int32  // doorbell
	page   uintptr
	out    *uint32 // signals in the other's box
	sleeps *uint32 // whether the other does
	mail   rt.Mailbox
	src    rt.Source
	used   uint64 // when, in sends and receipts of all links
	rings  int    // events since the doorbell was read
	idle   int    // events in a row without a signal
	gone   bool
	// revoked: nothing counts that lies in the box. It stays there, so that an honest
	// other end finds it and asks the monitor.
	revoked bool
}

const (
	// linkAfter is how many signals to the same member go by the monitor first.
	linkAfter = 2
	// linkLost is how many more after a link was taken away or could not be made.
	linkLost = 1000
	// readAfter bounds the bytes that lie on a doorbell unread.
	readAfter = 64
	// maxIdle events without a signal, one after the other, make no sense.
	maxIdle = 1000
	// maxCounts bounds the members for which signals are counted.
	maxCounts = 64
)

var links struct {
	sync.Mutex
	m      map[uint32]*link // by the other
	stale  []*link          // of the pVM that this one is a copy of
	counts map[uint32]int   // of signals that went by the monitor
	making map[uint32]bool
	clock  uint64
	left   sync.WaitGroup // of signals that go by the monitor as their link has ended
}

func init() {
	host.OnLink = func(m abi.Msg, h []int32) {
		if e := newLink(&m, h[abi.LinkDoorbell], h[abi.LinkMemory]); e != 0 {
			unwanted(uint32(m.A), m.C)
		}
	}
	kernel.OnUnlink = func(m abi.Msg) {
		links.Lock()
		defer links.Unlock()
		if l := links.m[uint32(m.A)]; l != nil && l.id == m.C {
			l.revoked = m.B != 0
			l.drop()
			count(l.pid, -linkLost)
		}
	}
	kernel.OnFork(func() {
		links.Lock()
		defer links.Unlock()
		for _, l := range links.m {
			l.gone = true
			links.stale = append(links.stale, l)
		}
		links.m, links.counts, links.making = nil, nil, nil
	})
}

// linked sends sig by a link; false if there is none, or none for this signal.
func linked(pid int32, sig uintptr) bool {
	if sig == 0 || sig >= 32 || abi.LinkAllowed>>(sig-1)&1 == 0 {
		return false
	}
	links.Lock()
	defer links.Unlock()
	l := links.m[uint32(pid)]
	if l == nil || l.owner != rt.Boot().ID {
		return false
	}
	l.touch()
	atomic.OrUint32(l.out, 1<<(sig-1))
	if atomic.LoadUint32(l.sleeps) != 0 && atomic.SwapUint32(l.sleeps, 0) != 0 {
		// A full doorbell was not read yet, and so is an event there.
		if _, e := host.Send(l.handle, bell[:], 0); e != 0 && e != linux.EAGAIN {
			l.drop() // which sends it by the monitor
		}
	}
	return true
}

var bell [1]byte

// sent counts a signal that went by the monitor, and asks for a link if there are more.
func sent(pid int32, sig uintptr) {
	if rt.Boot().Flags&abi.BootFork == 0 || sig == 0 || sig >= 32 || abi.LinkAllowed>>(sig-1)&1 == 0 {
		return
	}
	links.Lock()
	defer links.Unlock()
	if count(uint32(pid), 1) < linkAfter || links.making[uint32(pid)] || links.m[uint32(pid)] != nil {
		return
	}
	if links.making == nil {
		links.making = make(map[uint32]bool)
	}
	links.making[uint32(pid)] = true
	rt.Spawn(func() { makeLink(uint32(pid)) })
}

// count adds n to what is counted for a member. The lock is held.
func count(pid uint32, n int) int {
	if links.counts == nil || len(links.counts) >= maxCounts {
		links.counts = make(map[uint32]int)
	}
	links.counts[pid] += n
	return links.counts[pid]
}

func makeLink(pid uint32) {
	sweep()
	r, e := host.Request(abi.Msg{Op: abi.OpSignalLink, A: uint64(pid)})
	if e == 0 {
		var h [abi.LinkHandles]int32
		if r.Take(h[:]) {
			r.A = uint64(pid)
			if e = newLink(&r.Msg, h[abi.LinkDoorbell], h[abi.LinkMemory]); e != 0 {
				unwanted(pid, r.C)
			}
		} else {
			e = linux.EIO
		}
	}
	links.Lock()
	defer links.Unlock()
	delete(links.making, pid)
	if e != 0 {
		count(pid, -linkLost)
	}
}

// unwanted gives a link back. It has a goroutine of its own, as sending may have to wait
// for who receives.
func unwanted(pid uint32, id uint64) {
	rt.Spawn(func() { host.Post(abi.Msg{Op: abi.OpSignalUnlink, A: uint64(pid), C: id}) })
}

// newLink takes both handles.
func newLink(m *abi.Msg, doorbell, memory int32) linux.Errno {
	owner := rt.Boot().ID
	page := rt.Pages(abi.LinkSize)
	if page == 0 {
		host.Close(memory)
		host.Close(doorbell)
		return linux.ENOMEM
	}
	e := linux.Errno(linux.EINVAL)
	if m.B < 2 {
		e = host.Map(page, abi.LinkSize, true, memory, 0)
	}
	host.Close(memory)
	if e != 0 {
		rt.FreePages(page, abi.LinkSize)
		host.Close(doorbell)
		return e
	}
	mine, others := page+uintptr(m.B)*abi.LinkBoxSize, page+uintptr(1-m.B)*abi.LinkBoxSize
	l := &link{id: m.C, owner: owner, pid: uint32(m.A), handle: doorbell, page: page,
		out: word(others + abi.LinkSignals), sleeps: word(others + abi.LinkAsleep)}
	l.mail = rt.Mailbox{Word: word(mine + abi.LinkSignals), Asleep: word(mine + abi.LinkAsleep), Source: &l.src}
	l.src = rt.Source{Slow: true, Notify: l.notify}
	links.Lock()
	defer links.Unlock()
	if links.m == nil {
		links.m = make(map[uint32]*link)
	}
	if old := links.m[l.pid]; old != nil {
		old.drop() // this one is newer
	}
	if len(links.m) >= abi.LinkMost {
		var oldest *link
		for _, x := range links.m {
			if oldest == nil || x.used < oldest.used {
				oldest = x
			}
		}
		oldest.drop()
		unwanted(oldest.pid, oldest.id)
	}
	if owner != rt.Boot().ID {
		l.gone = true
		links.stale = append(links.stale, l) // a fork came in between, and this is the copy
		return 0
	}
	if e := rt.Watch(doorbell, &l.src); e != 0 {
		rt.FreePages(page, abi.LinkSize)
		host.Close(doorbell)
		return linux.Errno(e)
	}
	links.m[l.pid] = l
	l.touch()
	return 0
}

// touch says that l was used. The lock is held.
func (l *link) touch() {
	links.clock++
	l.used = links.clock
}

// notify runs when the doorbell rings, when the scheduler has found something in the box,
// and when the other end is closed.
func (l *link) notify(ev uint32) {
	links.Lock()
	defer links.Unlock()
	if l.gone || l.owner != rt.Boot().ID {
		return
	}
	if l.take() {
		l.idle = 0
		l.touch()
	} else if l.idle++; l.idle > maxIdle {
		l.drop()
		unwanted(l.pid, l.id)
		count(l.pid, -linkLost)
		return
	}
	if ev&(rt.Hup|rt.Err|rt.RdHup) != 0 {
		l.drop()
		return
	}
	if l.rings++; l.rings >= readAfter {
		l.rings = 0
		b := kernel.GetBuffer(4096)
		host.Recv(l.handle, *b, 0)
		kernel.PutBuffer(b)
	}
	rt.Attend(&l.mail)
}

// take delivers what lies in the box, and reports whether there was anything. Bits that
// stand for no signal that may come this way mean nothing.
func (l *link) take() bool {
	set := atomic.SwapUint32(l.mail.Word, 0)
	l.mail.Seen = 0
	set &= abi.LinkAllowed
	for s := set; s != 0; s &= s - 1 {
		kernel.DeliverSoon(uint32(bits.TrailingZeros32(s)) + 1)
	}
	return set != 0
}

// drop ends a link. What its other end has not taken goes by the monitor. The lock is held.
func (l *link) drop() {
	if l.gone {
		return
	}
	l.gone = true
	delete(links.m, l.pid)
	if !l.revoked {
		l.take()
	}
	rt.Ignore(&l.mail)
	if left := atomic.SwapUint32(l.out, 0) & abi.LinkAllowed; left != 0 {
		// There may not be room for a message now, nor may this goroutine wait for some.
		pid := l.pid
		links.left.Add(1)
		rt.Spawn(func() {
			defer links.left.Done()
			for s := left; s != 0; s &= s - 1 {
				host.Request(abi.Msg{Op: abi.OpKill, A: uint64(pid), B: uint64(bits.TrailingZeros32(s)) + 1})
			}
		})
	}
	l.free()
}

func (l *link) free() {
	rt.Unwatch(l.handle)
	host.Close(l.handle)
	rt.FreePages(l.page, abi.LinkSize)
}

// sweep gives back what a copy has of its parent's links. It waits until the copy has
// links of its own, as a fork is to be fast.
func sweep() {
	links.Lock()
	defer links.Unlock()
	for _, l := range links.stale {
		l.free()
	}
	links.stale = nil
}

// dropLinks ends all links. What was sent over them has arrived then.
func dropLinks() {
	links.Lock()
	for _, l := range links.m {
		l.drop()
	}
	links.Unlock()
	links.left.Wait()
}

// ended is told that a member has ended and was waited for.
func ended(pid uint32) {
	links.Lock()
	defer links.Unlock()
	if l := links.m[pid]; l != nil {
		l.drop()
	}
	delete(links.counts, pid)
}
