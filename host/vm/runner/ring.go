package runner

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// ring is the runner's side of the memory described at abi.VMRing…: it sends what
// the guest queued and receives ahead of the guest, for the handles that the guest
// has marked. The guest can write to all of it at any time it runs, so nothing read
// from it is trusted, and each number is read once. It gives a guest nothing that
// calls on its handles do not.
type ring struct {
	r       *Runner
	mem     []byte
	ended   handles // those whose peer has ended or failed: no event follows
	errs    []uint8 // by handle: the error of a batched send or receive that the guest has not seen
	blocked bool    // some record could not be sent
	closing []uint64
	stalled handles // during flush: handles whose first record is stuck
	marked  []uint64
}

// maxClosing bounds the closed handles that still have data in the queue.
const maxClosing = 256

func (g *ring) start(r *Runner) {
	if g.errs == nil {
		g.room()
	}
	g.r, g.mem = r, r.m.Ring()
	for i := range abi.VMSlots {
		binary.LittleEndian.PutUint32(g.mem[abi.VMRingHandles+4*i:], abi.VMSlotFree)
	}
	for h := uint64(0); g.has(h) && r.handles.has(h); h++ {
		g.setBit(abi.VMRingReadable, h, true) // all else is zero
	}
}

// room makes the memory that the ring needs besides that shared with the guest.
func (g *ring) room() {
	g.stalled, g.ended = newHandles(0), newHandles(0)
	g.errs = make([]uint8, abi.VMRingHandlesMax)
	g.closing = make([]uint64, 0, maxClosing)
	g.marked = make([]uint64, 0, abi.VMRingOutSize/abi.VMRecHeader)
}

func (g *ring) word(at int) uint32       { return binary.LittleEndian.Uint32(g.mem[at:]) }
func (g *ring) setWord(at int, v uint32) { binary.LittleEndian.PutUint32(g.mem[at:], v) }

// bit reads what a table of bits says about h, which is below VMRingHandlesMax.
func (g *ring) bit(table int, h uint64) bool { return g.mem[table+int(h/8)]>>(h%8)&1 != 0 }

func (g *ring) setBit(table int, h uint64, yes bool) {
	p := &g.mem[table+int(h/8)]
	*p &^= 1 << (h % 8)
	if yes {
		*p |= 1 << (h % 8)
	}
}

// has reports whether h can have a part in the ring.
func (g *ring) has(h uint64) bool { return g.mem != nil && h < abi.VMRingHandlesMax }

// A record is one entry of the queue, at mem[at:]: header, address, data.
type record struct {
	h         uint64
	at        int
	alen, n   int
	data, end int
}

func pad8(n int) int { return (n + 7) &^ 7 }

// record takes apart the entry at o of a queue of used bytes. ok is false at the end,
// and if the entry is malformed: the rest is nobody's then.
func (g *ring) record(o, used int) (c record, ok bool) {
	if used-o < abi.VMRecHeader {
		return c, false
	}
	at := abi.VMRingOut + o
	word, n := g.word(at), g.word(at+4)
	c = record{h: uint64(word & 0xffff), at: at, alen: int(word >> 16), n: int(n)}
	if c.alen > abi.VMRecAddrMax || n > abi.VMRingOutSize {
		return c, false
	}
	c.data = at + abi.VMRecHeader + pad8(c.alen)
	c.end = c.data + pad8(c.n)
	return c, c.end-abi.VMRingOut <= used
}

// used is how much is queued.
func (g *ring) used() int {
	if used := g.word(abi.VMRingUsed); used <= abi.VMRingOutSize {
		return int(used)
	}
	return 0
}

// nobody makes the bytes [at, end) a record that is not sent.
func (g *ring) nobody(at, end int) {
	if end-at >= abi.VMRecHeader {
		g.setWord(at, abi.VMRecNobody)
		g.setWord(at+4, uint32(end-at-abi.VMRecHeader))
	}
}

