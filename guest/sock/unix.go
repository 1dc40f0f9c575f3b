package sock

import (
	"sync/atomic"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A unixName is what sockets of AF_UNIX have beside the others. Names are kept
// as they are in sockaddr_un, without the family: a path, or NUL and an abstract
// name; "" is unnamed. netMu guards it.
type unixName struct {
	name string  // own name
	peer string  // the peer's name, for getpeername
	to   *Socket // datagram: the connected peer
	away string  // datagram: the connected peer, if it is another member's, as all have its name
	key  string  // in unixNames, if it is there

	all    string                   // datagram: the name by which others find it; "": by none
	copies uint32                   // datagram: kernel.Copies when others could find it
	routes []route                  // datagram: to other members, the latest first
	full   atomic.Pointer[hostSock] // that of the last datagram for which there was no room; nil: there is
}

// unixNames holds the abstract names, and paths while there is no file system.
var unixNames = map[string]*Socket{}

var autobind uint32

// parseUnix returns the name in a sockaddr_un.
func parseUnix(b []byte) (string, linux.Errno) {
	if len(b) < 2 || len(b) > 2+maxUnixPath {
		return "", linux.EINVAL
	}
	if b[0] != linux.AF_UNIX || b[1] != 0 {
		return "", linux.EINVAL
	}
	b = b[2:]
	if len(b) == 0 || b[0] == 0 {
		return string(b), 0
	}
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), 0
		}
	}
	return string(b), 0
}

// appendUnix encodes a name as a sockaddr_un. Paths end with a NUL.
func appendUnix(b []byte, name string) []byte {
	b = append(append(b, linux.AF_UNIX, 0), name...)
	if name != "" && name[0] != 0 {
		b = append(b, 0)
	}
	return b
}

// bindUnix is bind(2).
func (s *Socket) bindUnix(sa []byte) linux.Errno {
	name, e := parseUnix(sa)
	if e != 0 {
		return e
	}
	if isChannel(name) && !hasNames() {
		return linux.EACCES // granted to nobody
	}
	netMu.Lock()
	if s.u.name != "" {
		netMu.Unlock()
		return linux.EINVAL
	}
	if name != "" && name[0] != 0 && kernel.SocketNames != nil {
		// The name is reserved first: a second bind fails above.
		s.u.name = name
		netMu.Unlock()
		if e := kernel.SocketNames.BindSocket(name, s); e != 0 {
			netMu.Lock()
			s.u.name = ""
			netMu.Unlock()
			return e
		}
		if s.d != nil {
			if e := s.announce(); e != 0 {
				kernel.SocketNames.UnbindSocket(name, s)
				netMu.Lock()
				s.u.name = ""
				netMu.Unlock()
				return e
			}
		}
		return 0
	}
	e = s.bindTable(name)
	for s.d != nil && e == 0 {
		if e = s.announce(); e == 0 {
			break
		}
		netMu.Lock()
		s.unname()
		s.u.name = ""
		if name == "" && e == linux.EADDRINUSE { // another member was given that one
			e = s.bindTable(name)
			continue
		}
		netMu.Unlock()
	}
	return e
}

// bindTable gives s a name that is in no file system, of its choice if name is "". netMu is held,
// and given back.
func (s *Socket) bindTable(name string) linux.Errno {
	defer netMu.Unlock()
	key := name
	if name == "" {
		const hex = "0123456789abcdef"
		for {
			autobind++
			v := autobind
			name = "\x00" + string([]byte{hex[v>>16&15], hex[v>>12&15], hex[v>>8&15], hex[v>>4&15], hex[v&15]})
			if unixNames[name] == nil {
				break
			}
		}
		key = name
	} else if name[0] != 0 {
		key = clean(name)
	}
	if unixNames[key] != nil {
		return linux.EADDRINUSE
	}
	unixNames[key] = s
	s.u.name, s.u.key = name, key
	return 0
}

// clean makes one name of equal paths, as far as that is possible without a
// file system.
func clean(p string) string {
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		if p[i] == '/' && (i+1 < len(p) && p[i+1] == '/' || len(out) > 0 && out[len(out)-1] == '/') {
			continue
		}
		if p[i] == '.' && (i == 0 || p[i-1] == '/') && i+1 < len(p) && p[i+1] == '/' {
			i++
			continue
		}
		out = append(out, p[i])
	}
	return string(out)
}

// unname gives up s's name. A socket inode stays, as on Linux, and answers
// ECONNREFUSED. netMu is held.
func (s *Socket) unname() {
	if s.u != nil && s.u.key != "" {
		delete(unixNames, s.u.key)
		s.u.key = ""
	}
}

// findUnix returns the socket of that name.
func findUnix(name string) (*Socket, linux.Errno) {
	if name == "" {
		return nil, linux.EINVAL
	}
	if name[0] != 0 && kernel.SocketNames != nil {
		v, e := kernel.SocketNames.FindSocket(name)
		if e != 0 {
			return nil, e
		}
		if s, ok := v.(*Socket); ok && s.st.Load() != stClosed {
			return s, 0
		}
		return nil, linux.ECONNREFUSED
	}
	key := name
	if name[0] != 0 {
		key = clean(name)
	}
	netMu.Lock()
	defer netMu.Unlock()
	if s := unixNames[key]; s != nil {
		return s, 0
	}
	if name[0] != 0 {
		return nil, linux.ENOENT
	}
	return nil, linux.ECONNREFUSED
}

