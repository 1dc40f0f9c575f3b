package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

func sysSetsockopt(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	n := int32(a.A5)
	if n < 0 {
		return 0, linux.EINVAL
	}
	p, e := kernel.Bytes(a.A4, min(uintptr(n), 256))
	if e != 0 {
		return 0, e
	}
	return 0, s.setopt(int(int32(a.A2)), int(int32(a.A3)), p)
}

// setopt is setsockopt(2).
func (s *Socket) setopt(level, name int, p []byte) linux.Errno {
	v, known, e := s.setSpecial(level, name, p)
	if known || e != 0 {
		return e
	}
	i := s.find(key(level, name))
	if i < 0 {
		if !s.isInet() && level != linux.SOL_SOCKET {
			return linux.EOPNOTSUPP
		}
		return linux.ENOPROTOOPT
	}
	o := &optTable[i]
	if o.flags&oBool != 0 && v != 0 {
		v = 1
	}
	if lo, hi := bounds(level, name, o.flags); v < lo || v > hi {
		return linux.EINVAL
	}
	if v == -1 {
		v = o.value
	}
	if v == s.opt(level, name) {
		return 0
	}
	if o.flags&oHost != 0 {
		if e := s.tellHost(level, name, uint64(uint32(v))); e != 0 {
			return e
		}
	}
	netMu.Lock()
	s.remember(o.key, v)
	netMu.Unlock()
	return 0
}

// bounds returns the least and the greatest value of an option; -1 stands for
// the value at the start.
func bounds(level, name int, flags uint8) (lo, hi int32) {
	switch optKey(level)<<16 | optKey(name) {
	case linux.IPPROTO_IP<<16 | linux.IP_TTL:
		return 1, 255
	case linux.IPPROTO_IP<<16 | linux.IP_MULTICAST_TTL, linux.IPPROTO_IPV6<<16 | linux.IPV6_UNICAST_HOPS,
		linux.IPPROTO_IPV6<<16 | linux.IPV6_MULTICAST_HOPS, linux.IPPROTO_IPV6<<16 | linux.IPV6_TCLASS:
		return -1, 255
	case linux.IPPROTO_IP<<16 | linux.IP_TOS:
		return 0, 255
	case linux.IPPROTO_TCP<<16 | linux.TCP_KEEPIDLE, linux.IPPROTO_TCP<<16 | linux.TCP_KEEPINTVL:
		return 1, 32767
	case linux.IPPROTO_TCP<<16 | linux.TCP_KEEPCNT:
		return 1, 127
	}
	if flags&oBool != 0 {
		return 0, 1
	}
	return 0, 1<<31 - 1
}

// tellHost sets an option of the host's socket, if there is one by now. That of a unix socket
// has what the host gives it.
func (s *Socket) tellHost(level, name int, v uint64) linux.Errno {
	h := s.host.Load()
	if h == nil || s.st.Load() == stListen || s.isUnix() {
		return 0
	}
	_, e := h.request(abi.Msg{Op: abi.OpSockopt, A: uint64(level), B: uint64(name), C: v, D: 1})
	return e
}

// hostOptions returns the remembered options that a new host socket does not
// have yet. netMu is held.
func (s *Socket) hostOptions() (keys []optKey) {
	for k, v := range s.opts {
		if i := s.find(k); i >= 0 && optTable[i].flags&oHost != 0 && optTable[i].value != v {
			keys = append(keys, k)
		}
	}
	return keys
}

// applyOptions gives the host's socket the options keys. An option that the
// monitor refuses stays as the host has it.
func (s *Socket) applyOptions(h *hostSock, keys []optKey) {
	for _, k := range keys {
		level, name := int(k>>16), int(k&0xffff)
		h.request(abi.Msg{Op: abi.OpSockopt, A: uint64(level), B: uint64(name), C: uint64(uint32(s.opt(level, name))), D: 1})
	}
}