// flush sends what is queued. It runs at every exit, before the call.
func (g *ring) flush() {
	if g.mem == nil {
		return
	}
	used := g.used()
	if used == 0 {
		return
	}
	for o := 0; ; {
		c, ok := g.record(o, used)
		if !ok {
			break
		}
		o = c.end - abi.VMRingOut
		if c.h == abi.VMRecNobody || !g.r.handles.has(c.h) && !slices.Contains(g.closing, c.h) {
			continue
		}
		if g.stalled.has(c.h) {
			continue // nothing overtakes
		}
		v := g.send(&c)
		switch {
		case v >= 0 && v < int64(c.n):
			// The record keeps its place; behind what is left comes a record of nobody.
			left := c.n - int(v)
			copy(g.mem[c.data:], g.mem[c.data+int(v):c.data+c.n])
			g.setWord(c.at+4, uint32(left))
			g.nobody(c.data+pad8(left), c.end)
			g.stall(c.h)
		case v == -int64(unix.EAGAIN):
			g.stall(c.h)
		default:
			g.r.Counts.Sent++
			g.setWord(c.at, abi.VMRecNobody)
			g.setWord(c.at+4, uint32(c.end-c.at-abi.VMRecHeader))
			if v < 0 {
				g.fail(c.h, v)
			}
		}
	}
	stuck := len(g.marked) != 0
	for _, h := range g.marked {
		g.stalled.remove(h)
	}
	g.marked = g.marked[:0]
	if !stuck && g.word(abi.VMRingWriting) == 0 {
		g.setWord(abi.VMRingUsed, 0)
	}
	if stuck != g.blocked {
		g.blocked = stuck
		if stuck {
			g.setWord(abi.VMRingBlocked, 1)
		} else {
			g.setWord(abi.VMRingBlocked, 0)
		}
	}
	g.reap()
}

// send sends one record.
func (g *ring) send(c *record) int64 {
	var to, tolen uintptr
	if c.alen != 0 {
		if g.r.boot.Flags&abi.BootNetOut == 0 {
			return -int64(unix.EACCES)
		}
		copy(g.r.sockaddr[:], g.mem[c.at+abi.VMRecHeader:][:c.alen])
		to, tolen = ptrOf(&g.r.sockaddr), uintptr(c.alen)
	}
	data := g.mem[c.data : c.data+c.n]
	try := func() int64 {
		return int64(g.r.sys(unix.SYS_SENDTO, uintptr(c.h), addr(data), uintptr(c.n), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, to, tolen))
	}
	v := try()
	switch {
	case v == -int64(unix.ECONNREFUSED):
		// An answer to an earlier datagram; this one was not sent.
		g.fail(c.h, v)
		v = try()
	case c.h == abi.HandleControl && (v == -int64(unix.ENOBUFS) || v == -int64(unix.ENOMEM)):
		v = -int64(unix.EAGAIN) // a request must not be lost
	}
	return v
}

// fail keeps the error of a call that the guest has not made, for the next that it
// makes.
func (g *ring) fail(h uint64, v int64) {
	if g.has(h) {
		g.errs[h] = uint8(min(-v, 255))
		g.setBit(abi.VMRingFailed, h, true)
		g.setBit(abi.VMRingReadable, h, true)
	}
}

// failed is the result of a call on h, if it is the error of an earlier one.
func (g *ring) failed(h uint64) (v uint64, ok bool) {
	if !g.has(h) || g.errs[h] == 0 {
		return 0, false
	}
	v = fail(unix.Errno(g.errs[h]))
	g.errs[h] = 0
	g.setBit(abi.VMRingFailed, h, false)
	return v, true
}

func (g *ring) stall(h uint64) {
	g.stalled.add(h)
	g.marked = append(g.marked, h)
}

// waits reports whether records of h are stuck in the queue: nothing may overtake
// them.
func (g *ring) waits(h uint64) bool {
	if !g.blocked {
		return false
	}
	used := g.used()
	for o := 0; ; {
		c, ok := g.record(o, used)
		if !ok {
			return false
		}
		if c.h == h {
			return true
		}
		o = c.end - abi.VMRingOut
	}
}

// drop makes what is queued for h nobody's.
func (g *ring) drop(h uint64) {
	used := g.used()
	for o := 0; ; {
		c, ok := g.record(o, used)
		if !ok {
			return
		}
		if c.h == h {
			g.nobody(c.at, c.end)
		}
		o = c.end - abi.VMRingOut
	}
}

