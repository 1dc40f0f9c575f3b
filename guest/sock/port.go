package sock

import (
	"sync"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// netMu guards the tables of names and everything that connects sockets:
// binding, listening, connecting, accepting, closing. It is taken before any
// other lock of this package, and never held during a notification or while a
// request to the monitor is under way.
var netMu sync.Mutex

// A portTable holds the bound sockets of one protocol by port.
type portTable struct {
	ports map[uint16]*port
	next  uint16
}

// A port is in use. Accepted connections are only counted: there may be many,
// and they concern none but those who would bind the port again.
type port struct {
	head *Socket // bound sockets, the newest first
	kids int     // accepted connections
	hard int     // those of them without SO_REUSEADDR
}

var (
	tcpPorts = portTable{ports: map[uint16]*port{}}
	udpPorts = portTable{ports: map[uint16]*port{}}
)

// first returns the newest socket bound to p.
func (t *portTable) first(p uint16) *Socket {
	if e := t.ports[p]; e != nil {
		return e.head
	}
	return nil
}

func (t *portTable) entry(p uint16) *port {
	e := t.ports[p]
	if e == nil {
		e = new(port)
		t.ports[p] = e
	}
	return e
}

// addKid counts s, a connection accepted at its local port.
func (t *portTable) addKid(s *Socket) {
	e := t.entry(s.local.port)
	e.kids++
	if !s.reuse {
		e.hard++
	}
	s.isKid = true
}

func (s *Socket) table() *portTable {
	if s.isTCP() {
		return &tcpPorts
	}
	return &udpPorts
}

// add enters s under s.local.port. A socket is in its table at most once.
func (t *portTable) add(s *Socket) {
	e := t.entry(s.local.port)
	if s.nextPort = e.head; e.head != nil {
		e.head.prevPort = s
	}
	e.head = s
	s.inTable = true
}

// remove takes s out, however it came in.
func (t *portTable) remove(s *Socket) {
	if !s.inTable && !s.isKid {
		return
	}
	e := t.ports[s.local.port]
	switch {
	case s.isKid:
		e.kids--
		if !s.reuse {
			e.hard--
		}
	case s.prevPort != nil:
		s.prevPort.nextPort = s.nextPort
	default:
		e.head = s.nextPort
	}
	if s.nextPort != nil {
		s.nextPort.prevPort = s.prevPort
	}
	s.nextPort, s.prevPort, s.inTable, s.isKid = nil, nil, false, false
	if e.head == nil && e.kids == 0 {
		delete(t.ports, s.local.port)
	}
}

// covers reports whether a socket bound to s.local receives what is sent to ip.
func (s *Socket) covers(ip *[16]byte) bool {
	switch l := &s.local.ip; {
	case *l == any4:
		return is4(ip)
	case *l == any6:
		return !s.v6only || !is4(ip)
	default:
		return *l == *ip
	}
}

// overlaps reports whether two bound addresses have one in common.
func (s *Socket) overlaps(o *Socket) bool {
	a, b := isAny(&s.local.ip), isAny(&o.local.ip)
	switch {
	case a && b:
		four := func(s *Socket) bool { return s.local.ip == any4 || !s.v6only }
		six := s.local.ip == any6 && o.local.ip == any6
		return six || four(s) && four(o)
	case a:
		return s.covers(&o.local.ip)
	}
	return o.covers(&s.local.ip)
}

// conflict reports whether s may not have s.local beside those that are bound.
func (t *portTable) conflict(s *Socket) bool {
	for o := t.first(s.local.port); o != nil; o = o.nextPort {
		if o == s || !s.overlaps(o) {
			continue
		}
		if s.reuseport && o.reuseport {
			continue
		}
		if s.reuse && o.reuse && (!s.isTCP() || o.st.Load() != stListen) {
			continue
		}
		return true
	}
	e := t.ports[s.local.port]
	return e != nil && e.kids > 0 && !(s.reuse && e.hard == 0) && !s.reuseport
}

// bind gives s the address a; port 0 asks for an ephemeral one. netMu is held.
func (t *portTable) bind(s *Socket, a addr) linux.Errno {
	s.local = a
	if a.port != 0 {
		if t.conflict(s) {
			s.local = addr{ip: unspecified(s.family)}
			return linux.EADDRINUSE
		}
		t.add(s)
		return 0
	}
	if p := t.free(); p != 0 {
		s.local.port = p
		t.add(s)
		return 0
	}
	for range portHigh - portLow + 1 {
		if s.local.port = t.step(); !t.conflict(s) {
			t.add(s)
			return 0
		}
	}
	s.local = addr{ip: unspecified(s.family)}
	return linux.EADDRINUSE
}

// bindConnect gives s an ephemeral port for a connection to s.peer. When all
// are taken, connections to other peers share one.
func (t *portTable) bindConnect(s *Socket) linux.Errno {
	if p := t.free(); p != 0 {
		s.local.port = p
		t.add(s)
		return 0
	}
	for range portHigh - portLow + 1 {
		if s.local.port = t.step(); !t.taken(s) {
			t.add(s)
			return 0
		}
	}
	s.local.port = 0
	return linux.EADDRNOTAVAIL
}

// taken reports whether another socket has the same two ends as s, or is not
// one of those that share ports.
func (t *portTable) taken(s *Socket) bool {
	if e := t.ports[s.local.port]; e != nil && e.kids > 0 {
		return true
	}
	for o := t.first(s.local.port); o != nil; o = o.nextPort {
		if o != s && o.overlaps(s) && (o.peer == s.peer || o.peer.port == 0) {
			return true
		}
	}
	return false
}

// duplicate reports whether another socket has the same two ends as s.
func (t *portTable) duplicate(s *Socket) bool {
	for o := t.first(s.local.port); o != nil; o = o.nextPort {
		if o != s && o.peer == s.peer && o.local.ip == s.local.ip {
			return true
		}
	}
	return false
}

// free returns an ephemeral port that nobody has, or 0.
func (t *portTable) free() uint16 {
	for range portHigh - portLow + 1 {
		if p := t.step(); t.ports[p] == nil {
			return p
		}
	}
	return 0
}

func (t *portTable) step() uint16 {
	if t.next == 0 {
		var b [2]byte
		rt.Rand(b[:])
		t.next = (uint16(b[0]) | uint16(b[1])<<8) % (portHigh - portLow)
	}
	t.next = t.next%(portHigh-portLow+1) + 1
	return portLow + t.next - 1
}

func unspecified(family uint16) [16]byte {
	if family == linux.AF_INET {
		return any4
	}
	return any6
}

// lookup returns the socket that gets what from sends to to: the best match
// wins, the newest of equals, and those with SO_REUSEPORT take turns by the
// sender's port. netMu is held.
func (t *portTable) lookup(from, to *addr) *Socket {
	var best *Socket
	score, group := 0, 0
	for s := t.first(to.port); s != nil; s = s.nextPort {
		n := s.match(from, &to.ip)
		switch {
		case n > score:
			best, score, group = s, n, 1
		case n == score && n > 0 && s.reuseport && best.reuseport:
			group++
		}
	}
	if group < 2 {
		return best
	}
	k := int(from.port) % group
	for s := t.first(to.port); s != nil; s = s.nextPort {
		if s.reuseport && s.match(from, &to.ip) == score {
			if k == 0 {
				return s
			}
			k--
		}
	}
	return best
}

// match rates how well s fits a packet: 0 for not at all.
func (s *Socket) match(from *addr, to *[16]byte) int {
	st := s.st.Load()
	if s.isTCP() && st != stListen || !s.covers(to) {
		return 0
	}
	n := 1
	if !isAny(&s.local.ip) {
		n += 4
	}
	if (s.family == linux.AF_INET) == is4(to) {
		n++
	}
	if st == stConnected {
		if s.peer.ip != from.ip || s.peer.port != from.port {
			return 0
		}
		n += 8
	}
	return n
}
