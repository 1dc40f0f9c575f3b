package sock

import (
	"noyau.dev/guest/linux"
)

// A message is one send or receive operation.
type message struct {
	p     []byte
	flags int
	addr  []byte // send: sockaddr of the destination; empty: the peer
	anc   *anc   // send: owned by the operation if it succeeds
	wait  bool   // receive: the caller is in blocking mode

	from    addr // receive: the sender
	name    string
	to      [16]byte
	hasFrom bool
	got     *anc // receive: to be taken or dropped by the caller
	out     int  // receive: flags for msg_flags
}

// truncated notes whether a datagram of total bytes was cut to n, and returns
// what the call returns.
func (m *message) truncated(n, total int) int {
	if total > n {
		m.out |= linux.MSG_TRUNC
		if m.flags&linux.MSG_TRUNC != 0 {
			return total
		}
	}
	return n
}

// inet returns the destination. Linux takes an IPv4 sockaddr on an IPv6
// datagram socket.
func (m *message) inet(family uint16) (addr, linux.Errno) {
	if len(m.addr) >= sizeofIn && m.addr[0] == linux.AF_INET && m.addr[1] == 0 {
		return decodeInet(m.addr)
	}
	return parseInet(family, m.addr)
}

// fromAddr encodes the sender of a received message.
func (s *Socket) fromAddr(m *message, b []byte) []byte {
	switch {
	case !m.hasFrom:
		return nil
	case s.isUnix():
		if m.name == "" {
			return nil
		}
		return appendUnix(b, m.name)
	case s.family == linux.AF_NETLINK:
		return appendNetlink(b, 0)
	}
	return appendInet(b, s.family, &m.from)
}

// recv receives once. It never blocks.
func (s *Socket) recv(m *message) (int, linux.Errno) {
	switch {
	case m.flags&linux.MSG_ERRQUEUE != 0:
		return 0, linux.EAGAIN
	case m.flags&linux.MSG_OOB != 0:
		if s.isTCP() {
			return 0, linux.EINVAL
		}
		return 0, linux.EOPNOTSUPP
	}
	if s.d != nil {
		n, e := s.recvDgram(m)
		if e == linux.EAGAIN {
			if h := s.host.Load(); h != nil {
				if s.isUnix() {
					return s.recvMember(h, m)
				}
				return s.hostRecvFrom(h, m)
			}
		}
		return n, e
	}
	switch s.st.Load() {
	case stConnected:
	case stConnecting:
		return 0, linux.EAGAIN
	case stFailed:
		if e := s.takeErr(); e != 0 {
			return 0, e
		}
		return 0, s.unconnected()
	default:
		return 0, s.unconnected()
	}
	if h := s.host.Load(); h != nil {
		if s.isRecord() {
			return s.hostRecord(h, m)
		}
		return s.hostRecv(h, m.p, m.flags&(linux.MSG_PEEK|linux.MSG_TRUNC))
	}
	if s.isUnix() && s.u.peer != "" {
		m.name, m.hasFrom = s.u.peer, true
	}
	if s.isRecord() {
		n, total, e := s.rx.readRecord(m.p, m.flags, &m.got)
		if e != 0 {
			return 0, e
		}
		return m.truncated(n, total), 0
	}
	if s.isUnix() {
		return s.rx.read(m.p, m.flags, &m.got)
	}
	return s.rx.read(m.p, m.flags, nil)
}

// unconnected is the error of a receive that needs a connection.
func (s *Socket) unconnected() linux.Errno {
	if s.isUnix() && !s.isRecord() {
		return linux.EINVAL
	}
	return linux.ENOTCONN
}

// send sends once. It never blocks, and may send a part of a stream.
func (s *Socket) send(m *message) (int, linux.Errno) {
	if m.flags&linux.MSG_OOB != 0 {
		return 0, linux.EOPNOTSUPP
	}
	switch {
	case s.family == linux.AF_NETLINK:
		return s.sendNetlink(m)
	case s.d != nil && s.isUnix():
		return s.sendUnixDgram(m)
	case s.d != nil:
		return s.sendUDP(m)
	}
	st := s.st.Load()
	if st != stConnected {
		switch {
		case s.isUnix() && len(m.addr) > 0:
			return 0, linux.EOPNOTSUPP
		case s.isUnix():
			return 0, linux.ENOTCONN
		case st == stConnecting:
			return 0, linux.EAGAIN
		}
		if e := s.takeErr(); e != 0 {
			return 0, e
		}
		return 0, linux.EPIPE
	}
	if s.isUnix() && len(m.addr) > 0 && !s.isRecord() {
		return 0, linux.EISCONN
	}
	if h := s.host.Load(); h != nil {
		if m.anc != nil {
			return 0, linux.EOPNOTSUPP // descriptors are this pVM's
		}
		return s.hostSend(h, m.p, m.flags&linux.MSG_MORE)
	}
	if s.isRecord() {
		return s.tx.writeRecord(m.p, m.anc)
	}
	return s.tx.write(m.p, m.anc)
}
