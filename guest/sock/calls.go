package sock

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Start registers the brick's system calls and hooks.
func Start() {
	startCalls()
	kernel.ProcNet = procNet
	kernel.OnInit(given)
	kernel.OnFork(letGo)
	kernel.OnRestore(republish)
}

func startCalls() {
	kernel.Register(linux.SYS_SOCKET, sysSocket)
	kernel.Register(linux.SYS_SOCKETPAIR, sysSocketpair)
	kernel.Register(linux.SYS_BIND, sysBind)
	kernel.Register(linux.SYS_LISTEN, sysListen)
	kernel.Register(linux.SYS_ACCEPT, func(a kernel.Args) (uintptr, linux.Errno) { return accept4(a, 0) })
	kernel.Register(linux.SYS_ACCEPT4, func(a kernel.Args) (uintptr, linux.Errno) { return accept4(a, a.A4) })
	kernel.Register(linux.SYS_CONNECT, sysConnect)
	kernel.Register(linux.SYS_GETSOCKNAME, func(a kernel.Args) (uintptr, linux.Errno) { return sysName(a, false) })
	kernel.Register(linux.SYS_GETPEERNAME, func(a kernel.Args) (uintptr, linux.Errno) { return sysName(a, true) })
	kernel.Register(linux.SYS_GETSOCKOPT, sysGetsockopt)
	kernel.Register(linux.SYS_SETSOCKOPT, sysSetsockopt)
	kernel.Register(linux.SYS_SHUTDOWN, sysShutdown)
	kernel.Register(linux.SYS_SENDTO, sysSendto)
	kernel.Register(linux.SYS_RECVFROM, sysRecvfrom)
	kernel.Register(linux.SYS_SENDMSG, sysSendmsg)
	kernel.Register(linux.SYS_RECVMSG, sysRecvmsg)
	kernel.Register(linux.SYS_SENDMMSG, sysSendmmsg)
	kernel.Register(linux.SYS_RECVMMSG, sysRecvmmsg)
}

// get returns the socket of fd. The caller puts the description back.
func get(fd uintptr) (*kernel.Desc, *Socket, linux.Errno) {
	d, e := kernel.Get(fd)
	if e != 0 {
		return nil, nil, e
	}
	s, ok := d.File.(*Socket)
	if !ok {
		d.Put()
		return nil, nil, linux.ENOTSOCK
	}
	return d, s, 0
}

// sockType checks the arguments of socket(2) and returns the protocol.
func sockType(family, typ, proto uintptr) (uint16, linux.Errno) {
	switch family {
	case linux.AF_UNIX:
		switch {
		case proto > 1:
			return 0, linux.EPROTONOSUPPORT
		case typ != linux.SOCK_STREAM && typ != linux.SOCK_DGRAM && typ != linux.SOCK_SEQPACKET:
			return 0, linux.ESOCKTNOSUPPORT
		}
		return 0, 0
	case linux.AF_INET, linux.AF_INET6:
		switch {
		case typ == linux.SOCK_STREAM && (proto == 0 || proto == linux.IPPROTO_TCP):
			return linux.IPPROTO_TCP, 0
		case typ == linux.SOCK_DGRAM && (proto == 0 || proto == linux.IPPROTO_UDP):
			return linux.IPPROTO_UDP, 0
		case typ == linux.SOCK_DGRAM && (proto == linux.IPPROTO_ICMP || proto == linux.IPPROTO_ICMPV6):
			return 0, linux.EACCES // as if ping_group_range excluded us
		case typ == linux.SOCK_RAW:
			return 0, linux.EPERM
		case typ == linux.SOCK_STREAM || typ == linux.SOCK_DGRAM:
			return 0, linux.EPROTONOSUPPORT
		}
		return 0, linux.ESOCKTNOSUPPORT
	case linux.AF_NETLINK:
		switch {
		case typ != linux.SOCK_RAW && typ != linux.SOCK_DGRAM:
			return 0, linux.ESOCKTNOSUPPORT
		case proto != linux.NETLINK_ROUTE:
			return 0, linux.EPROTONOSUPPORT
		}
		return 0, 0
	case linux.AF_PACKET:
		return 0, linux.EPERM
	}
	return 0, linux.EAFNOSUPPORT
}

const sockFlags = linux.SOCK_NONBLOCK | linux.SOCK_CLOEXEC

func sysSocket(a kernel.Args) (uintptr, linux.Errno) {
	typ := a.A2 & typMask
	if a.A2&^(typMask|sockFlags) != 0 {
		return 0, linux.EINVAL
	}
	proto, e := sockType(a.A1, typ, a.A3)
	if e != 0 {
		return 0, e
	}
	return install(newSocket(uint16(a.A1), uint8(typ), proto), a.A2)
}

// install gives s a descriptor, or releases it.
func install(s *Socket, flags uintptr) (uintptr, linux.Errno) {
	fd, e := kernel.Install(s, uint32(flags&sockFlags)|linux.O_RDWR)
	if e != 0 {
		s.Release()
	}
	return fd, e
}