// close is called when the guest closes h. It reports whether the descriptor must
// stay open until what is queued was sent.
func (g *ring) close(h uint64) bool {
	if !g.has(h) {
		return false
	}
	for i := range abi.VMSlots {
		if at := abi.VMRingHandles + 4*i; uint64(g.word(at)) == h {
			g.setWord(at, abi.VMSlotFree)
		}
	}
	g.errs[h] = 0
	if g.waits(h) {
		if len(g.closing) < maxClosing {
			g.closing = append(g.closing, h)
			return true
		}
		g.drop(h) // the next connection with this number must not get it
	}
	return false
}

// reap closes the handles that have sent the rest of their data.
func (g *ring) reap() {
	kept := g.closing[:0]
	for _, h := range g.closing {
		if g.waits(h) {
			kept = append(kept, h)
			continue
		}
		g.r.sys(unix.SYS_CLOSE, uintptr(h), 0, 0, 0, 0, 0)
	}
	g.closing = kept
}

// drain sends what is queued before the guest ends, and waits up to half a second
// for peers that do not read.
func (g *ring) drain() {
	g.flush()
	for n := 0; g.blocked && n < 500; n++ {
		nanosleep(1e6)
		g.flush()
	}
}

// fill receives for the marked handles that are readable according to the n events
// in b, as far as there are free slots. The guest gets data and event by one exit.
func (g *ring) fill(b []byte, n uint64) {
	if g.mem == nil || int64(n) <= 0 || n > uint64(len(b)/12) {
		return
	}
	if g.blocked {
		g.flush() // one of them may have room again
	}
	slot, filled := 0, uint32(0)
	for e := range int(n) {
		events, h := binary.LittleEndian.Uint32(b[12*e:]), uint64(binary.LittleEndian.Uint32(b[12*e+4:]))
		const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
		if events&(unix.EPOLLIN|end) == 0 || !g.has(h) || !g.r.handles.has(h) {
			continue
		}
		g.setBit(abi.VMRingReadable, h, true)
		datagrams := g.bit(abi.VMRingDatagrams, h)
		if events&end != 0 && !datagrams {
			g.ended.add(h)
		}
		if !g.bit(abi.VMRingBatched, h) || g.errs[h] != 0 {
			continue
		}
		for slot < abi.VMSlots && g.word(abi.VMRingHandles+4*slot) != abi.VMSlotFree {
			slot++
		}
		if slot == abi.VMSlots || g.slotOf(h) {
			continue
		}
		n := 0
		if datagrams {
			n = g.datagrams(h, g.slot(slot), events&end != 0)
		} else {
			n = g.stream(h, g.slot(slot))
		}
		if n == 0 {
			continue // the end of the stream is the guest's to find
		}
		g.setWord(abi.VMRingLengths+4*slot, uint32(n))
		g.setWord(abi.VMRingDone+4*slot, 0)
		g.setWord(abi.VMRingHandles+4*slot, uint32(h))
		g.r.Counts.Filled++
	}
	for i := range abi.VMSlots {
		if g.word(abi.VMRingHandles+4*i) != abi.VMSlotFree {
			filled++
		}
	}
	g.setWord(abi.VMRingFilled, filled)
}

func (g *ring) slot(i int) []byte {
	return g.mem[abi.VMRingSlots+i*abi.VMSlotSize:][:abi.VMSlotSize:abi.VMSlotSize]
}

// stream receives from a connection into a slot.
func (g *ring) stream(h uint64, p []byte) int {
	v := int64(g.r.sys(unix.SYS_RECVFROM, uintptr(h), addr(p), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0))
	switch {
	case v > 0 && v <= int64(len(p)):
		g.setBit(abi.VMRingReadable, h, v == int64(len(p)) || g.ended.has(h))
		return int(v)
	case v == -int64(unix.EAGAIN) && !g.ended.has(h):
		g.setBit(abi.VMRingReadable, h, false)
	case v < 0 && v != -int64(unix.EAGAIN):
		g.fail(h, v) // asking has cleared it
	}
	return 0
}

