package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// An optKey is a level and a name: level<<16 | name.
type optKey uint32

func key(level, name int) optKey { return optKey(uint32(level)<<16 | uint32(name)&0xffff) }

// What an option is.
const (
	oBool  = 1 << iota // 0 or 1
	oInet              // for the IP families only
	oInet6             // for AF_INET6 only
	oTCP               // for TCP only
	oUnix              // for AF_UNIX only
	oHost              // a host socket must be told
	oUDP               // for UDP only
)

// optTable has the options that are remembered, with their values at the start:
// of TCP those that the monitor gives every connection. Others, which are more
// than a number, are in getopt and setopt.
var optTable = [...]struct {
	key   optKey
	flags uint8
	value int32
}{
	{linux.SOL_SOCKET<<16 | linux.SO_DEBUG, oBool, 0},
	{linux.SOL_SOCKET<<16 | linux.SO_DONTROUTE, oBool, 0},
	{linux.SOL_SOCKET<<16 | linux.SO_BROADCAST, oBool, 0},
	{linux.SOL_SOCKET<<16 | linux.SO_KEEPALIVE, oBool | oHost, 1},
	{linux.SOL_SOCKET<<16 | linux.SO_OOBINLINE, oBool, 0},
	{linux.SOL_SOCKET<<16 | linux.SO_PRIORITY, 0, 0},
	{linux.SOL_SOCKET<<16 | linux.SO_PASSCRED, oBool | oUnix, 0},
	{linux.SOL_SOCKET<<16 | linux.SO_RCVLOWAT, 0, 1},
	{linux.SOL_SOCKET<<16 | linux.SO_TIMESTAMP, oBool, 0},
	{linux.SOL_SOCKET<<16 | soRxqOvfl, oBool, 0},
	{linux.SOL_SOCKET<<16 | soBusyPoll, 0, 0},
	{linux.IPPROTO_IP<<16 | linux.IP_TOS, oInet | oHost, 0},
	{linux.IPPROTO_IP<<16 | linux.IP_TTL, oInet | oHost, 64},
	{linux.IPPROTO_IP<<16 | linux.IP_MTU_DISCOVER, oInet, 1},
	{linux.IPPROTO_IP<<16 | linux.IP_RECVERR, oInet | oBool, 0},
	{linux.IPPROTO_IP<<16 | linux.IP_RECVTTL, oInet | oBool, 0},
	{linux.IPPROTO_IP<<16 | linux.IP_RECVTOS, oInet | oBool, 0},
	{linux.IPPROTO_IP<<16 | ipFreebind, oInet | oBool, 0},
	{linux.IPPROTO_IP<<16 | ipBindNoPort, oInet | oBool, 0},
	{linux.IPPROTO_IP<<16 | linux.IP_MULTICAST_TTL, oInet, 1},
	{linux.IPPROTO_IP<<16 | linux.IP_MULTICAST_LOOP, oInet | oBool, 1},
	{linux.IPPROTO_IPV6<<16 | linux.IPV6_UNICAST_HOPS, oInet6 | oHost, 64},
	{linux.IPPROTO_IPV6<<16 | linux.IPV6_MULTICAST_IF, oInet6, 0},
	{linux.IPPROTO_IPV6<<16 | linux.IPV6_MULTICAST_HOPS, oInet6, 1},
	{linux.IPPROTO_IPV6<<16 | linux.IPV6_MULTICAST_LOOP, oInet6 | oBool, 1},
	{linux.IPPROTO_IPV6<<16 | ipv6MTUDiscover, oInet6, 1},
	{linux.IPPROTO_IPV6<<16 | ipv6RecvErr, oInet6 | oBool, 0},
	{linux.IPPROTO_IPV6<<16 | linux.IPV6_RECVHOPLIMIT, oInet6 | oBool, 0},
	{linux.IPPROTO_IPV6<<16 | linux.IPV6_RECVTCLASS, oInet6 | oBool, 0},
	{linux.IPPROTO_IPV6<<16 | linux.IPV6_TCLASS, oInet6 | oHost, 0},
	{linux.IPPROTO_TCP<<16 | linux.TCP_NODELAY, oTCP | oBool | oHost, 1},
	{linux.IPPROTO_TCP<<16 | linux.TCP_MAXSEG, oTCP, 65483},
	{linux.IPPROTO_TCP<<16 | linux.TCP_CORK, oTCP | oBool | oHost, 0},
	{linux.IPPROTO_TCP<<16 | linux.TCP_KEEPIDLE, oTCP | oHost, 15},
	{linux.IPPROTO_TCP<<16 | linux.TCP_KEEPINTVL, oTCP | oHost, 15},
	{linux.IPPROTO_TCP<<16 | linux.TCP_KEEPCNT, oTCP | oHost, 9},
	{linux.IPPROTO_TCP<<16 | linux.TCP_SYNCNT, oTCP, 6},
	{linux.IPPROTO_TCP<<16 | linux.TCP_LINGER2, oTCP, 60},
	{linux.IPPROTO_TCP<<16 | linux.TCP_DEFER_ACCEPT, oTCP, 0},
	{linux.IPPROTO_TCP<<16 | tcpWindowClamp, oTCP, 0},
	{linux.IPPROTO_TCP<<16 | linux.TCP_QUICKACK, oTCP | oBool, 1},
	{linux.IPPROTO_TCP<<16 | linux.TCP_USER_TIMEOUT, oTCP | oHost, 0},
	{linux.IPPROTO_TCP<<16 | linux.TCP_FASTOPEN, oTCP, 0},
	{linux.IPPROTO_TCP<<16 | tcpNotsentLowat, oTCP | oHost, 0},
}

