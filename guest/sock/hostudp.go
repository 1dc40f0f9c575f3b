package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// recent are addresses to which the monitor has sent a datagram. It looks at each
// datagram, whatever is in here; what it refuses later is lost, as on a network.
type recent struct {
	list [16]addr
	next int
}

func (r *recent) has(a *addr) bool {
	if r == nil {
		return false
	}
	for i := range r.list {
		if r.list[i] == *a {
			return true
		}
	}
	return false
}

func (r *recent) add(a *addr) {
	if !r.has(a) {
		r.list[r.next%len(r.list)] = *a
		r.next++
	}
}

// rehost replaces the host's socket of a UDP socket: by one connected to to, or
// by none.
func (s *Socket) rehost(to *addr) linux.Errno {
	if h := s.host.Swap(nil); h != nil {
		h.close()
	}
	if to == nil {
		return 0
	}
	p := encode(to)
	if s.bound && s.local.port != 0 {
		p = append(p, encode(&s.local)...)
	}
	r, e := host.Request(abi.Msg{Op: abi.OpConnect, A: abi.ProtoUDP}, p)
	if e != 0 {
		drop(&r)
		return e
	}
	return s.adoptUDP(&r, true)
}

// adoptUDP makes the handle of a reply the host's socket of s.
func (s *Socket) adoptUDP(r *host.Reply, connected bool) linux.Errno {
	if r.FD < 0 {
		return linux.EIO
	}
	netMu.Lock()
	if s.st.Load() == stClosed || s.host.Load() != nil {
		netMu.Unlock()
		drop(r)
		return 0
	}
	h, e := s.attach(r.FD, r.Handle)
	if e == 0 {
		h.to, h.four = connected, replyFour(r)
	}
	netMu.Unlock()
	if e == 0 {
		s.notify(rt.Out)
	}
	return e
}

// hostSendTo sends a datagram to an address outside, asking for a host socket
// at the first.
func (s *Socket) hostSendTo(p []byte, to *addr) (int, linux.Errno) {
	h := s.host.Load()
	if h == nil {
		local := addr{ip: s.local.ip}
		if isLoopback(&local.ip) {
			return 0, linux.EINVAL
		}
		r, e := host.Request(abi.Msg{Op: abi.OpUDP}, encode(&local))
		if e != 0 {
			drop(&r)
			return 0, e
		}
		if e := s.adoptUDP(&r, false); e != 0 {
			return 0, e
		}
		if h = s.host.Load(); h == nil {
			return 0, linux.EBADF
		}
	}
	if h.to {
		if *to != s.peer {
			return 0, linux.EISCONN
		}
		return s.hostSend(h, p, 0)
	}
	if rt.Boot().Flags&abi.BootNetOut == 0 {
		m := abi.Msg{Op: abi.OpSendTo, Handle: h.name}
		h.mu.Lock()
		known := h.known.has(to)
		h.mu.Unlock()
		if known { // UDP promises nothing more
			if e := host.Post(m, encode(to), p); e != 0 {
				return 0, e
			}
			return len(p), 0
		}
		if _, e := host.Request(m, encode(to), p); e != 0 {
			return 0, e
		}
		h.mu.Lock()
		if h.known == nil {
			h.known = new(recent)
		}
		h.known.add(to)
		h.mu.Unlock()
		return len(p), 0
	}
	family := uint16(linux.AF_INET6)
	if h.four {
		if family = linux.AF_INET; !is4(&to.ip) {
			return 0, linux.ENETUNREACH
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, linux.EAGAIN
	}
	outs := h.outs.Load()
	out := to.toOutside()
	n, e := host.SendTo(h.fd, p, 0, appendInet(h.sa[:0], family, &out))
	if e == linux.EAGAIN {
		h.fullAt.Store(outs + 1)
	}
	return n, e
}

// hostRecvFrom receives a datagram from outside.
func (s *Socket) hostRecvFrom(h *hostSock, m *message) (int, linux.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, linux.EAGAIN
	}
	sa := h.sa[:]
	n, salen, e := host.RecvFrom(h.fd, m.p, m.flags&linux.MSG_PEEK|linux.MSG_TRUNC, sa)
	if h.standsIn(e) {
		e = linux.EAGAIN
	}
	if e != 0 {
		return 0, e
	}
	switch {
	case h.to:
		m.from = s.peer
	case salen >= sizeofIn:
		m.from, _ = decodeInet(sa[:salen])
		m.from.fromOutside()
	}
	m.hasFrom = true
	if m.to = s.local.ip; isAny(&m.to) {
		m.to = sourceFor(&m.from.ip)
	}
	return m.truncated(min(n, len(m.p)), n), 0
}