// connectUnix is connect(2).
func (s *Socket) connectUnix(sa []byte, nonblock bool) linux.Errno {
	if s.d != nil && len(sa) >= 2 && sa[0] == 0 && sa[1] == 0 {
		netMu.Lock()
		s.u.to, s.u.peer, s.u.away = nil, "", ""
		s.st.Store(stNew)
		netMu.Unlock()
		return 0
	}
	name, e := parseUnix(sa)
	if e != 0 {
		return e
	}
	t, e := findUnix(name)
	if s.d != nil && (e == linux.ENOENT || e == linux.ECONNREFUSED) {
		return s.connectMember(name, e)
	}
	if s.d == nil && (e == linux.ENOENT || e == linux.ECONNREFUSED || e == 0 && t.typ == s.typ && t.st.Load() != stListen) {
		return s.dialMember(name, e)
	}
	if e != 0 {
		return e
	}
	if t.typ != s.typ {
		return linux.EPROTOTYPE
	}
	if s.d == nil && t.othersAccept() {
		// Whoever accepts first has the connection: it must be in the queue of all.
		if e := s.dialMember(name, 0); e != linux.ECONNREFUSED && e != linux.EACCES {
			return e
		}
	}
	netMu.Lock()
	if s.d != nil {
		defer netMu.Unlock()
		if t.u.to != nil && t.u.to != s {
			return linux.EPERM
		}
		s.u.to, s.u.peer, s.u.away = t, t.u.name, ""
		s.st.Store(stConnected)
		return 0
	}
	switch s.st.Load() {
	case stNew, stFailed:
	case stConnecting:
		netMu.Unlock()
		return linux.EALREADY
	case stListen:
		netMu.Unlock()
		return linux.EINVAL
	default:
		netMu.Unlock()
		return linux.EISCONN
	}
	if t.st.Load() != stListen {
		netMu.Unlock()
		return linux.ECONNREFUSED
	}
	if nonblock && t.l.ready.n > t.l.backlog {
		netMu.Unlock()
		return linux.EAGAIN
	}
	e = t.l.join(s)
	netMu.Unlock()
	if e == 0 {
		t.notify(rt.In)
		s.notify(rt.Out)
	}
	return e
}

// unixPeer returns the connected peer of a datagram socket.
func (s *Socket) unixPeer() *Socket {
	netMu.Lock()
	defer netMu.Unlock()
	return s.u.to
}

// unixAway is the name of the connected peer of a datagram socket, if it is another member's.
func (s *Socket) unixAway() string {
	netMu.Lock()
	defer netMu.Unlock()
	return s.u.away
}

// connectMember is connect(2) of a datagram socket to one of another member. none is the error
// if there is nobody.
func (s *Socket) connectMember(name string, none linux.Errno) linux.Errno {
	if !hasNames() || isChannel(name) {
		return none
	}
	away, e := outside(name)
	if e != 0 {
		return none
	}
	switch _, e = s.routeTo(away); e {
	case 0:
	case linux.ECONNREFUSED:
		return none
	default:
		return e
	}
	netMu.Lock()
	defer netMu.Unlock()
	s.u.to, s.u.peer, s.u.away = nil, name, away
	s.st.Store(stConnected)
	return 0
}

// sendUnixDgram sends m to its address or the peer. It owns m.anc if it
// succeeds.
func (s *Socket) sendUnixDgram(m *message) (int, linux.Errno) {
	if e := s.takeErr(); e != 0 {
		return 0, e
	}
	if s.d.wroff {
		return 0, linux.EPIPE
	}
	var t *Socket
	if len(m.addr) > 0 {
		name, e := parseUnix(m.addr)
		if e != 0 {
			return 0, e
		}
		if t, e = findUnix(name); e == linux.ENOENT || e == linux.ECONNREFUSED {
			all, oe := outside(name)
			if oe != 0 {
				return 0, e
			}
			return s.sendMember(all, m, e)
		}
		if e != 0 {
			return 0, e
		}
		if t.d == nil {
			return 0, linux.EPROTOTYPE
		}
	} else if t = s.unixPeer(); t == nil {
		if away := s.unixAway(); away != "" {
			return s.sendMember(away, m, linux.ECONNREFUSED)
		}
		return 0, linux.ENOTCONN
	}
	netMu.Lock()
	name, only := s.u.name, t.u.to
	all := t.sharedName()
	netMu.Unlock()
	if all != "" && m.anc == nil { // descriptors are for this pVM
		if n, e := s.sendMember(all, m, linux.ECONNREFUSED); e != linux.ECONNREFUSED {
			return n, e
		}
	}
	if only != nil && only != s {
		return 0, linux.EPERM
	}
	if len(m.p)+segCost > int(s.sndbuf.Load()) {
		return 0, linux.EMSGSIZE
	}
	g := wholeSeg(m.p)
	g.name, g.anc = name, m.anc
	if e := t.deliver(s, g); e != 0 {
		g.anc = nil
		freeSeg(g)
		if e == linux.ECONNREFUSED && len(m.addr) == 0 {
			netMu.Lock()
			s.u.to = nil
			s.st.Store(stNew)
			netMu.Unlock()
			s.d.mu.Lock()
			q := s.d.q
			s.d.q = queue{}
			s.d.mu.Unlock()
			q.clear()
		}
		return 0, e
	}
	return len(m.p), 0
}

// socketpair is socketpair(2) for AF_UNIX.
func socketpair(typ uint8) (a, b *Socket) {
	a, b = newSocket(linux.AF_UNIX, typ, 0), newSocket(linux.AF_UNIX, typ, 0)
	if a.d != nil {
		a.u.to, b.u.to = b, a
	} else {
		pair(a, b)
	}
	a.st.Store(stConnected)
	b.st.Store(stConnected)
	return a, b
}
