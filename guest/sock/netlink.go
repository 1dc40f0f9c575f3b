package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Routing netlink: dumps of the two interfaces, their addresses and the
// routes, which never change. Everything else gets EOPNOTSUPP or EPERM.

const (
	nlHdr       = 16
	nlError     = 2
	nlDone      = 3
	nlFlagMulti = 2
	nlDumpFlags = 0x300

	rtmNewLink  = 16
	rtmGetLink  = 18
	rtmNewAddr  = 20
	rtmGetAddr  = 22
	rtmNewRoute = 24
	rtmGetRoute = 26

	indexLo  = 1
	indexEth = 2

	// IFF_UP|IFF_LOOPBACK|IFF_RUNNING|IFF_LOWER_UP, and
	// IFF_UP|IFF_BROADCAST|IFF_RUNNING|IFF_MULTICAST|IFF_LOWER_UP.
	flagsLo  = 0x10049
	flagsEth = 0x11043
)

var ethernet = []byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}

func appendNetlink(b []byte, pid uint32) []byte {
	return abi.Append32(abi.Append32(append(b, linux.AF_NETLINK, 0, 0, 0), pid), 0)
}

var netlinkPort uint32

// bindNetlink gives s its port id, which is kept in peer.zone.
func (s *Socket) bindNetlink(sa []byte) linux.Errno {
	if len(sa) < 12 || sa[0] != linux.AF_NETLINK || sa[1] != 0 {
		return linux.EINVAL
	}
	netMu.Lock()
	defer netMu.Unlock()
	switch pid := le32(sa[4:]); {
	case s.peer.zone != 0 && pid != 0 && pid != s.peer.zone:
		return linux.EINVAL
	case pid != 0:
		s.peer.zone = pid
	default:
		s.autobindNetlink()
	}
	return 0
}

// autobindNetlink: the first socket of a process gets its pid, others
// something else. netMu is held.
func (s *Socket) autobindNetlink() {
	if s.peer.zone == 0 {
		s.peer.zone = rt.Boot().PID + netlinkPort<<22
		netlinkPort = (netlinkPort + 1) & 1023
		if s.peer.zone == 0 {
			s.peer.zone = 1
		}
	}
}

// sendNetlink answers the requests in m.
func (s *Socket) sendNetlink(m *message) (int, linux.Errno) {
	netMu.Lock()
	s.autobindNetlink()
	port := s.peer.zone
	netMu.Unlock()
	for b := m.p; len(b) >= nlHdr; {
		n := int(le32(b))
		if n < nlHdr || n > len(b) {
			break
		}
		s.answerNetlink(b[:n], port)
		b = b[min((n+3)&^3, len(b)):]
	}
	return len(m.p), 0
}

// A dump builds the messages of one reply. Its methods are kept out of line:
// nothing here is hot, and inlined they would be a tenth of the package.
type dump struct {
	b     []byte
	start int // of the message that is being built
	seq   uint32
	port  uint32
}

//go:noinline
func (d *dump) words(v ...uint32) {
	for _, w := range v {
		d.b = abi.Append32(d.b, w)
	}
}

//go:noinline
func (d *dump) begin(typ, flags uint16) {
	d.start = len(d.b)
	d.words(0, uint32(typ)|uint32(flags)<<16, d.seq, d.port)
}

//go:noinline
func (d *dump) attr(typ uint32, v ...byte) {
	d.words(uint32(4+len(v)) | typ<<16)
	d.b = append(d.b, v...)
	for len(d.b)%4 != 0 {
		d.b = append(d.b, 0)
	}
}

func (d *dump) attr32(typ, v uint32) {
	d.words(8|typ<<16, v)
}

func (d *dump) end() { put32(d.b[d.start:], uint32(len(d.b)-d.start)) }

func (s *Socket) answerNetlink(req []byte, port uint32) {
	typ := uint16(req[4]) | uint16(req[5])<<8
	flags := uint16(req[6]) | uint16(req[7])<<8
	d := &dump{seq: le32(req[8:]), port: port}
	family := byte(0)
	if len(req) > nlHdr {
		family = req[nlHdr]
	}
	e := linux.Errno(0)
	switch {
	case typ == rtmGetLink:
		d.links(req, flags&nlDumpFlags != 0)
		if len(d.b) == 0 {
			e = linux.ENODEV
		}
	case typ == rtmGetAddr && flags&nlDumpFlags != 0:
		d.addrs(family)
	case typ == rtmGetRoute && flags&nlDumpFlags != 0:
		d.routes(family)
	case typ == rtmGetAddr || typ == rtmGetRoute:
		e = linux.EOPNOTSUPP
	case typ < rtmNewLink: // control messages, ignored
		return
	default:
		e = linux.EPERM
	}
	switch {
	case e != 0:
		d.begin(nlError, 0)
		d.words(uint32(-int32(e)))
		d.b = append(d.b, req[:nlHdr]...)
		d.end()
	case flags&nlDumpFlags != 0:
		// The end comes as a datagram of its own.
		s.pushNetlink(d.b)
		d.b = d.b[:0]
		d.begin(nlDone, nlFlagMulti)
		d.words(0)
		d.end()
	}
	s.pushNetlink(d.b)
}

