package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Datagrams between members of the family. A datagram socket that has a name has a socket
// of the host's too, where those of other members arrive; whoever sends to a name keeps a
// socket that is connected to it. The host's sockets have names that mean nothing, so before each
// datagram goes the sender's: a byte with its length, and the name. It is what the sender
// says: a member can pretend to be another.

// maxRoutes is to how many names a socket keeps connections.
const maxRoutes = 16

// A route leads to a datagram socket of another member.
type route struct {
	name string // as all members have it
	h    *hostSock
}

// announceDgram is announceAs for a datagram socket.
func (s *Socket) announceDgram(again uint64) linux.Errno {
	st := s.st.Load()
	if isChannel(s.u.name) || st == stClosed {
		return 0
	}
	name, e := outside(s.u.name)
	if e != 0 {
		return 0
	}
	r, e := host.Request(abi.Msg{Op: abi.OpNameListen, A: linux.SOCK_DGRAM, C: again}, abi.AppendString(nil, name))
	if e == linux.EACCES {
		return 0 // it has no right to have others find it
	}
	if e == 0 {
		e = s.published(&r, 0, st)
	}
	if e == 0 && s.host.Load() != nil {
		netMu.Lock()
		announced[s] = struct{}{}
		s.u.all, s.u.copies = name, kernel.Copies.Load()
		netMu.Unlock()
	}
	return e
}

// mayShare reports whether forks can have the same datagram socket: what one has received ahead
// would not be the others' to take.
func (s *Socket) mayShare() bool {
	return s.isUnix() && s.d != nil && rt.Boot().Flags&abi.BootFork != 0
}

// sharedName is the name of s if another member may have the same socket: what is sent to it must be in
// the queue of all. netMu is held.
func (s *Socket) sharedName() string {
	if s.u.all == "" || s.u.copies == kernel.Copies.Load() || s.host.Load() == nil {
		return ""
	}
	return s.u.all
}

// sendMember sends m to a datagram socket of another member, whose name all have.
// none is the error if there is nobody.
func (s *Socket) sendMember(name string, m *message, none linux.Errno) (int, linux.Errno) {
	if !hasNames() || isChannel(name) {
		return 0, none
	}
	if m.anc != nil {
		return 0, linux.EOPNOTSUPP // descriptors are this pVM's
	}
	if len(m.p)+segCost > int(s.sndbuf.Load()) {
		return 0, linux.EMSGSIZE
	}
	netMu.Lock()
	p := append([]byte{byte(len(s.u.name))}, s.u.name...)
	netMu.Unlock()
	p = append(p, m.p...)
	for again := false; ; again = true {
		h, e := s.routeTo(name)
		if e == linux.ECONNREFUSED {
			e = none
		}
		if e != 0 {
			return 0, e
		}
		switch e := h.post(p); e {
		case 0:
			return len(m.p), 0
		case linux.EAGAIN:
			s.u.full.Store(h)
			return 0, e
		case linux.ECONNREFUSED, linux.ECONNRESET, linux.ENOTCONN, linux.EPIPE, linux.EBADF:
			// Whoever it was has gone, or it was of the pVM that this is a fork of.
			s.unroute(h)
			if again {
				return 0, linux.ECONNREFUSED
			}
		default:
			return 0, e
		}
	}
}

// post sends a datagram to whom h is connected to.
func (h *hostSock) post(p []byte) linux.Errno {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return linux.EBADF
	}
	outs := h.outs.Load()
	_, e := host.Send(h.fd, p, 0)
	if e == linux.EAGAIN {
		h.fullAt.Store(outs + 1)
	}
	return e
}

// routeTo is the connection to a name, a new one if there is none.
func (s *Socket) routeTo(name string) (*hostSock, linux.Errno) {
	netMu.Lock()
	for i, r := range s.u.routes {
		if r.name == name {
			copy(s.u.routes[1:], s.u.routes[:i])
			s.u.routes[0] = r
			netMu.Unlock()
			return r.h, 0
		}
	}
	netMu.Unlock()
	r, e := host.Request(abi.Msg{Op: abi.OpNameDial, A: linux.SOCK_DGRAM}, abi.AppendString(nil, name))
	if e == 0 && r.FD < 0 {
		e = linux.EIO
	}
	if e != 0 {
		drop(&r)
		return nil, e
	}
	netMu.Lock()
	if s.st.Load() == stClosed {
		netMu.Unlock()
		drop(&r)
		return nil, linux.EBADF
	}
	h, e := s.watchHost(r.FD, 0, rt.Out)
	if e != 0 {
		netMu.Unlock()
		return nil, e
	}
	s.u.routes = append([]route{{name, h}}, s.u.routes...)
	var last *hostSock
	if n := len(s.u.routes); n > maxRoutes {
		last = s.u.routes[n-1].h
		s.u.routes = s.u.routes[:n-1]
	}
	netMu.Unlock()
	if last != nil {
		s.u.full.CompareAndSwap(last, nil)
		last.close()
	}
	return h, 0
}

// unroute forgets a connection that is of no use any more.
func (s *Socket) unroute(h *hostSock) {
	netMu.Lock()
	for i, r := range s.u.routes {
		if r.h == h {
			s.u.routes = append(s.u.routes[:i], s.u.routes[i+1:]...)
			break
		}
	}
	netMu.Unlock()
	s.u.full.CompareAndSwap(h, nil)
	h.close()
}

// closeRoutes is for a socket that is closed.
func (s *Socket) closeRoutes() {
	netMu.Lock()
	list := s.u.routes
	s.u.routes = nil
	netMu.Unlock()
	s.u.full.Store(nil)
	for _, r := range list {
		r.h.close()
	}
}

// crowded reports whether the last datagram to another member found no room, and there has been none
// since.
func (s *Socket) crowded() bool {
	h := s.u.full.Load()
	if h == nil {
		return false
	}
	h.slow()
	return h.fullAt.Load() == h.outs.Load()+1
}

// recvMember takes a datagram of another member's.
func (s *Socket) recvMember(h *hostSock, m *message) (int, linux.Errno) {
	b := make([]byte, 1+maxUnixPath+len(m.p))
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.closed {
		n, e := host.Recv(h.fd, b, m.flags&linux.MSG_PEEK|linux.MSG_TRUNC)
		if h.standsIn(e) {
			e = linux.EAGAIN
		}
		if e != 0 {
			return 0, e
		}
		if n > 0 {
			if head := 1 + int(b[0]); head <= min(n, 1+maxUnixPath) {
				m.name, m.hasFrom = string(b[1:head]), true
				return m.truncated(copy(m.p, b[head:min(n, len(b))]), n-head), 0
			}
		}
		if m.flags&linux.MSG_PEEK != 0 { // no member's library OS has sent that
			host.Recv(h.fd, b, 0)
		}
	}
	return 0, linux.EAGAIN
}
