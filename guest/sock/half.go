package sock

import (
	"sync"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A half is one direction of a connection in memory: what one socket writes
// and the other reads. Both sides notify only after they have unlocked mu.
//
// Why no wake-up is lost: a reader that returns EAGAIN saw the half empty under
// mu; whoever fills or ends it does so under mu afterwards and then notifies
// the reader's socket unconditionally. A writer that returns EAGAIN, and a
// Ready that answers "not Out", set full under mu; a reader that makes room
// finds full under mu, clears it and notifies the writer's socket.
type half struct {
	mu   sync.Mutex
	q    queue
	lim  int     // unread bytes (records: cost) at which a writer stops
	rd   *Socket // the reader
	wr   *Socket // the writer
	full bool    // the writer waits for room

	fin   bool // the writer sends no more
	rst   bool // the connection was reset
	rdoff bool // TCP: the reader has shut down reading
	gone  bool // the reader has closed
}

// pair connects a and b by two new halves.
func pair(a, b *Socket) {
	ab, ba := &half{rd: b, wr: a}, &half{rd: a, wr: b}
	a.tx, a.rx, b.tx, b.rx = ab, ba, ba, ab
	a.limit()
	b.limit()
}

// limit takes a changed buffer size of s into account.
func (s *Socket) limit() {
	for _, h := range [...]*half{s.rx, s.tx} {
		if h == nil {
			continue
		}
		h.mu.Lock()
		h.lim = int(h.wr.sndbuf.Load())
		if h.wr.isTCP() {
			h.lim += int(h.rd.rcvbuf.Load())
		}
		h.mu.Unlock()
	}
}

// room reports whether a writer should be told that it may go on: a third of
// the buffer is free, as Linux has it, so that it is not woken for every byte.
func (h *half) room() bool { return h.q.cost < h.lim-h.lim/3 }

// read fills p from the half. a receives the ancillary data, if not nil.
// It returns 0 and no error at the end.
func (h *half) read(p []byte, flags int, a **anc) (int, linux.Errno) {
	s := h.rd
	h.mu.Lock()
	if h.q.n > 0 && len(p) > 0 {
		n, got := h.q.read(p, flags&linux.MSG_PEEK != 0)
		wake := h.full && h.room()
		if wake {
			h.full = false
		}
		h.mu.Unlock()
		got.give(a)
		if wake {
			h.wr.notify(rt.Out)
		}
		return n, 0
	}
	fin, end := h.fin, h.fin || h.rst || h.rdoff
	h.mu.Unlock()
	if len(p) == 0 {
		return 0, 0
	}
	// After a FIN, TCP answers 0 even if a reset followed.
	if fin && s.isTCP() {
		return 0, 0
	}
	if e := s.takeErr(); e != 0 {
		return 0, e
	}
	if end {
		return 0, 0
	}
	return 0, linux.EAGAIN
}

// write appends p to a stream. It may take a part only. The ancillary data a
// goes with the first byte, and is the half's only if n > 0.
func (h *half) write(p []byte, a *anc) (int, linux.Errno) {
	s, tcp := h.wr, h.wr.isTCP()
	if tcp {
		if e := s.takeErr(); e != 0 {
			return 0, e
		}
	}
	h.mu.Lock()
	switch {
	case h.fin || h.rst || h.gone && !tcp:
		h.mu.Unlock()
		return 0, linux.EPIPE
	case h.gone, h.rdoff && h.rd.outEnd():
		// The peer answers data that it cannot take any more with a reset.
		if !h.gone {
			h.rd.err.Store(uint32(linux.ECONNRESET))
		}
		s.err.Store(uint32(linux.EPIPE))
		h.rst = true
		h.mu.Unlock()
		s.rx.mu.Lock()
		s.rx.rst = true
		s.rx.mu.Unlock()
		s.notify(rt.In | rt.Out | rt.RdHup | rt.Hup | rt.Err)
		h.rd.notify(rt.In | rt.Out | rt.RdHup | rt.Hup | rt.Err)
		return len(p), 0
	case len(p) == 0:
		h.mu.Unlock()
		return 0, 0
	}
	room := h.lim - h.q.n
	if room <= 0 {
		h.full = true
		h.mu.Unlock()
		return 0, linux.EAGAIN
	}
	var n int
	if a != nil {
		g := newSeg(min(len(p), room))
		g.w = copy(g.buf, p[:min(len(p), room)])
		g.anc = a
		n = g.w
		h.q.push(g)
		if n < len(p) && n < room {
			n += h.q.write(p[n:], room-n)
		}
	} else {
		n = h.q.write(p, room)
	}
	if n < len(p) {
		h.full = true
	}
	h.mu.Unlock()
	h.rd.notify(rt.In)
	return n, 0
}

// writeRecord appends p as one record (seqpacket). It owns a if it succeeds.
func (h *half) writeRecord(p []byte, a *anc) (int, linux.Errno) {
	if e := h.wr.takeErr(); e != 0 {
		return 0, e
	}
	h.mu.Lock()
	switch {
	case h.fin || h.gone:
		h.mu.Unlock()
		return 0, linux.EPIPE
	case len(p)+segCost > h.lim:
		h.mu.Unlock()
		return 0, linux.EMSGSIZE
	case h.q.cost+len(p)+segCost > h.lim:
		h.full = true
		h.mu.Unlock()
		return 0, linux.EAGAIN
	}
	g := wholeSeg(p)
	g.anc = a
	h.q.push(g)
	h.mu.Unlock()
	h.rd.notify(rt.In)
	return len(p), 0
}

// readRecord reads one record; total is its length.
func (h *half) readRecord(p []byte, flags int, a **anc) (n, total int, e linux.Errno) {
	if e := h.rd.takeErr(); e != 0 {
		return 0, 0, e
	}
	h.mu.Lock()
	g := h.q.head
	if g == nil {
		end := h.fin
		h.mu.Unlock()
		if end {
			return 0, 0, 0
		}
		return 0, 0, linux.EAGAIN
	}
	n, total = copy(p, g.buf[g.r:g.w]), g.w-g.r
	var got *anc
	wake, pop := false, flags&linux.MSG_PEEK == 0
	if pop {
		got, g.anc = g.anc, nil
		h.q.pop()
		wake = h.full && h.room()
		if wake {
			h.full = false
		}
	} else {
		got = g.anc.clone()
	}
	h.mu.Unlock()
	if pop {
		freeSeg(g)
	}
	got.give(a)
	if wake {
		h.wr.notify(rt.Out)
	}
	return n, total, 0
}

// end marks the half as finished by its writer and wakes both sides. For unix
// sockets the reader's shutdown does the same.
func (h *half) end() {
	h.mu.Lock()
	h.fin = true
	h.mu.Unlock()
	h.rd.notify(rt.In | rt.RdHup | h.rd.hup())
	h.wr.notify(rt.Out | h.wr.hup())
}

// hup returns the hang-up bit if both directions have ended.
func (s *Socket) hup() uint32 {
	if s.inEnd() && s.outEnd() {
		return rt.Hup
	}
	return 0
}

func (s *Socket) inEnd() bool {
	h := s.rx
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fin || h.rst || h.rdoff
}

func (s *Socket) outEnd() bool {
	h := s.tx
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fin || h.rst
}

// over reports whether a TCP connection in memory has ended, by a reset or by
// the FINs of both sides: it has no peer any more.
func (s *Socket) over() bool {
	if !s.isTCP() || s.host.Load() != nil || s.rx == nil {
		return false
	}
	s.rx.mu.Lock()
	fin, rst := s.rx.fin, s.rx.rst
	s.rx.mu.Unlock()
	s.tx.mu.Lock()
	defer s.tx.mu.Unlock()
	return rst || fin && s.tx.fin
}

// readyPair returns the readiness of a connection in memory.
func (s *Socket) readyPair() (ev uint32) {
	h := s.rx
	h.mu.Lock()
	in, inEnd := h.q.head != nil, h.fin || h.rst || h.rdoff
	h.mu.Unlock()
	h = s.tx
	h.mu.Lock()
	outEnd := h.fin || h.rst
	out := h.room() || outEnd || h.gone
	if !out {
		h.full = true
	}
	h.mu.Unlock()
	if in || inEnd {
		ev |= rt.In
	}
	if inEnd {
		ev |= rt.RdHup
	}
	if out {
		ev |= rt.Out
	}
	if inEnd && outEnd {
		ev |= rt.Hup
	}
	if s.err.Load() != 0 {
		ev |= rt.Err
	}
	return ev
}

// closePair ends both directions for s, whose descriptor is closed. With force
// the peer sees a reset: s was never accepted.
func (s *Socket) closePair(force bool) {
	peer := s.rx.wr
	tcp, over := s.isTCP(), s.over()
	s.rx.mu.Lock()
	dropped := s.rx.q
	unread := dropped.head != nil || force
	s.rx.q = queue{}
	s.rx.gone = true
	peerEnd := s.rx.fin || s.rx.rst
	if !tcp {
		s.rx.fin = true
	}
	s.rx.mu.Unlock()
	dropped.clear()

	// Errors are stored before the flags: who sees the flag finds the error.
	reset := tcp && !over && (unread || s.linger0())
	s.tx.mu.Lock()
	alive := !s.tx.gone
	ev := uint32(rt.In | rt.Out | rt.RdHup)
	switch {
	case !alive:
	case reset && s.tx.fin:
		peer.err.Store(uint32(linux.EPIPE))
		ev |= rt.Err
	case reset, unread && !tcp:
		peer.err.Store(uint32(linux.ECONNRESET))
		ev |= rt.Err
	}
	switch {
	case reset && !s.tx.fin:
		s.tx.rst = true
	case !s.tx.rst:
		s.tx.fin = true
	}
	s.tx.mu.Unlock()
	if !alive {
		return
	}
	if reset {
		s.rx.mu.Lock()
		s.rx.rst = true
		s.rx.mu.Unlock()
	}
	if reset || peerEnd || !tcp {
		ev |= rt.Hup
	}
	peer.notify(ev)
}
