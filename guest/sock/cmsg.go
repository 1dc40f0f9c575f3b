package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// An anc is the ancillary data of one message of a unix socket. Its methods
// take a nil receiver. It owns a reference to each description.
type anc struct {
	files []*kernel.Desc
}

// drop gives the references up. It may close files: hold no lock.
func (a *anc) drop() {
	if a == nil {
		return
	}
	for _, d := range a.files {
		d.Put()
	}
	a.files = nil
}

func (a *anc) clone() *anc {
	if a == nil {
		return nil
	}
	c := &anc{}
	for _, d := range a.files {
		if d.Hold() {
			c.files = append(c.files, d)
		}
	}
	return c
}

// give hands a to who asked for it, or drops it.
func (a *anc) give(to **anc) {
	if to != nil {
		*to = a
	} else {
		a.drop()
	}
}

const cmsgHdr = 16

func cmsgAlign(n int) int { return (n + 7) &^ 7 }

// parseControl reads the control messages of a sendmsg.
func (s *Socket) parseControl(b []byte) (*anc, linux.Errno) {
	var a *anc
	for len(b) >= cmsgHdr {
		n := int(uint32(le32(b)))
		if n < cmsgHdr || n > len(b) {
			a.drop()
			return nil, linux.EINVAL
		}
		level, typ, data := le32(b[8:]), le32(b[12:]), b[cmsgHdr:n]
		e := linux.Errno(0)
		switch {
		case level != linux.SOL_SOCKET:
			// IP_PKTINFO, IP_TOS and their like choose what there is no choice
			// of here.
			if s.isUnix() || level != linux.IPPROTO_IP && level != linux.IPPROTO_IPV6 {
				e = linux.EINVAL
			}
			if level == linux.IPPROTO_UDP {
				e = linux.EINVAL
			}
		case !s.isUnix():
			e = linux.EINVAL
		case typ == linux.SCM_RIGHTS:
			if a == nil {
				a = &anc{}
			}
			e = a.take(data)
		case typ == linux.SCM_CREDENTIALS:
			e = checkCred(data)
		default:
			e = linux.EINVAL
		}
		if e != 0 {
			a.drop()
			return nil, e
		}
		b = b[min(cmsgAlign(n), len(b)):]
	}
	if a != nil && len(a.files) == 0 {
		return nil, 0
	}
	return a, 0
}

// take adds the descriptions of the descriptors in b.
func (a *anc) take(b []byte) linux.Errno {
	for ; len(b) >= 4; b = b[4:] {
		if len(a.files) == maxRights {
			return linux.EINVAL
		}
		d, e := kernel.Get(uintptr(le32(b)))
		if e != 0 {
			return e
		}
		a.files = append(a.files, d)
	}
	return 0
}

// checkCred lets a process claim no credentials but its own.
func checkCred(b []byte) linux.Errno {
	if len(b) < 12 {
		return linux.EINVAL
	}
	boot := rt.Boot()
	if le32(b) != boot.PID {
		return linux.ESRCH
	}
	if le32(b[4:]) != boot.UID || le32(b[8:]) != boot.GID {
		return linux.EPERM
	}
	return 0
}

func appendCred(b []byte) []byte {
	boot := rt.Boot()
	return abi.Append32(abi.Append32(abi.Append32(b, boot.PID), boot.UID), boot.GID)
}

// A control fills the control buffer of a recvmsg.
type control struct {
	b     []byte
	n     int
	flags int // MSG_CTRUNC
}

// put adds a message, cut to what fits.
func (c *control) put(level, typ uint32, data []byte) {
	free := len(c.b) - c.n
	if free < cmsgHdr {
		c.flags |= linux.MSG_CTRUNC
		return
	}
	n := cmsgHdr + len(data)
	if n > free {
		c.flags |= linux.MSG_CTRUNC
		n = free
	}
	h := c.b[c.n:]
	put32(h, uint32(n))
	put32(h[4:], 0)
	put32(h[8:], level)
	put32(h[12:], typ)
	copy(h[cmsgHdr:n], data)
	c.n += min(cmsgAlign(n), free)
}

// putRights installs the descriptions of a, as many as fit; the rest is closed.
func (c *control) putRights(a *anc, cloexec bool) {
	room := (len(c.b) - c.n - cmsgHdr) / 4
	var fds []byte
	for i, d := range a.files {
		var fd uintptr
		e := linux.EMFILE
		if i < room {
			fd, e = kernel.InstallDesc(d, cloexec, 0)
		}
		if e != 0 {
			c.flags |= linux.MSG_CTRUNC
			d.Put()
			continue
		}
		fds = abi.Append32(fds, uint32(fd))
	}
	a.files = nil
	if len(fds) > 0 {
		c.put(linux.SOL_SOCKET, linux.SCM_RIGHTS, fds)
	}
}

// control writes what m carries into b, for a recvmsg with the given flags.
func (s *Socket) control(m *message, b []byte) (n, flags int) {
	c := control{b: b}
	if s.isUnix() {
		if s.opt(linux.SOL_SOCKET, linux.SO_PASSCRED) != 0 {
			var cred [12]byte
			c.put(linux.SOL_SOCKET, linux.SCM_CREDENTIALS, appendCred(cred[:0]))
		}
		if m.got != nil {
			c.putRights(m.got, m.flags&linux.MSG_CMSG_CLOEXEC != 0)
		}
		return c.n, c.flags
	}
	if s.d == nil || !m.hasFrom || s.family == linux.AF_NETLINK {
		return 0, 0
	}
	index := uint32(2)
	if isLoopback(&m.to) {
		index = 1
	}
	var info [20]byte
	if s.d.pktinfo && s.family == linux.AF_INET {
		put32(info[:], index)
		copy(info[4:8], m.to[12:])
		copy(info[8:12], m.to[12:])
		c.put(linux.IPPROTO_IP, linux.IP_PKTINFO, info[:12])
	}
	if s.d.pkt6 && s.family == linux.AF_INET6 {
		copy(info[:], m.to[:])
		put32(info[16:], index)
		c.put(linux.IPPROTO_IPV6, linux.IPV6_PKTINFO, info[:20])
	}
	return c.n, c.flags
}