// datagrams receives as many datagrams as fit into a slot, as records. If it may have ended, a
// connection of packets, what has no bytes may be its end and is the guest's to find.
func (g *ring) datagrams(h uint64, p []byte, ended bool) (used int) {
	for len(p)-used > abi.VMRecHeader+abi.VMRecAddrMax {
		g.r.socklen = maxAddr
		// How long is the next one? It stays where it is if there is no room for it.
		v := int64(g.r.sys(unix.SYS_RECVFROM, uintptr(h), 0, 0, unix.MSG_DONTWAIT|unix.MSG_PEEK|unix.MSG_TRUNC, ptrOf(&g.r.sockaddr), ptrOf(&g.r.socklen)))
		if v < 0 {
			if v == -int64(unix.EAGAIN) {
				g.setBit(abi.VMRingReadable, h, false)
			} else {
				g.fail(h, v)
			}
			return used
		}
		if v == 0 && ended {
			return used
		}
		alen := int(g.r.socklen)
		if alen > abi.VMRecAddrMax {
			alen = 0
		}
		data := used + abi.VMRecHeader + pad8(alen)
		if v > int64(len(p)-data) || data+pad8(int(v)) > len(p) {
			return used
		}
		rec := p[used:]
		binary.LittleEndian.PutUint16(rec, uint16(h))
		binary.LittleEndian.PutUint16(rec[2:], uint16(alen))
		copy(rec[abi.VMRecHeader:], g.r.sockaddr[:alen])
		if v > 0 {
			v = int64(g.r.sys(unix.SYS_RECVFROM, uintptr(h), addr(p[data:data+int(v)]), uintptr(v), unix.MSG_DONTWAIT, 0, 0))
		} else {
			v = int64(g.r.sys(unix.SYS_RECVFROM, uintptr(h), 0, 0, unix.MSG_DONTWAIT, 0, 0))
		}
		if v < 0 || v > int64(len(p)-data) {
			return used // somebody else has taken it
		}
		binary.LittleEndian.PutUint32(rec[4:], uint32(v))
		used = data + pad8(int(v))
	}
	return used
}

// received is told of each call that has read n of at most want bytes from h. A
// stream that gave less has no more for now: its next data is an event.
func (g *ring) received(h uint64, n int64, want int, plain bool) {
	if !g.has(h) || g.ended.has(h) {
		return
	}
	if n == -int64(unix.EAGAIN) || plain && n > 0 && n < int64(want) && !g.bit(abi.VMRingDatagrams, h) {
		g.setBit(abi.VMRingReadable, h, false)
	}
}

// added is told of each handle that the guest gets: nothing is known about it.
func (g *ring) added(h uint64) {
	if !g.has(h) {
		return
	}
	g.ended.remove(h)
	g.errs[h] = 0
	g.setBit(abi.VMRingFailed, h, false)
	g.setBit(abi.VMRingReadable, h, true)
}

// slotOf reports whether h has a slot already: what it holds comes first.
func (g *ring) slotOf(h uint64) bool {
	for i := range abi.VMSlots {
		if uint64(g.word(abi.VMRingHandles+4*i)) == h {
			return true
		}
	}
	return false
}

// child makes the ring of a forked runner a new one: connections are the parent's, and
// so is what lies in it of them. All handles are below top. No goroutine of the guest is
// at work on it, since those are not preempted.
func (g *ring) child(top uint64) {
	if g.mem == nil {
		return
	}
	for _, h := range g.closing {
		g.r.sys(unix.SYS_CLOSE, uintptr(h), 0, 0, 0, 0, 0)
	}
	g.closing, g.blocked = g.closing[:0], false
	clear(g.mem[:abi.VMRingHandles])
	for i := range abi.VMSlots {
		g.setWord(abi.VMRingHandles+4*i, abi.VMSlotFree)
	}
	top = min(top, abi.VMRingHandlesMax)
	n := int(top+7) / 8
	for _, table := range [...]int{abi.VMRingFailed, abi.VMRingBatched, abi.VMRingDatagrams} {
		clear(g.mem[table:][:n])
	}
	for i := range n {
		g.mem[abi.VMRingReadable+i] = 0xff
	}
	clear(g.errs[:top])
	g.ended.clear(top)
}
