package runner

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// ring is the runner's side of the memory described at abi.VMRing…: it sends what
// the guest queued and receives ahead of the guest. The guest can write to all of
// it at any time it runs, so nothing read from it is trusted, and each number is
// read once.
type ring struct {
	r       *Runner
	mem     []byte
	streams handles // accepted connections: those whose data may be batched
	ended   handles // those whose peer has ended or failed: no event follows
	blocked bool    // some record could not be sent
	closing []uint64
	stalled handles // during flush: connections whose first record is stuck
	marked  []uint64
}

// maxClosing bounds the closed connections that still have data in the queue.
const maxClosing = 256

func (g *ring) start(r *Runner) {
	g.r, g.mem = r, r.m.Ring()
	g.streams = newHandles(0)
	g.stalled, g.ended = newHandles(0), newHandles(0)
	g.closing = make([]uint64, 0, maxClosing)
	g.marked = make([]uint64, 0, abi.VMRingOutSize/8)
	for i := range abi.VMSlots {
		binary.LittleEndian.PutUint32(g.mem[abi.VMRingHandles+4*i:], abi.VMSlotFree)
	}
}

func (g *ring) word(at int) uint32       { return binary.LittleEndian.Uint32(g.mem[at:]) }
func (g *ring) setWord(at int, v uint32) { binary.LittleEndian.PutUint32(g.mem[at:], v) }

// flush sends what is queued. It runs at every exit, before the call.
func (g *ring) flush() {
	if g.mem == nil {
		return
	}
	used := int(g.word(abi.VMRingUsed))
	if used == 0 || used > abi.VMRingOutSize {
		return
	}
	for o := 0; o+8 <= used; {
		rec := g.mem[abi.VMRingOut+o : abi.VMRingOut+used]
		h, n := binary.LittleEndian.Uint32(rec), int(binary.LittleEndian.Uint32(rec[4:]))
		if n < 0 || n > len(rec)-8 {
			break // malformed: the rest is nobody's
		}
		o += 8 + (n+7)&^7
		if h == abi.VMSlotFree || !g.streams.has(uint64(h)) {
			continue
		}
		if g.stalled.has(uint64(h)) {
			continue // nothing overtakes
		}
		v := int64(g.r.sys(unix.SYS_SENDTO, uintptr(h), addr(rec[8:8+n]), uintptr(n), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0))
		switch {
		case v >= 0 && v < int64(n):
			copy(rec[8:], rec[8+v:8+n])
			// The record keeps its place; what is behind the rest is a record of nobody.
			left := n - int(v)
			end := 8 + (left+7)&^7
			if gap := 8 + (n+7)&^7 - end; gap >= 8 {
				binary.LittleEndian.PutUint32(rec[end:], abi.VMSlotFree)
				binary.LittleEndian.PutUint32(rec[end+4:], uint32(gap-8))
			}
			binary.LittleEndian.PutUint32(rec[4:], uint32(left))
			g.stall(uint64(h))
		case v == -int64(unix.EAGAIN):
			g.stall(uint64(h))
		default:
			g.r.Counts.Sent++
			binary.LittleEndian.PutUint32(rec, abi.VMSlotFree)
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
	used := min(int(g.word(abi.VMRingUsed)), abi.VMRingOutSize)
	for o := 0; o+8 <= used; {
		rec := g.mem[abi.VMRingOut+o : abi.VMRingOut+used]
		n := int(binary.LittleEndian.Uint32(rec[4:]))
		if n < 0 || n > len(rec)-8 {
			return false
		}
		if uint64(binary.LittleEndian.Uint32(rec)) == h {
			return true
		}
		o += 8 + (n+7)&^7
	}
	return false
}

// close is called when the guest closes h. It reports whether the descriptor must
// stay open until what is queued was sent.
func (g *ring) close(h uint64) bool {
	if g.mem == nil || !g.streams.has(h) {
		return false
	}
	for i := range abi.VMSlots {
		if at := abi.VMRingHandles + 4*i; uint64(g.word(at)) == h {
			g.setWord(at, abi.VMSlotFree)
		}
	}
	if g.waits(h) && len(g.closing) < maxClosing {
		g.closing = append(g.closing, h)
		return true
	}
	g.streams.remove(h)
	return false
}

// reap closes the connections that have sent the rest of their data.
func (g *ring) reap() {
	kept := g.closing[:0]
	for _, h := range g.closing {
		if g.waits(h) {
			kept = append(kept, h)
			continue
		}
		g.streams.remove(h)
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

// fill receives for the connections that are readable according to the n events in
// b, as far as there are free slots. The guest gets data and event by one exit.
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
		if events&(unix.EPOLLIN|end) == 0 || !g.streams.has(h) || !g.r.handles.has(h) {
			continue
		}
		g.setReadable(h, true)
		if events&end != 0 {
			g.ended.add(h)
		}
		for slot < abi.VMSlots && g.word(abi.VMRingHandles+4*slot) != abi.VMSlotFree {
			slot++
		}
		if slot == abi.VMSlots || g.slotOf(h) {
			continue
		}
		p := g.mem[abi.VMRingSlots+slot*abi.VMSlotSize:][:abi.VMSlotSize]
		v := int64(g.r.sys(unix.SYS_RECVFROM, uintptr(h), addr(p), abi.VMSlotSize, unix.MSG_DONTWAIT, 0, 0))
		if v <= 0 {
			continue // the end of the stream and errors are the guest's to find
		}
		g.setWord(abi.VMRingLengths+4*slot, uint32(v))
		g.setWord(abi.VMRingHandles+4*slot, uint32(h))
		g.setReadable(h, v == abi.VMSlotSize || g.ended.has(h))
		g.r.Counts.Filled++
	}
	for i := range abi.VMSlots {
		if g.word(abi.VMRingHandles+4*i) != abi.VMSlotFree {
			filled++
		}
	}
	g.setWord(abi.VMRingFilled, filled)
}

// received is told of each call that has read n of at most want bytes from h. A
// stream that gave less has no more for now: its next data is an event.
func (g *ring) received(h uint64, n int64, want int, plain bool) {
	if g.mem == nil || !g.streams.has(h) || g.ended.has(h) {
		return
	}
	if n == -int64(unix.EAGAIN) || plain && n > 0 && n < int64(want) {
		g.setReadable(h, false)
	}
}

// accepted makes a new connection part of the ring.
func (g *ring) accepted(h uint64) {
	if g.mem == nil || h >= abi.VMRingHandlesMax {
		return
	}
	g.streams.add(h)
	g.ended.remove(h)
	g.setReadable(h, true)
}

// setReadable tells the guest whether a receive on h is worth a call. Only this
// side writes it.
func (g *ring) setReadable(h uint64, yes bool) {
	p := &g.mem[abi.VMRingReadable+h/8]
	*p &^= 1 << (h % 8)
	if yes {
		*p |= 1 << (h % 8)
	}
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
