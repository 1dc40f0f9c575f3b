package sock

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func (s *Socket) isStream() bool { return s.typ == linux.SOCK_STREAM }

// sendAll sends m, waiting if d is in blocking mode; all of a stream then.
func sendAll(d *kernel.Desc, s *Socket, m *message) (int, linux.Errno) {
	wait := !d.Nonblock() && m.flags&linux.MSG_DONTWAIT == 0
	total := 0
	for {
		n, e := s.send(m)
		if n > 0 {
			total += n
			m.p, m.anc = m.p[n:], nil
		}
		switch {
		case e == linux.EAGAIN && wait:
			if !s.isStream() {
				// There may be room, but not for this message: Ready knows no
				// better, so let the receiver run.
				rt.Gosched()
			}
			if kernel.Wait(s, rt.Out, s.deadline(linux.SO_SNDTIMEO)) == 0 {
				continue
			}
		case e == 0 && wait && s.isStream() && len(m.p) > 0:
			continue
		}
		if total > 0 {
			e = 0
		}
		return total, e
	}
}

// recvWait receives into m, waiting if d is in blocking mode; with MSG_WAITALL
// until a stream has filled the buffer.
func recvWait(d *kernel.Desc, s *Socket, m *message) (int, linux.Errno) {
	wait := !d.Nonblock() && m.flags&linux.MSG_DONTWAIT == 0
	all := wait && m.flags&linux.MSG_WAITALL != 0 && m.flags&linux.MSG_PEEK == 0 && s.isStream()
	m.wait = wait
	total := 0
	for {
		n, e := s.recv(m)
		total += n
		switch {
		case e == linux.EAGAIN && wait:
			if kernel.Wait(s, rt.In, s.deadline(linux.SO_RCVTIMEO)) == 0 {
				continue
			}
		case e == 0 && all && n > 0 && n < len(m.p) && m.got == nil:
			m.p = m.p[n:]
			continue
		}
		if total > 0 {
			e = 0
		}
		return total, e
	}
}

func sysSendto(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	var m message
	if m.p, e = kernel.Bytes(a.A2, a.A3); e != 0 {
		return 0, e
	}
	m.flags = int(int32(a.A4))
	if a.A5 != 0 {
		if m.addr, e = sockaddr(a.A5, a.A6); e != 0 {
			return 0, e
		}
	}
	n, e := sendAll(d, s, &m)
	return uintptr(n), e
}

func sysRecvfrom(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	var m message
	if m.p, e = kernel.Bytes(a.A2, a.A3); e != 0 {
		return 0, e
	}
	m.flags = int(int32(a.A4))
	n, e := recvWait(d, s, &m)
	if e != 0 {
		return 0, e
	}
	m.got.drop()
	if a.A5 != 0 {
		var b [128]byte
		if e := putName(a.A5, a.A6, s.fromAddr(&m, b[:0])); e != 0 {
			return 0, e
		}
	}
	return uintptr(n), 0
}

// buffers returns the data buffers of a msghdr as one: that of the app if there
// is one only, else a copy to be gathered or scattered.
func buffers(h *linux.Msghdr) (p []byte, iov []linux.Iovec, e linux.Errno) {
	if h.Iovlen > maxIov {
		return nil, nil, linux.EMSGSIZE
	}
	v, e := kernel.Slice[linux.Iovec](h.Iov, h.Iovlen)
	if e != 0 {
		return nil, nil, e
	}
	if len(v) == 1 {
		p, e = kernel.Bytes(v[0].Base, v[0].Len)
		return p, nil, e
	}
	total := uintptr(0)
	iov = append(iov, v...)
	for i := range iov {
		if _, e = kernel.Bytes(iov[i].Base, iov[i].Len); e != 0 {
			return nil, nil, e
		}
		// A stream moves a part only; a datagram of that size is too long for
		// any socket, cut or not.
		iov[i].Len = min(iov[i].Len, maxGather-total)
		total += iov[i].Len
	}
	return make([]byte, total), iov, 0
}

func eachBuffer(iov []linux.Iovec, p []byte, f func(app, part []byte)) {
	for _, v := range iov {
		b, _ := kernel.Bytes(v.Base, v.Len)
		b = b[:min(len(b), len(p))]
		f(b, p[:len(b)])
		p = p[len(b):]
	}
}

