package broker

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

type sockopt struct{ level, name uint64 }

// What a pVM may ask of its sockets. All values are ints but SO_LINGER's, see
// linger. Options that take structures, change routing or need a privilege are
// not here.
const (
	optGet  = 1
	optSet  = 2
	optBoth = optGet | optSet
)

var sockopts = map[sockopt]int{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:        optBoth,
	{unix.SOL_SOCKET, unix.SO_RCVBUF}:           optBoth,
	{unix.SOL_SOCKET, unix.SO_SNDBUF}:           optBoth,
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT}:         optBoth,
	{unix.SOL_SOCKET, unix.SO_LINGER}:           optBoth,
	{unix.SOL_SOCKET, unix.SO_ERROR}:            optGet,
	{unix.SOL_SOCKET, unix.SO_TYPE}:             optGet,
	{unix.SOL_SOCKET, unix.SO_ACCEPTCONN}:       optGet,
	{unix.SOL_SOCKET, unix.SO_INCOMING_CPU}:     optGet,
	{unix.IPPROTO_TCP, unix.TCP_NODELAY}:        optBoth,
	{unix.IPPROTO_TCP, unix.TCP_CORK}:           optBoth,
	{unix.IPPROTO_TCP, unix.TCP_QUICKACK}:       optBoth,
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:       optBoth,
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}:      optBoth,
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}:        optBoth,
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}:   optBoth,
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT}:   optBoth,
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT}:         optBoth,
	{unix.IPPROTO_TCP, unix.TCP_LINGER2}:        optBoth,
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT}:  optBoth,
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG}:         optBoth,
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP}:   optBoth,
	{unix.IPPROTO_IP, unix.IP_TTL}:              optBoth,
	{unix.IPPROTO_IP, unix.IP_TOS}:              optBoth,
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER}:     optBoth,
	{unix.IPPROTO_IP, unix.IP_MTU}:              optGet,
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}:       optGet,
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS}: optBoth,
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}:       optBoth,
	{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER}: optBoth,
	{unix.IPPROTO_IPV6, unix.IPV6_MTU}:          optGet,
}

// isIPSocket says whether fd, which a guest sent, is a TCP or UDP socket.
func isIPSocket(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_INET && domain != unix.AF_INET6 {
		return false
	}
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && (proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP)
}

// isUnixConn says whether fd is a connection of unix sockets, of which shutdown is all that a
// guest may ask: a stream, or packets if an end has a path. Its control channel is none.
func isUnixConn(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_UNIX {
		return false
	}
	if isStream(fd) {
		return true
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && typ == unix.SOCK_SEQPACKET && !isListener(fd) && (hasPath(unix.Getsockname(fd)) || hasPath(unix.Getpeername(fd)))
}

func hasPath(a unix.Sockaddr, err error) bool {
	u, ok := a.(*unix.SockaddrUnix)
	return err == nil && ok && u.Name != "" && u.Name[0] != '@' // which stands for no name too
}

// socket calls use with the socket that the request is about: the one beside
// the message, else that of field Handle.
func (r *request) socket(use func(fd int) error) error {
	if r.fd >= 0 {
		if !isIPSocket(r.fd) && (r.msg.Op != abi.OpShut || !isUnixConn(r.fd)) {
			return unix.ENOTSOCK
		}
		return use(r.fd)
	}
	h, err := r.b.table.get(r.msg.Handle, kindListener|kindConn|kindUDP)
	if err != nil {
		return err
	}
	defer h.put()
	if h.port != nil {
		return use(h.port.fd)
	}
	if h.fd < 0 {
		return unix.ENOPROTOOPT // a unix listener
	}
	return use(h.fd)
}

func doSockopt(r *request) (rep reply, err error) {
	o := sockopt{r.msg.A, r.msg.B}
	want := optGet
	if r.msg.D == 1 {
		want = optSet
	} else if r.msg.D != 0 {
		return reply{}, unix.EINVAL
	}
	if len(r.payload) != 0 {
		return reply{}, unix.EINVAL
	}
	if sockopts[o]&want == 0 {
		return reply{}, unix.ENOPROTOOPT
	}
	err = r.socket(func(fd int) error {
		switch {
		case o.level == unix.SOL_SOCKET && o.name == unix.SO_LINGER:
			return linger(fd, want, r.msg.C, &rep.a)
		case want == optGet:
			v, err := unix.GetsockoptInt(fd, int(o.level), int(o.name))
			rep.a = uint64(v)
			return err
		}
		return unix.SetsockoptInt(fd, int(o.level), int(o.name), int(int32(r.msg.C)))
	})
	return rep, err
}

// linger gets or sets SO_LINGER; the value is l_onoff in the low half and
// l_linger, seconds, in the high. Of those that are on only 0 s (reset at close)
// is put in force: with a time, the last close would hold a thread of whoever
// does it for that long, the pVM's only one or the monitor's.
func linger(fd, want int, value uint64, out *uint64) error {
	if want == optGet {
		l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
		if err != nil {
			return err
		}
		*out = uint64(uint32(l.Onoff)) | uint64(uint32(l.Linger))<<32
		return nil
	}
	l := unix.Linger{}
	if uint32(value) != 0 && value>>32 == 0 {
		l.Onoff = 1
	}
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l)
}

// doShut is shutdown(2).
func doShut(r *request) (reply, error) {
	if r.msg.A > unix.SHUT_RDWR {
		return reply{}, unix.EINVAL
	}
	return reply{}, r.socket(func(fd int) error { return unix.Shutdown(fd, int(r.msg.A)) })
}
