package sock

import (
	"sync"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A dgram is the receiving side of a datagram socket.
//
// Why no wake-up is lost: as for half. A sender of unix datagrams that found
// the queue full is in blocked, entered under mu; the receiver that makes room
// takes the list under mu and notifies everybody on it.
type dgram struct {
	mu      sync.Mutex
	q       queue
	blocked []*Socket
	rdoff   bool // shutdown for reading
	wroff   bool
	closed  bool
	groups  [][16]byte // multicast groups joined
	pktinfo bool       // IP_PKTINFO
	pkt6    bool       // IPV6_RECVPKTINFO
	drops   uint32
}

// deliver puts a datagram into s's queue. Those from IP that find it full are
// dropped; unix ones give EAGAIN.
func (s *Socket) deliver(from *Socket, g *seg) linux.Errno {
	d := s.d
	d.mu.Lock()
	switch {
	case d.closed:
		d.mu.Unlock()
		return linux.ECONNREFUSED
	case d.rdoff:
		d.mu.Unlock()
		if s.isUnix() {
			return linux.EPIPE
		}
		return 0
	}
	if d.q.head != nil && d.q.cost+g.w+segCost > int(s.rcvbuf.Load()) {
		if s.isUnix() {
			d.block(from)
			d.mu.Unlock()
			return linux.EAGAIN
		}
		d.drops++
		d.mu.Unlock()
		freeSeg(g)
		return 0
	}
	d.q.push(g)
	d.mu.Unlock()
	s.notify(rt.In)
	return 0
}

// block enters s as a sender that waits for room. mu is held.
func (d *dgram) block(s *Socket) {
	for _, o := range d.blocked {
		if o == s {
			return
		}
	}
	d.blocked = append(d.blocked, s)
}

// recvDgram takes a datagram of the queue: m's data, address and control
// fields. The host's side is asked by the caller.
func (s *Socket) recvDgram(m *message) (int, linux.Errno) {
	d := s.d
	d.mu.Lock()
	g := d.q.head
	if g == nil {
		off := d.rdoff
		d.mu.Unlock()
		if e := s.takeErr(); e != 0 {
			return 0, e
		}
		if off && m.wait { // Linux ends only the wait
			return 0, 0
		}
		return 0, linux.EAGAIN
	}
	n, total := copy(m.p, g.buf[g.r:g.w]), g.w-g.r
	m.from, m.to, m.name, m.hasFrom = g.from, g.to, g.name, true
	var blocked []*Socket
	if m.flags&linux.MSG_PEEK != 0 {
		m.got = g.anc.clone()
		d.mu.Unlock()
	} else {
		m.got, g.anc = g.anc, nil
		d.q.pop()
		blocked, d.blocked = d.blocked, nil
		d.mu.Unlock()
		freeSeg(g)
	}
	for _, o := range blocked {
		o.notify(rt.Out)
	}
	return m.truncated(n, total), 0
}

// readyDgram is Ready of datagram sockets.
func (s *Socket) readyDgram() (ev uint32) {
	d := s.d
	d.mu.Lock()
	if d.q.head != nil || d.rdoff {
		ev |= rt.In
	}
	if d.rdoff {
		ev |= rt.RdHup
	}
	if d.rdoff && d.wroff {
		ev |= rt.Hup
	}
	d.mu.Unlock()
	ev |= rt.Out
	if s.isUnix() {
		if s.crowded() {
			ev &^= rt.Out
		}
		if p := s.unixPeer(); p != nil && p != s {
			p.d.mu.Lock()
			if !p.d.closed && p.d.q.head != nil && p.d.q.cost+segCost > int(p.rcvbuf.Load()) {
				p.d.block(s)
				ev &^= rt.Out
			}
			p.d.mu.Unlock()
		}
	}
	if h := s.host.Load(); h != nil {
		ev |= h.probe(s) & (rt.In | rt.Err)
	}
	if s.err.Load() != 0 {
		ev |= rt.Err
	}
	return ev
}

func (s *Socket) shutDgram(how int) linux.Errno {
	if s.family == linux.AF_NETLINK {
		return linux.EOPNOTSUPP
	}
	if s.st.Load() != stConnected && !s.isUnix() {
		return linux.ENOTCONN
	}
	d := s.d
	d.mu.Lock()
	d.rdoff = d.rdoff || how != linux.SHUT_WR
	d.wroff = d.wroff || how != linux.SHUT_RD
	d.mu.Unlock()
	s.notify(s.readyDgram())
	return 0
}

func (s *Socket) closeDgram() {
	d := s.d
	d.mu.Lock()
	q, blocked := d.q, d.blocked
	d.q, d.blocked, d.closed = queue{}, nil, true
	d.mu.Unlock()
	q.clear()
	for _, o := range blocked {
		o.notify(rt.Out)
	}
}

// connectUDP is connect(2) for UDP; AF_UNSPEC dissolves the association.
func (s *Socket) connectUDP(sa []byte) linux.Errno {
	if len(sa) >= 2 && sa[0] == 0 && sa[1] == 0 {
		netMu.Lock()
		s.st.Store(stNew)
		s.peer = addr{}
		if s.bound = s.bound && s.portLock; !s.bound && s.ipLock {
			udpPorts.remove(s)
			s.local.port = 0
		} else {
			s.unconnect()
		}
		netMu.Unlock()
		return s.rehost(nil)
	}
	netMu.Lock()
	if !s.inTable {
		if e := udpPorts.bind(s, addr{ip: s.local.ip}); e != 0 {
			netMu.Unlock()
			return linux.EAGAIN
		}
	}
	to, e := parseInet(s.family, sa)
	s.here(&to)
	switch {
	case e != 0:
	case to.ip == bcast && s.opts[key(linux.SOL_SOCKET, linux.SO_BROADCAST)] == 0:
		e = linux.EACCES
	case s.v6only && is4(&to.ip):
		e = linux.ENETUNREACH
	case !is4(&to.ip) && is4(&s.local.ip):
		e = linux.EAFNOSUPPORT
	}
	if e != 0 {
		netMu.Unlock()
		return e
	}
	s.st.Store(stNew)
	if isAny(&s.local.ip) {
		s.local.ip = sourceFor(&to.ip)
	}
	s.peer = to
	if isLocal(&to.ip) || isMulticast(&to.ip) {
		s.st.Store(stConnected)
		netMu.Unlock()
		return s.rehost(nil)
	}
	netMu.Unlock()
	if e := s.rehost(&to); e != 0 {
		netMu.Lock()
		s.unconnect()
		netMu.Unlock()
		return e
	}
	s.st.Store(stConnected)
	return 0
}

// sendUDP sends m to m.addr, or to the peer.
func (s *Socket) sendUDP(m *message) (int, linux.Errno) {
	if e := s.takeErr(); e != 0 {
		return 0, e
	}
	if s.d.wroff {
		return 0, linux.EPIPE
	}
	connected := s.st.Load() == stConnected
	if !connected {
		netMu.Lock()
		e := linux.Errno(0)
		if !s.inTable {
			if e = udpPorts.bind(s, addr{ip: s.local.ip}); e != 0 {
				e = linux.EAGAIN
			}
		}
		netMu.Unlock()
		if e != 0 {
			return 0, e
		}
	}
	var to addr
	switch {
	case len(m.addr) > 0:
		var e linux.Errno
		if to, e = m.inet(s.family); e != 0 {
			return 0, e
		}
		if to.port == 0 {
			return 0, linux.EINVAL
		}
	case connected:
		to = s.peer
	default:
		return 0, linux.EDESTADDRREQ
	}
	if len(m.p) > maxDgram {
		return 0, linux.EMSGSIZE
	}
	s.here(&to)
	switch {
	case to.ip == bcast && s.opt(linux.SOL_SOCKET, linux.SO_BROADCAST) == 0:
		return 0, linux.EACCES
	case s.v6only && is4(&to.ip):
		return 0, linux.ENETUNREACH
	case !is4(&to.ip) && is4(&s.local.ip):
		return 0, linux.EAFNOSUPPORT
	}
	netMu.Lock()
	from := s.local
	if isAny(&from.ip) {
		from.ip = sourceFor(&to.ip)
	}
	if isMulticast(&to.ip) {
		return s.sendMulticast(m, &from, &to)
	}
	if !isLocal(&to.ip) {
		netMu.Unlock()
		if connected && len(m.addr) == 0 {
			return s.hostSend(s.host.Load(), m.p, 0)
		}
		return s.hostSendTo(m.p, &to)
	}
	t := udpPorts.lookup(&from, &to)
	netMu.Unlock()
	if t != nil {
		g := wholeSeg(m.p)
		g.from, g.to = from, to.ip
		t.deliver(s, g)
	} else if connected && to == s.peer {
		// Port unreachable: the next call of a connected socket tells.
		s.err.Store(uint32(linux.ECONNREFUSED))
		s.notify(rt.In | rt.Out | rt.Err)
	}
	return len(m.p), 0
}

// sendMulticast gives m to every member of the group inside the pVM; there is
// nobody else. netMu is held and released.
func (s *Socket) sendMulticast(m *message, from, to *addr) (int, linux.Errno) {
	var all []*Socket
	for t := udpPorts.first(to.port); t != nil; t = t.nextPort {
		if !t.member(&to.ip) || !isAny(&t.local.ip) && t.local.ip != to.ip {
			continue
		}
		if t.st.Load() == stConnected && (t.peer.ip != from.ip || t.peer.port != from.port) {
			continue
		}
		all = append(all, t)
	}
	netMu.Unlock()
	for _, t := range all {
		g := wholeSeg(m.p)
		g.from, g.to = *from, to.ip
		t.deliver(s, g)
	}
	return len(m.p), 0
}

// member reports whether s has joined the group. netMu is held.
func (s *Socket) member(ip *[16]byte) bool {
	for _, g := range s.d.groups {
		if g == *ip {
			return true
		}
	}
	return false
}