func sendmsg(d *kernel.Desc, s *Socket, hdr *linux.Msghdr, flags int) (int, linux.Errno) {
	h := *hdr
	m := message{flags: flags}
	p, iov, e := buffers(&h)
	if e != 0 {
		return 0, e
	}
	eachBuffer(iov, p, func(app, part []byte) { copy(part, app) })
	m.p = p
	if h.Name != 0 && h.Namelen > 0 {
		if m.addr, e = sockaddr(h.Name, uintptr(h.Namelen)); e != 0 {
			return 0, e
		}
	}
	if h.Control != 0 && h.Controllen > 0 {
		c, e := kernel.Bytes(h.Control, h.Controllen)
		if e != 0 {
			return 0, e
		}
		if m.anc, e = s.parseControl(c); e != 0 {
			return 0, e
		}
	}
	a := m.anc
	n, e := sendAll(d, s, &m)
	if e != 0 || n == 0 && s.isStream() {
		a.drop()
	}
	return n, e
}

func recvmsg(d *kernel.Desc, s *Socket, hdr *linux.Msghdr, flags int) (int, linux.Errno) {
	h := *hdr
	p, iov, e := buffers(&h)
	if e != 0 {
		return 0, e
	}
	ctl, e := kernel.Bytes(h.Control, h.Controllen)
	if e != 0 {
		return 0, e
	}
	m := message{p: p, flags: flags}
	n, e := recvWait(d, s, &m)
	if e != 0 {
		return 0, e
	}
	eachBuffer(iov, p[:min(n, len(p))], func(app, part []byte) { copy(app, part) })
	var b [128]byte
	if h.Name != 0 {
		name := s.fromAddr(&m, b[:0])
		q, e := kernel.Bytes(h.Name, min(uintptr(h.Namelen), uintptr(len(name))))
		if e != 0 {
			m.got.drop()
			return 0, e
		}
		copy(q, name)
		hdr.Namelen = uint32(len(name))
	}
	cn, cflags := s.control(&m, ctl)
	hdr.Controllen = uintptr(cn)
	hdr.Flags = int32(m.out | cflags | flags&linux.MSG_CMSG_CLOEXEC)
	return n, 0
}

func sysSendmsg(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	h, e := kernel.Ptr[linux.Msghdr](a.A2)
	if e != 0 {
		return 0, e
	}
	n, e := sendmsg(d, s, h, int(int32(a.A3)))
	return uintptr(n), e
}

func sysRecvmsg(a kernel.Args) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	h, e := kernel.Ptr[linux.Msghdr](a.A2)
	if e != 0 {
		return 0, e
	}
	n, e := recvmsg(d, s, h, int(int32(a.A3)))
	return uintptr(n), e
}

func sysSendmmsg(a kernel.Args) (uintptr, linux.Errno) {
	return many(a, func(d *kernel.Desc, s *Socket, h *linux.Msghdr, i int) (int, linux.Errno) {
		return sendmsg(d, s, h, int(int32(a.A4)))
	})
}

func sysRecvmmsg(a kernel.Args) (uintptr, linux.Errno) {
	flags := int(int32(a.A4))
	return many(a, func(d *kernel.Desc, s *Socket, h *linux.Msghdr, i int) (int, linux.Errno) {
		f := flags &^ linux.MSG_WAITFORONE
		if i > 0 && flags&linux.MSG_WAITFORONE != 0 {
			f |= linux.MSG_DONTWAIT
		}
		return recvmsg(d, s, h, f)
	})
}

// many does f for each of an array of messages, until one fails. An error is
// reported only if it is the first's.
func many(a kernel.Args, f func(*kernel.Desc, *Socket, *linux.Msghdr, int) (int, linux.Errno)) (uintptr, linux.Errno) {
	d, s, e := get(a.A1)
	if e != 0 {
		return 0, e
	}
	defer d.Put()
	v, e := kernel.Slice[linux.Mmsghdr](a.A2, min(uintptr(uint32(a.A3)), maxIov))
	if e != 0 {
		return 0, e
	}
	for i := range v {
		n, e := f(d, s, &v[i].Hdr, i)
		if e != 0 {
			if i == 0 {
				return 0, e
			}
			return uintptr(i), 0
		}
		v[i].Len = uint32(n)
	}
	return uintptr(len(v)), 0
}
