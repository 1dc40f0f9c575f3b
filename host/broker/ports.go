package broker

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/host/policy"
)

// Ports are the published ports of one pVM, bound from the start, so that a
// port in use is an error before the app runs. A TCP port listens only while
// the app does: before that, connections are refused, as users expect.
type Ports struct {
	all []*port
}

type port struct {
	policy.Publish
	fd   int
	host netip.AddrPort // as bound

	mu      sync.Mutex
	users   int // Ports that it is in
	holders int // handles of guests that stand for it
}

// OpenPorts binds every published port.
func OpenPorts(list []policy.Publish) (*Ports, error) {
	ps := &Ports{}
	for _, p := range list {
		if ps.find(p.UDP, p.GuestPort) != nil {
			ps.Close()
			return nil, fmt.Errorf("port %d/%s of the pVM is published twice; publish it once", p.GuestPort, p.Proto())
		}
		fd, host, err := bind(p)
		if err != nil {
			ps.Close()
			return nil, fmt.Errorf("cannot publish %s: %w%s", p, err, hint(p, err))
		}
		ps.all = append(ps.all, &port{Publish: p, fd: fd, host: host, users: 1})
	}
	return ps, nil
}

// hint says what to do about an error of bind.
func hint(p policy.Publish, err error) string {
	switch err {
	case unix.EADDRINUSE:
		return "; another program or pVM has port " + strconv.Itoa(int(p.HostPort)) + ", choose another"
	case unix.EACCES:
		return "; a low port of the host needs root or sysctl net.ipv4.ip_unprivileged_port_start, or choose a higher one"
	case unix.EADDRNOTAVAIL:
		return "; " + p.IP.String() + " is not an address of this host"
	}
	return ""
}

// Join adds the ports of shared, which live until all Ports that have them are closed.
// PVMs that share a port share its queue: whoever accepts first has the connection.
func (ps *Ports) Join(shared *Ports) error {
	if shared == nil {
		return nil
	}
	for _, p := range shared.all {
		if ps.find(p.UDP, p.GuestPort) != nil {
			return fmt.Errorf("port %d/%s of the pVM is published twice; publish it once", p.GuestPort, p.Proto())
		}
		p.mu.Lock()
		p.users++
		p.mu.Unlock()
		ps.all = append(ps.all, p)
	}
	return nil
}

// Close closes the ports that nobody else has. The guest must be gone.
func (ps *Ports) Close() {
	if ps == nil {
		return
	}
	for _, p := range ps.all {
		p.mu.Lock()
		if p.users--; p.users == 0 {
			unix.Close(p.fd)
			p.fd = -1
		}
		p.mu.Unlock()
	}
	ps.all = nil
}

// List is the published ports, in the order in which they were given.
func (ps *Ports) List() []policy.Publish {
	var list []policy.Publish
	for _, p := range ps.all {
		list = append(list, p.Publish)
	}
	return list
}

// Bound is the published ports with the host addresses that they have.
func (ps *Ports) Bound() map[policy.Publish]netip.AddrPort {
	m := make(map[policy.Publish]netip.AddrPort)
	for _, p := range ps.all {
		m[p.Publish] = p.host
	}
	return m
}

func (ps *Ports) find(udp bool, guest uint16) *port {
	if ps == nil {
		return nil
	}
	for _, p := range ps.all {
		if p.UDP == udp && p.GuestPort == guest {
			return p
		}
	}
	return nil
}

func bind(p policy.Publish) (fd int, host netip.AddrPort, err error) {
	// Linux forgets a port of its own choice when a socket stops listening, so
	// one is chosen first and then asked for. Somebody may come in between.
	for range 16 {
		fd, host, err = bindOnce(p)
		if err != nil || p.HostPort != 0 {
			return fd, host, err
		}
		unix.Close(fd)
		exact := p
		exact.HostPort = host.Port()
		if fd, host, err = bindOnce(exact); err != unix.EADDRINUSE {
			return fd, host, err
		}
	}
	return fd, host, err
}

func bindOnce(p policy.Publish) (int, netip.AddrPort, error) {
	typ := unix.SOCK_STREAM
	if p.UDP {
		typ = unix.SOCK_DGRAM
	}
	ips := []netip.Addr{p.IP.Unmap()}
	if !p.IP.IsValid() {
		// One socket for both families; hosts without IPv6 get the second.
		ips = []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}
	}
	var fd int
	var err error
	for _, ip := range ips {
		fd, err = socket(ip, typ)
		if err == unix.EAFNOSUPPORT {
			continue
		}
		if err != nil {
			break
		}
		if ip.Is6() {
			only := 0
			if p.IP.IsValid() && !ip.IsUnspecified() {
				only = 1
			}
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
		}
		err = bindTo(fd, sockaddr(netip.AddrPortFrom(ip, p.HostPort)), p.UDP)
		if err == nil {
			break
		}
		unix.Close(fd)
		if err != unix.EADDRNOTAVAIL {
			break
		}
	}
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return -1, netip.AddrPort{}, err
	}
	if !p.UDP {
		tcpDefaults(fd)
	}
	return fd, addrPort(sa), nil
}

// bindTo binds so that nobody else can bind the same port before the app
// listens. With SO_REUSEADDR Linux would let another do so; without it, old
// connections of an earlier run are in the way. So: first without, then with.
func bindTo(fd int, sa unix.Sockaddr, udp bool) error {
	err := unix.Bind(fd, sa)
	if err != unix.EADDRINUSE || udp {
		return err
	}
	if e := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); e != nil {
		return e
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	// Somebody listening would have made this fail; now keep others out.
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

func (p *port) String() string {
	return net.JoinHostPort(p.host.Addr().String(), fmt.Sprint(p.host.Port()))
}

// hold notes another handle of the guest for p, starting to listen with the
// first. For UDP it throws away what arrived while nobody was there.
func (p *port) hold(backlog int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holders == 0 && p.UDP {
		var b [1]byte
		for range 4096 {
			if _, _, err := unix.Recvfrom(p.fd, b[:], unix.MSG_DONTWAIT); err != nil && err != unix.EINTR {
				break
			}
		}
	}
	if !p.UDP {
		// What the listener accepts inherits this: old connections are then no
		// obstacle to the next run.
		unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := unix.Listen(p.fd, backlog); err != nil {
			return err
		}
	}
	p.holders++
	return nil
}

// release undoes hold. Without holders a TCP port refuses connections again.
func (p *port) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders--
	if p.holders == 0 && !p.UDP && p.fd >= 0 {
		unix.Shutdown(p.fd, unix.SHUT_RDWR)
	}
}