// find returns the index in optTable of an option that s has, or -1.
func (s *Socket) find(k optKey) int {
	for i := range optTable {
		o := &optTable[i]
		if o.key != k {
			continue
		}
		if o.flags&oInet != 0 && !s.isInet() || o.flags&oInet6 != 0 && s.family != linux.AF_INET6 ||
			o.flags&oTCP != 0 && !s.isTCP() || o.flags&oUnix != 0 && !s.isUnix() {
			return -1
		}
		return i
	}
	return -1
}

// opt returns the value of a remembered option, 0 if s has no such option.
func (s *Socket) opt(level, name int) int32 {
	k := key(level, name)
	netMu.Lock()
	v, ok := s.opts[k]
	netMu.Unlock()
	if !ok {
		if i := s.find(k); i >= 0 {
			v = optTable[i].value
		}
	}
	return v
}

// remember keeps an option's value. netMu is held, or s is not shared yet.
func (s *Socket) remember(k optKey, v int32) {
	if s.opts == nil {
		s.opts = map[optKey]int32{}
	}
	s.opts[k] = v
}

// deadline returns when a blocking call ends by SO_RCVTIMEO or SO_SNDTIMEO, as
// rt.Nanotime says it; 0: never.
func (s *Socket) deadline(name int) int64 {
	if s.opts == nil {
		return 0
	}
	if us := s.opt(linux.SOL_SOCKET, name); us > 0 {
		return rt.Nanotime() + int64(us)*1000
	}
	return 0
}

func sysGetsockopt(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	lenp, e := kernel.Ptr[int32](a.A5)
	if e != 0 {
		return 0, e
	}
	n := *lenp
	if n < 0 {
		return 0, linux.EINVAL
	}
	var b [32]byte
	v, e := s.getopt(int(int32(a.A2)), int(int32(a.A3)), b[:0])
	if e != 0 {
		return 0, e
	}
	n = min(n, int32(len(v)))
	p, e := kernel.Bytes(a.A4, uintptr(n))
	if e != 0 {
		return 0, e
	}
	copy(p, v)
	*lenp = n
	return 0, 0
}

// getopt appends the value of an option to b.
func (s *Socket) getopt(level, name int, b []byte) ([]byte, linux.Errno) {
	num := func(v int32) ([]byte, linux.Errno) { return abi.Append32(b, uint32(v)), 0 }
	flag := func(v bool) ([]byte, linux.Errno) {
		if v {
			return num(1)
		}
		return num(0)
	}
	switch level {
	case linux.SOL_SOCKET:
		switch name {
		case linux.SO_TYPE:
			return num(int32(s.typ))
		case linux.SO_PROTOCOL:
			return num(int32(s.proto))
		case linux.SO_DOMAIN:
			return num(int32(s.family))
		case linux.SO_ERROR:
			return num(int32(s.takeErr()))
		case linux.SO_ACCEPTCONN:
			return flag(s.st.Load() == stListen)
		case linux.SO_REUSEADDR:
			return flag(s.reuse)
		case linux.SO_REUSEPORT:
			return flag(s.reuseport)
		case linux.SO_SNDBUF:
			return num(s.sndbuf.Load())
		case linux.SO_RCVBUF:
			return num(s.rcvbuf.Load())
		case linux.SO_SNDLOWAT:
			return num(1)
		case linux.SO_LINGER:
			if s.linger == 0 {
				return abi.Append64(b, 0), 0
			}
			return abi.Append32(abi.Append32(b, 1), uint32(s.linger-1)), 0
		case linux.SO_RCVTIMEO, linux.SO_SNDTIMEO:
			us := s.opt(level, name)
			return abi.Append64(abi.Append64(b, uint64(us/1e6)), uint64(us%1e6)), 0
		case linux.SO_PEERCRED:
			if s.isUnix() && (s.st.Load() == stConnected || s.st.Load() == stListen) {
				return appendCred(b), 0
			}
			return append(b, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255), 0
		case linux.SO_BINDTODEVICE:
			return b, 0
		case soCookie:
			return abi.Append64(b, s.ino), 0
		case linux.SO_INCOMING_CPU:
			return num(0)
		}
	case linux.IPPROTO_IPV6:
		if s.family == linux.AF_INET6 {
			switch name {
			case linux.IPV6_V6ONLY:
				return flag(s.v6only)
			case linux.IPV6_RECVPKTINFO:
				if s.d != nil {
					return flag(s.d.pkt6)
				}
			case ipv6MTU:
				return num(s.mtu())
			}
		}
	case linux.IPPROTO_IP:
		if s.isInet() {
			switch name {
			case linux.IP_PKTINFO:
				if s.d != nil {
					return flag(s.d.pktinfo)
				}
			case linux.IP_MTU:
				return num(s.mtu())
			case linux.IP_MULTICAST_IF:
				return num(0)
			}
		}
	case linux.IPPROTO_TCP:
		if s.isTCP() && name == linux.TCP_CONGESTION {
			return append(append(b, "cubic"...), make([]byte, 11)...), 0
		}
	}
	i := s.find(key(level, name))
	if i < 0 {
		switch {
		case level == linux.SOL_SOCKET, s.isInet() && (level == int(s.proto) || level == linux.IPPROTO_IP),
			s.family == linux.AF_INET6 && level == linux.IPPROTO_IPV6:
			return nil, linux.ENOPROTOOPT
		}
		return nil, linux.EOPNOTSUPP
	}
	return num(s.opt(level, name))
}

func (s *Socket) mtu() int32 {
	if s.st.Load() == stConnected && isLocal(&s.peer.ip) {
		return 65536
	}
	return 1500
}
