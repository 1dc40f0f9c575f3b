package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/linux"
)

// An addr is an IP endpoint. IPv4 addresses are kept in their IPv6-mapped form
// (::ffff:a.b.c.d), so that one table of ports serves both families and a dual
// stack socket needs no special case.
type addr struct {
	ip   [16]byte
	port uint16
	zone uint32
}

var (
	any4  = mapped(0, 0, 0, 0)
	any6  [16]byte
	loop4 = mapped(127, 0, 0, 1)
	loop6 = [16]byte{15: 1}
	self4 = mapped(10, 0, 2, 15)        // abi.GuestIP4
	self6 = [16]byte{0: 0xfd, 15: 0x15} // abi.GuestIP6
	gate4 = mapped(10, 0, 2, 2)         // abi.GatewayIP4
	gate6 = [16]byte{0: 0xfd, 15: 2}
	bcast = mapped(255, 255, 255, 255)
)

func mapped(a, b, c, d byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: a, 13: b, 14: c, 15: d}
}

func is4(ip *[16]byte) bool {
	for _, b := range ip[:10] {
		if b != 0 {
			return false
		}
	}
	return ip[10] == 0xff && ip[11] == 0xff
}

func isAny(ip *[16]byte) bool       { return *ip == any4 || *ip == any6 }
func isLoopback(ip *[16]byte) bool  { return *ip == loop6 || is4(ip) && ip[12] == 127 }
func isMulticast(ip *[16]byte) bool { return ip[0] == 0xff || is4(ip) && ip[12]&0xf0 == 0xe0 }

// isLocal reports whether packets to ip stay inside the pVM.
func isLocal(ip *[16]byte) bool {
	return isLoopback(ip) || *ip == self4 || *ip == self6 || isAny(ip)
}

// sourceFor returns the address that Linux would choose as the source of
// packets to dst.
func sourceFor(dst *[16]byte) [16]byte {
	switch {
	case is4(dst) && (dst[12] == 127 || *dst == any4):
		return loop4
	case is4(dst):
		return self4
	case *dst == loop6 || *dst == any6:
		return loop6
	}
	return self6
}

// here replaces an unspecified destination, which means this machine: the
// address that s is bound to, or loopback.
func (s *Socket) here(to *addr) {
	bound4 := is4(&s.local.ip) && s.local.ip != any4
	switch {
	case to.ip == any4 && bound4:
		to.ip = s.local.ip
	case to.ip == any4, to.ip == any6 && bound4:
		to.ip = loop4
	case to.ip == any6:
		to.ip = loop6
	}
}

// The host's own loopback is not the pVM's: inside it goes by the gateway's
// addresses. fromOutside translates the address of a peer that the host gave,
// so that nobody outside looks like a program of the pVM's. The monitor
// translates back in requests; toOutside does where there is none.
func (a *addr) fromOutside() {
	switch {
	case a.ip == loop6:
		a.ip = gate6
	case isLoopback(&a.ip):
		a.ip = gate4
	}
}

func (a addr) toOutside() addr {
	switch a.ip {
	case gate4:
		a.ip = loop4
	case gate6:
		a.ip = loop6
	}
	return a
}

// encode encodes a for the control channel.
func encode(a *addr) []byte {
	h := abi.Addr{Family: 6, Port: a.port, Zone: a.zone, IP: a.ip}
	if is4(&a.ip) {
		h.Family, h.IP = 4, [16]byte{}
		copy(h.IP[:], a.ip[12:])
	}
	return abi.AppendAddr(make([]byte, 0, abi.AddrSize), h)
}

// parseInet decodes a sockaddr_in or sockaddr_in6 for a socket of the given
// family.
func parseInet(family uint16, b []byte) (a addr, e linux.Errno) {
	if len(b) < 2 {
		return a, linux.EINVAL
	}
	fam := uint16(b[0]) | uint16(b[1])<<8
	switch {
	case family == linux.AF_INET && len(b) < 16, family == linux.AF_INET6 && len(b) < 24:
		return a, linux.EINVAL
	case fam != family:
		return a, linux.EAFNOSUPPORT
	}
	return decodeInet(b)
}

func decodeInet(b []byte) (a addr, e linux.Errno) {
	fam := uint16(b[0]) | uint16(b[1])<<8
	a.port = uint16(b[2])<<8 | uint16(b[3])
	if fam == linux.AF_INET {
		a.ip = mapped(b[4], b[5], b[6], b[7])
		return a, 0
	}
	copy(a.ip[:], b[8:24])
	if len(b) >= 28 {
		a.zone = le32(b[24:])
	}
	return a, 0
}

// appendInet encodes a as a sockaddr of the given family.
//
//go:noinline
func appendInet(b []byte, family uint16, a *addr) []byte {
	b = append(b, byte(family), 0, byte(a.port>>8), byte(a.port))
	if family == linux.AF_INET {
		b = append(b, a.ip[12:16]...)
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	b = append(b, 0, 0, 0, 0)
	b = append(b, a.ip[:]...)
	return abi.Append32(b, a.zone)
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func put32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}