// setSpecial handles the options that are not just remembered. v is the value
// as a number, for those that are.
func (s *Socket) setSpecial(level, name int, p []byte) (v int32, known bool, e linux.Errno) {
	// Options whose value is not an int.
	switch optKey(level)<<16 | optKey(name) {
	case linux.SOL_SOCKET<<16 | linux.SO_LINGER:
		return 0, true, s.setLinger(p)
	case linux.SOL_SOCKET<<16 | linux.SO_RCVTIMEO, linux.SOL_SOCKET<<16 | linux.SO_SNDTIMEO:
		return 0, true, s.setTimeout(key(level, name), p)
	case linux.SOL_SOCKET<<16 | linux.SO_BINDTODEVICE:
		if len(p) == 0 || p[0] == 0 {
			return 0, true, 0
		}
		return 0, true, linux.EPERM
	case linux.IPPROTO_IP<<16 | linux.IP_ADD_MEMBERSHIP, linux.IPPROTO_IP<<16 | linux.IP_DROP_MEMBERSHIP:
		if !s.isInet() || len(p) < 8 {
			return 0, true, linux.EINVAL
		}
		return 0, true, s.join(mapped(p[0], p[1], p[2], p[3]), name == linux.IP_ADD_MEMBERSHIP)
	case linux.IPPROTO_IPV6<<16 | linux.IPV6_JOIN_GROUP, linux.IPPROTO_IPV6<<16 | linux.IPV6_LEAVE_GROUP:
		if s.family != linux.AF_INET6 || len(p) < 20 {
			return 0, true, linux.EINVAL
		}
		return 0, true, s.join([16]byte(p[:16]), name == linux.IPV6_JOIN_GROUP)
	case linux.IPPROTO_IP<<16 | linux.IP_MULTICAST_IF:
		if !s.isInet() {
			return 0, true, linux.EOPNOTSUPP
		}
		return 0, true, 0 // there is one circle of members, whatever the interface
	case linux.IPPROTO_TCP<<16 | linux.TCP_CONGESTION:
		if string(p) == "cubic" || string(p) == "reno" {
			return 0, true, 0
		}
		return 0, true, linux.ENOENT
	}
	switch {
	case len(p) >= 4:
		v = int32(le32(p))
	case len(p) >= 1 && level == linux.IPPROTO_IP:
		v = int32(p[0])
	default:
		return 0, true, linux.EINVAL
	}
	set := func(to *bool) (int32, bool, linux.Errno) {
		netMu.Lock()
		*to = v != 0
		netMu.Unlock()
		return 0, true, 0
	}
	switch level {
	case linux.SOL_SOCKET:
		switch name {
		case linux.SO_TYPE, linux.SO_ERROR, linux.SO_ACCEPTCONN, linux.SO_PROTOCOL, linux.SO_DOMAIN, linux.SO_PEERCRED:
			return 0, true, linux.ENOPROTOOPT
		case linux.SO_REUSEADDR:
			if s.isKid {
				return 0, true, 0 // the counts of its port stay right
			}
			return set(&s.reuse)
		case linux.SO_REUSEPORT:
			if !s.isInet() {
				return 0, true, linux.EOPNOTSUPP
			}
			return set(&s.reuseport)
		case linux.SO_SNDBUF, linux.SO_SNDBUFFORCE:
			return 0, true, s.setBuffer(&s.sndbuf, linux.SO_SNDBUF, v)
		case linux.SO_RCVBUF, linux.SO_RCVBUFFORCE:
			return 0, true, s.setBuffer(&s.rcvbuf, linux.SO_RCVBUF, v)
		case linux.SO_SNDLOWAT:
			return 0, true, linux.ENOPROTOOPT
		case linux.SO_MARK:
			return 0, true, linux.EPERM
		}
	case linux.IPPROTO_IPV6:
		if s.family != linux.AF_INET6 {
			break
		}
		switch name {
		case linux.IPV6_V6ONLY:
			if s.inTable || s.st.Load() != stNew {
				return 0, true, linux.EINVAL
			}
			return set(&s.v6only)
		case linux.IPV6_RECVPKTINFO:
			if s.d != nil {
				return set(&s.d.pkt6)
			}
		}
	case linux.IPPROTO_IP:
		if name == linux.IP_PKTINFO && s.isInet() && s.d != nil {
			return set(&s.d.pktinfo)
		}
	}
	return v, false, 0
}

// setBuffer sets a buffer's size: twice the value, within bounds, as Linux.
func (s *Socket) setBuffer(size interface{ Store(int32) }, name int, v int32) linux.Errno {
	if v > maxBuf/2 {
		v = maxBuf / 2
	}
	size.Store(max(2*v, minBuf))
	s.limit()
	return s.tellHost(linux.SOL_SOCKET, name, uint64(uint32(v)))
}

func (s *Socket) setLinger(p []byte) linux.Errno {
	if len(p) < 8 {
		return linux.EINVAL
	}
	on, sec := le32(p), le32(p[4:])
	netMu.Lock()
	s.linger = 0
	if on != 0 {
		s.linger = int32(min(sec, 1<<30)) + 1
	}
	netMu.Unlock()
	if s.isTCP() {
		// The monitor takes the two fields of struct linger as one number.
		if on != 0 {
			on = 1
		}
		return s.tellHost(linux.SOL_SOCKET, linux.SO_LINGER, uint64(on)|uint64(sec)<<32)
	}
	return 0
}

func (s *Socket) setTimeout(k optKey, p []byte) linux.Errno {
	if len(p) < 16 {
		return linux.EINVAL
	}
	sec, us := le32(p), le32(p[8:])
	if us >= 1e6 {
		return linux.EDOM
	}
	netMu.Lock()
	s.remember(k, int32(min(uint64(sec)*1e6+uint64(us), 1<<31-1)))
	netMu.Unlock()
	return 0
}

// join joins or leaves a multicast group, whose other members are in this pVM.
func (s *Socket) join(ip [16]byte, join bool) linux.Errno {
	if !isMulticast(&ip) {
		return linux.EINVAL
	}
	if s.d == nil {
		return linux.EPROTO
	}
	netMu.Lock()
	defer netMu.Unlock()
	for i, g := range s.d.groups {
		if g == ip {
			if join {
				return linux.EADDRINUSE
			}
			s.d.groups = append(s.d.groups[:i], s.d.groups[i+1:]...)
			return 0
		}
	}
	if !join {
		return linux.EADDRNOTAVAIL
	}
	s.d.groups = append(s.d.groups, ip)
	return 0
}
