package sock

import (
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Requests of ioctl(2) on sockets.
const (
	siocOutq      = 0x5411
	siocGetName   = 0x8910
	siocGetFlags  = 0x8913
	siocGetAddr   = 0x8915
	siocGetBrd    = 0x8919
	siocGetMask   = 0x891b
	siocGetMTU    = 0x8921
	siocGetHwaddr = 0x8927
	siocGetIndex  = 0x8933
)

// ifreq is struct ifreq: a name and a union.
type ifreq struct {
	name [16]byte
	u    [24]byte
}

// Ioctl implements kernel.File: the bytes to be read or sent, and what there is
// to know about the interfaces.
func (s *Socket) Ioctl(req, arg uintptr) (uintptr, linux.Errno) {
	switch req {
	case linux.FIONREAD:
		n, e := s.unread()
		if e == 0 {
			e = kernel.Put(arg, int32(n))
		}
		return 0, e
	case siocOutq:
		n := 0
		if h := s.tx; h != nil && s.st.Load() == stConnected {
			h.mu.Lock()
			n = h.q.n
			h.mu.Unlock()
		}
		return 0, kernel.Put(arg, int32(n))
	case siocGetName, siocGetFlags, siocGetAddr, siocGetBrd, siocGetMask, siocGetMTU, siocGetHwaddr, siocGetIndex:
		r, e := kernel.Ptr[ifreq](arg)
		if e != 0 {
			return 0, e
		}
		return 0, r.answer(req)
	}
	return 0, linux.ENOTTY
}

func (s *Socket) unread() (int, linux.Errno) {
	if h := s.host.Load(); h != nil && s.st.Load() != stListen {
		// What one peek of a large buffer finds; the host has no call for it.
		p := kernel.GetBuffer(64 << 10)
		defer kernel.PutBuffer(p)
		n, e := host.Recv(h.fd, *p, linux.MSG_PEEK)
		if e == linux.EAGAIN {
			return 0, 0
		}
		return n, e
	}
	switch {
	case s.d != nil:
		s.d.mu.Lock()
		defer s.d.mu.Unlock()
		if g := s.d.q.head; g != nil {
			return g.w - g.r, 0
		}
		return 0, 0
	case s.st.Load() == stListen:
		return 0, linux.EINVAL
	case s.rx == nil:
		return 0, 0
	}
	s.rx.mu.Lock()
	defer s.rx.mu.Unlock()
	return s.rx.q.n, 0
}

// answer fills in what is asked about the interface that r names (or, for its
// name, numbers).
func (r *ifreq) answer(req uintptr) linux.Errno {
	if req == siocGetName {
		clear(r.name[:])
		switch le32(r.u[:]) {
		case indexLo:
			copy(r.name[:], "lo")
		case indexEth:
			copy(r.name[:], "eth0")
		default:
			return linux.ENODEV
		}
		return 0
	}
	eth := false
	switch cstring(r.name[:]) {
	case "lo":
	case "eth0":
		eth = true
	default:
		return linux.ENODEV
	}
	pick := func(lo, e uint32) uint32 {
		if eth {
			return e
		}
		return lo
	}
	inet4 := func(lo, e [16]byte) {
		if eth {
			lo = e
		}
		clear(r.u[:16])
		r.u[0] = linux.AF_INET
		copy(r.u[4:8], lo[12:])
	}
	switch req {
	case siocGetFlags:
		v := pick(flagsLo, flagsEth)
		r.u[0], r.u[1] = byte(v), byte(v>>8)
	case siocGetAddr:
		inet4(loop4, self4)
	case siocGetBrd:
		inet4(any4, mapped(10, 0, 2, 255))
	case siocGetMask:
		inet4(mapped(255, 0, 0, 0), mapped(255, 255, 255, 0))
	case siocGetMTU:
		put32(r.u[:], pick(65536, 1500))
	case siocGetIndex:
		put32(r.u[:], pick(indexLo, indexEth))
	case siocGetHwaddr:
		clear(r.u[:16])
		kind := pick(772, 1)
		r.u[0], r.u[1] = byte(kind), byte(kind>>8)
		if eth {
			copy(r.u[2:], ethernet)
		}
	}
	return 0
}

func cstring(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
