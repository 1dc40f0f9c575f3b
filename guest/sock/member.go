package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Unix sockets that other members of the family find by name, and channels to other
// families. The monitor knows the names; behind each is a listener of the host's beside
// the queue in memory. Streams and packets only: datagrams stay inside the pVM.

// hasNames says whether there may be somebody else.
func hasNames() bool { return rt.Boot().Flags&abi.BootNames != 0 }

func isChannel(name string) bool {
	return len(name) > len(abi.ChannelPrefix) && name[:len(abi.ChannelPrefix)] == abi.ChannelPrefix
}

// outside is the name that all members have for a socket: paths are absolute.
func outside(name string) (string, linux.Errno) {
	if name[0] == 0 {
		return name, 0
	}
	if kernel.AbsPath != nil {
		if p, e := kernel.AbsPath(name); e == 0 {
			return p, 0
		} else if name[0] != '/' {
			return "", e
		}
	}
	return clean(name), 0 // a directory that is another member's
}

// announced are the listeners and datagram sockets that have one of the host's. netMu guards it.
var announced = map[*Socket]struct{}{}

// announce lets other members find s, which listens, or gets datagrams and was just bound.
func (s *Socket) announce() linux.Errno { return s.announceAs(0) }

// announceAs does it, again if again is 1.
func (s *Socket) announceAs(again uint64) linux.Errno {
	if !hasNames() {
		return 0
	}
	if s.d != nil {
		return s.announceDgram(again)
	}
	name, e := outside(s.u.name)
	var r host.Reply
	if e == 0 {
		r, e = host.Request(abi.Msg{Op: abi.OpNameListen, A: uint64(s.typ), B: uint64(s.l.backlog), C: again}, abi.AppendString(nil, name))
	}
	if e == 0 {
		e = s.published(&r, 0, stListen)
	}
	netMu.Lock()
	if e == 0 {
		if s.host.Load() != nil {
			announced[s] = struct{}{}
		}
		netMu.Unlock()
		return 0
	}
	undo := s.st.CompareAndSwap(stListen, stNew)
	netMu.Unlock()
	if undo {
		s.l.close()
	}
	return e
}

// othersAccept reports whether connections to s may be another member's to accept.
func (s *Socket) othersAccept() bool {
	if !hasNames() {
		return false
	}
	netMu.Lock()
	defer netMu.Unlock()
	return s.st.Load() == stListen && s.l.shared()
}

// dialMember connects to a socket of another member. none is the error if there is nobody.
func (s *Socket) dialMember(name string, none linux.Errno) linux.Errno {
	if none == 0 {
		none = linux.ECONNREFUSED
	}
	if !hasNames() {
		if isChannel(name) {
			return linux.EACCES
		}
		return none
	}
	name, e := outside(name)
	if e != 0 {
		return none
	}
	netMu.Lock()
	was := s.st.Load()
	switch was {
	case stNew, stFailed:
	case stConnecting:
		e = linux.EALREADY
	case stListen:
		e = linux.EINVAL
	default:
		e = linux.EISCONN
	}
	if e != 0 {
		netMu.Unlock()
		return e
	}
	s.st.Store(stConnecting)
	netMu.Unlock()
	r, e := host.Request(abi.Msg{Op: abi.OpNameDial, A: uint64(s.typ)}, abi.AppendString(nil, name))
	if e == 0 && r.FD < 0 {
		e = linux.EIO
	}
	netMu.Lock()
	if s.st.Load() != stConnecting { // closed meanwhile
		netMu.Unlock()
		drop(&r)
		return linux.EBADF
	}
	if e == 0 {
		_, e = s.attach(r.FD, 0)
	}
	if e != 0 {
		s.st.Store(was)
		netMu.Unlock()
		if e == linux.ECONNREFUSED {
			e = none
		}
		return e
	}
	s.u.peer = name
	s.st.Store(stConnected)
	netMu.Unlock()
	s.notify(rt.Out)
	return 0
}

// hostRecord receives a packet.
func (s *Socket) hostRecord(h *hostSock, m *message) (int, linux.Errno) {
	n, e := s.hostRecv(h, m.p, m.flags&linux.MSG_PEEK|linux.MSG_TRUNC)
	if e != 0 {
		return 0, e
	}
	return m.truncated(min(n, len(m.p)), n), 0
}