func (s *Socket) pushNetlink(b []byte) {
	if len(b) > 0 {
		s.deliver(nil, wholeSeg(b))
	}
}

func (d *dump) links(req []byte, all bool) {
	want := uint32(0)
	if !all && len(req) >= nlHdr+8 {
		want = le32(req[nlHdr+4:])
	}
	multi := uint16(0)
	if all {
		multi = nlFlagMulti
	}
	link := func(index, kind, flags, mtu uint32, name string, mac, brd []byte) {
		if !all && want != index {
			return
		}
		d.begin(rtmNewLink, multi)
		d.words(kind<<16, index, flags, 0)
		d.attr(3, append([]byte(name), 0)...) // IFLA_IFNAME
		d.attr32(4, mtu)                      // IFLA_MTU
		d.attr32(13, 1000)                    // IFLA_TXQLEN
		d.attr(16, 6)                         // IFLA_OPERSTATE: up
		d.attr(1, mac...)                     // IFLA_ADDRESS
		d.attr(2, brd...)                     // IFLA_BROADCAST
		d.end()
	}
	zero := make([]byte, 6)
	link(indexLo, 772, flagsLo, 65536, "lo", zero, zero)
	link(indexEth, 1, flagsEth, 1500, "eth0", ethernet, []byte{255, 255, 255, 255, 255, 255})
}

func (d *dump) addrs(family byte) {
	add := func(fam, prefix, scope byte, index uint32, label string, ip []byte) {
		if family != 0 && family != fam {
			return
		}
		d.begin(rtmNewAddr, nlFlagMulti)
		d.b = append(d.b, fam, prefix, 0x80, scope) // IFA_F_PERMANENT
		d.words(index)
		d.attr(1, ip...) // IFA_ADDRESS
		if fam == linux.AF_INET {
			d.attr(2, ip...) // IFA_LOCAL
			if index == indexEth {
				d.attr(4, ip[0], ip[1], ip[2], 255) // IFA_BROADCAST
			}
			d.attr(3, append([]byte(label), 0)...) // IFA_LABEL
		}
		d.end()
	}
	add(linux.AF_INET, 8, 254, indexLo, "lo", loop4[12:])
	add(linux.AF_INET, 24, 0, indexEth, "eth0", self4[12:])
	add(linux.AF_INET6, 128, 254, indexLo, "", loop6[:])
	add(linux.AF_INET6, 64, 0, indexEth, "", self6[:])
}

func (d *dump) routes(family byte) {
	add := func(fam, prefix, scope byte, dst, gw, src []byte) {
		if family != 0 && family != fam {
			return
		}
		d.begin(rtmNewRoute, nlFlagMulti)
		// table main, protocol kernel (boot for the default route), unicast
		proto := byte(2)
		if gw != nil {
			proto = 3
		}
		d.b = append(d.b, fam, prefix, 0, 0, 254, proto, scope, 1, 0, 0, 0, 0)
		d.attr32(15, 254) // RTA_TABLE
		if dst != nil {
			d.attr(1, dst...) // RTA_DST
		}
		if gw != nil {
			d.attr(5, gw...) // RTA_GATEWAY
		}
		if src != nil {
			d.attr(7, src...) // RTA_PREFSRC
		}
		d.attr32(4, indexEth) // RTA_OIF
		d.end()
	}
	net6 := self6
	net6[15] = 0
	gw6 := self6
	gw6[15] = 2
	add(linux.AF_INET, 0, 0, nil, []byte{10, 0, 2, 2}, nil)
	add(linux.AF_INET, 24, 253, []byte{10, 0, 2, 0}, nil, self4[12:])
	add(linux.AF_INET6, 64, 0, net6[:], nil, nil)
	add(linux.AF_INET6, 0, 0, nil, gw6[:], nil)
}