func sysSocketpair(a kernel.Args) (uintptr, linux.Errno) {
	typ := a.A2 & typMask
	if a.A2&^(typMask|sockFlags) != 0 {
		return 0, linux.EINVAL
	}
	if _, e := sockType(a.A1, typ, a.A3); e != 0 {
		return 0, e
	}
	if a.A1 != linux.AF_UNIX {
		return 0, linux.EOPNOTSUPP
	}
	out, e := kernel.Ptr[[2]int32](a.A4)
	if e != 0 {
		return 0, e
	}
	x, y := socketpair(uint8(typ))
	fx, e := install(x, a.A2)
	if e != 0 {
		y.Release()
		return 0, e
	}
	fy, e := install(y, a.A2)
	if e != 0 {
		kernel.Close(fx)
		return 0, e
	}
	*out = [2]int32{int32(fx), int32(fy)}
	return 0, 0
}

// sockaddr copies the address argument of bind, connect and their like.
func sockaddr(addr, n uintptr) ([]byte, linux.Errno) {
	if n > 128 {
		return nil, linux.EINVAL
	}
	return kernel.Bytes(addr, n)
}

// putName stores a sockaddr for getsockname and its like.
func putName(addr, lenp uintptr, b []byte) linux.Errno {
	if addr == 0 {
		return 0
	}
	n, e := kernel.Ptr[int32](lenp)
	if e != 0 {
		return e
	}
	if *n < 0 {
		return linux.EINVAL
	}
	p, e := kernel.Bytes(addr, min(uintptr(*n), uintptr(len(b))))
	if e != 0 {
		return e
	}
	copy(p, b)
	*n = int32(len(b))
	return 0
}

func sysBind(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	sa, e := sockaddr(a.A2, a.A3)
	if e != 0 {
		return 0, e
	}
	switch {
	case s.isUnix():
		return 0, s.bindUnix(sa)
	case s.family == linux.AF_NETLINK:
		return 0, s.bindNetlink(sa)
	}
	return 0, s.bindInet(sa)
}

func sysListen(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	return 0, s.listen(int(int32(a.A2)))
}

func accept4(a kernel.Args, flags uintptr) (uintptr, linux.Errno) {
	if flags&^sockFlags != 0 {
		return 0, linux.EINVAL
	}
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	var c *Socket
	for {
		if c, e = s.accept(); e != linux.EAGAIN || d.Nonblock() {
			break
		}
		kernel.Wait(s, rt.In, 0)
	}
	if e != 0 {
		return 0, e
	}
	var b [128]byte
	if e := putName(a.A2, a.A3, c.peerName(b[:0])); e != 0 {
		c.Release()
		return 0, e
	}
	return install(c, flags)
}

func sysConnect(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	sa, e := sockaddr(a.A2, a.A3)
	if e != 0 {
		return 0, e
	}
	switch {
	case s.isUnix():
		e = s.connectUnix(sa, d.Nonblock())
	case s.family == linux.AF_NETLINK:
		return 0, 0
	case s.isTCP():
		e = s.connectTCP(sa)
	default:
		return 0, s.connectUDP(sa)
	}
	if (e == linux.EINPROGRESS || e == linux.EALREADY) && !d.Nonblock() {
		e = s.awaitConnect(s.deadline(linux.SO_SNDTIMEO))
	}
	return 0, e
}

func sysName(a kernel.Args, peer bool) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	var b [128]byte
	if !peer {
		return 0, putName(a.A2, a.A3, s.localName(b[:0]))
	}
	if s.st.Load() != stConnected || s.over() {
		return 0, linux.ENOTCONN
	}
	return 0, putName(a.A2, a.A3, s.peerName(b[:0]))
}

func sysShutdown(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	return 0, s.shutdown(int(int32(a.A2)))
}

// localName and peerName encode the socket's own name and its peer's.
func (s *Socket) localName(b []byte) []byte {
	netMu.Lock()
	defer netMu.Unlock()
	switch {
	case s.isUnix():
		return appendUnix(b, s.u.name)
	case s.family == linux.AF_NETLINK:
		return appendNetlink(b, s.peer.zone)
	}
	return appendInet(b, s.family, &s.local)
}

func (s *Socket) peerName(b []byte) []byte {
	netMu.Lock()
	defer netMu.Unlock()
	switch {
	case s.isUnix():
		return appendUnix(b, s.u.peer)
	case s.family == linux.AF_NETLINK:
		return appendNetlink(b, 0)
	}
	return appendInet(b, s.family, &s.peer)
}

// bindInet is bind(2) of the IP families.
func (s *Socket) bindInet(sa []byte) linux.Errno {
	if len(sa) >= sizeofIn && s.family == linux.AF_INET && sa[0] == linux.AF_UNSPEC && sa[1] == 0 && le32(sa[4:]) == 0 {
		sa = append([]byte{linux.AF_INET, 0}, sa[2:]...)
	}
	to, e := parseInet(s.family, sa)
	if e != 0 {
		return e
	}
	switch {
	case isLocal(&to.ip), s.d != nil && (isMulticast(&to.ip) || to.ip == bcast):
	default:
		return linux.EADDRNOTAVAIL
	}
	if s.v6only && is4(&to.ip) {
		return linux.EINVAL
	}
	netMu.Lock()
	if s.inTable || s.st.Load() != stNew && s.st.Load() != stFailed {
		netMu.Unlock()
		return linux.EINVAL
	}
	e = s.table().bind(s, to)
	s.bound = e == 0
	s.ipLock, s.portLock = s.bound && !isAny(&to.ip), s.bound && to.port != 0
	netMu.Unlock()
	if e == 0 && s.d != nil && to.port != 0 && !isLoopback(&to.ip) && !isMulticast(&to.ip) {
		e = s.publishUDP()
	}
	return e
}
