package broker

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

func socket(ip netip.Addr, typ int) (int, error) {
	family := unix.AF_INET6
	if ip.Is4() {
		family = unix.AF_INET
	}
	return unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// tcpDefaults are what package net sets on every connection: no delay, and
// probes after 15 s, every 15 s, 9 times. Accepted sockets inherit them.
func tcpDefaults(fd int) {
	for _, o := range [...][3]int{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		unix.SetsockoptInt(fd, o[0], o[1], o[2])
	}
}

// takeAddr reads an address of the guest's.
func takeAddr(b []byte) (netip.AddrPort, []byte, error) {
	a, rest, ok := abi.TakeAddr(b)
	if !ok {
		return netip.AddrPort{}, nil, unix.EINVAL
	}
	ip := netip.AddrFrom16(a.IP)
	if a.Family == 4 {
		ip = netip.AddrFrom4([4]byte(a.IP[:4]))
	}
	return netip.AddrPortFrom(ip, a.Port), rest, nil
}

func encodeAddr(a netip.AddrPort) []byte {
	e := abi.Addr{Family: 6, Port: a.Port()}
	if a.Addr().Is4() {
		e.Family = 4
		ip := a.Addr().As4()
		copy(e.IP[:], ip[:])
	} else {
		e.IP = a.Addr().As16()
	}
	return abi.AppendAddr(nil, e)
}

var (
	guest4 = netip.MustParseAddr(abi.GuestIP4)
	guest6 = netip.MustParseAddr(abi.GuestIP6)
)

// guestAddr is the pVM's own address of the family of ip, with port.
func guestAddr(ip netip.Addr, port uint16) netip.AddrPort {
	if ip.Is4() || ip.Is4In6() {
		return netip.AddrPortFrom(guest4, port)
	}
	return netip.AddrPortFrom(guest6, port)
}

// doListen gives the listener of a published port.
func doListen(r *request) (reply, error) {
	local, rest, err := takeAddr(r.payload)
	if err != nil || len(rest) != 0 {
		return reply{}, unix.EINVAL
	}
	if r.msg.A != abi.ProtoTCP {
		return reply{}, unix.EPROTONOSUPPORT
	}
	p := r.b.c.Ports.find(false, local.Port())
	if p == nil || local.Addr().Unmap().IsLoopback() {
		return reply{}, unix.EACCES // the pVM's own loopback needs no host
	}
	return r.givePort(p, kindListener, int(min(max(r.msg.B, 1), 4096)), local)
}

// givePort gives the guest a duplicate of p's socket.
func (r *request) givePort(p *port, k kind, backlog int, local netip.AddrPort) (reply, error) {
	if r.b.table.full() {
		return reply{}, unix.EMFILE
	}
	if err := p.hold(backlog); err != nil {
		return reply{}, err
	}
	// The handle keeps no descriptor of its own: p's is the same socket.
	h := &handle{kind: k, fd: -1, port: p, end: p.release}
	if err := r.b.table.add(h); err != nil {
		return reply{}, err
	}
	// A: it is published; forks share it.
	return reply{handle: h, a: 1, give: p.fd, payload: encodeAddr(local)}, nil
}

// doUDP gives an unconnected socket: a published port's, else one on a port
// that the host chooses.
func doUDP(r *request) (reply, error) {
	local, rest, err := takeAddr(r.payload)
	if err != nil || len(rest) != 0 {
		return reply{}, unix.EINVAL
	}
	if local.Addr().Unmap().IsLoopback() {
		return reply{}, unix.EACCES // the pVM's own loopback needs no host
	}
	if p := r.b.c.Ports.find(true, local.Port()); p != nil {
		if p.host.Addr().Is4() && local.Addr().Is6() {
			// The guest must name IPv4 addresses as such on this socket.
			local = netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port())
		}
		return r.givePort(p, kindUDP, 0, local)
	}
	if r.b.c.Guard.Net().None {
		return reply{}, unix.EACCES
	}
	fd, host, err := anyUDP(local.Addr())
	if err != nil {
		return reply{}, err
	}
	h := &handle{kind: kindUDP, fd: fd}
	if err := r.b.table.add(h); err != nil {
		return reply{}, err
	}
	if local.Port() != 0 {
		host = netip.AddrPortFrom(host.Addr(), local.Port())
	}
	if host.Addr().Is4() == local.Addr().Is4() {
		host = netip.AddrPortFrom(local.Addr(), host.Port())
	}
	return reply{handle: h, give: fd, payload: encodeAddr(host)}, nil
}

// anyUDP makes a UDP socket on a port of the host's choice. For an IPv6 address
// it takes IPv4 too, and is IPv4 alone where the host has no IPv6.
func anyUDP(local netip.Addr) (fd int, bound netip.AddrPort, err error) {
	ips := []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}
	if local.Is4() {
		ips = ips[1:]
	}
	for _, ip := range ips {
		if fd, err = socket(ip, unix.SOCK_DGRAM); err != nil {
			continue
		}
		if ip.Is6() {
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		}
		var sa unix.Sockaddr
		if err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(ip, 0))); err == nil {
			sa, err = unix.Getsockname(fd)
		}
		if err == nil {
			return fd, addrPort(sa), nil
		}
		unix.Close(fd)
	}
	return -1, netip.AddrPort{}, err
}

// doSendTo sends a datagram to an address that the policy allows. The answer's
// A is the number of bytes sent.
func doSendTo(r *request) (reply, error) {
	to, data, err := takeAddr(r.payload)
	if err != nil {
		return reply{}, err
	}
	h, err := r.b.table.get(r.msg.Handle, kindUDP)
	if err != nil {
		return reply{}, err
	}
	defer h.put()
	host, ok := r.b.c.Guard.Out("udp", to)
	fd := h.fd
	if h.port != nil {
		fd = h.port.fd
		if !ok {
			host, ok = r.b.c.Guard.Reply(to, ephemeral)
		}
	}
	if !ok {
		return reply{}, unix.EACCES
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return reply{}, err
	}
	if domain == unix.AF_INET6 {
		host = netip.AddrPortFrom(netip.AddrFrom16(host.Addr().As16()), host.Port())
	} else if !host.Addr().Is4() {
		return reply{}, unix.EAFNOSUPPORT
	}
	err = unix.Sendto(fd, data, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, sockaddr(host))
	if err == unix.EAGAIN {
		err = nil // no room: lost, as datagrams may be
	}
	return reply{a: uint64(len(data))}, err
}

// ephemeral says whether port is one that the host gives to programs which
// connect without choosing one.
func ephemeral(port uint16) bool {
	r := ephemeralRange()
	return port >= r[0] && port <= r[1]
}

var ephemeralRange = sync.OnceValue(func() [2]uint16 {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if f := strings.Fields(string(b)); err == nil && len(f) == 2 {
		lo, err1 := strconv.ParseUint(f[0], 10, 16)
		hi, err2 := strconv.ParseUint(f[1], 10, 16)
		if err1 == nil && err2 == nil {
			return [2]uint16{uint16(lo), uint16(hi)}
		}
	}
	return [2]uint16{32768, 60999}
})
