package sock

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"noyau.dev/guest/linux"
)

// msghdr lays out a struct msghdr in e's memory, with its buffers.
type msghdr struct{ hdr, data, name, ctl []byte }

func (e *env) msg(data [][]byte, name, ctl []byte) *msghdr {
	m := &msghdr{hdr: e.alloc(56), name: e.in(name), ctl: e.in(ctl)}
	iov := e.alloc(16 * len(data))
	for i, p := range data {
		b := e.in(p)
		if i == 0 {
			m.data = b
		}
		put64(iov[16*i:], uint64(addrOf(b)))
		put64(iov[16*i+8:], uint64(len(b)))
	}
	put64(m.hdr, uint64(addrOf(m.name)))
	put64(m.hdr[8:], uint64(len(name)))
	put64(m.hdr[16:], uint64(addrOf(iov)))
	put64(m.hdr[24:], uint64(len(data)))
	put64(m.hdr[32:], uint64(addrOf(m.ctl)))
	put64(m.hdr[40:], uint64(len(ctl)))
	return m
}

func put64(b []byte, v uint64) { put32(b, uint32(v)); put32(b[4:], uint32(v>>32)) }

func (e *env) sendmsg(fd int, m *msghdr) {
	e.do("sendmsg", syscall.SYS_SENDMSG, uintptr(fd), addrOf(m.hdr), syscall.MSG_NOSIGNAL)
}

// recvmsg returns the control messages; descriptors in them are e's from then
// on and shown as "fd".
func (e *env) recvmsg(fd, n, ctl, flags int) (data []byte, fds []int) {
	m := e.msg([][]byte{make([]byte, n)}, make([]byte, 128), make([]byte, ctl))
	got, errno := e.do("recvmsg", syscall.SYS_RECVMSG, uintptr(fd), addrOf(m.hdr), uintptr(flags))
	if errno != 0 {
		return nil, nil
	}
	e.note("  data %q flags %#x name %d control %d", m.data[:min(got, n)], le32(m.hdr[48:]), le32(m.hdr[8:]), le32(m.hdr[40:]))
	for c := m.ctl[:min(int(le32(m.hdr[40:])), len(m.ctl))]; len(c) >= 16; {
		l := int(le32(c))
		e.note("  cmsg len %d level %d type %d", l, le32(c[8:]), le32(c[12:]))
		if le32(c[8:]) == linux.SOL_SOCKET && le32(c[12:]) == linux.SCM_RIGHTS {
			for p := c[16:l]; len(p) >= 4; p = p[4:] {
				fds = append(fds, int(le32(p)))
				e.fds = append(e.fds, int(le32(p)))
			}
		} else {
			e.note("  %x", c[16:l])
		}
		c = c[min(cmsgAlign(l), len(c)):]
	}
	return m.data[:min(got, n)], fds
}

func rights(fds ...int) []byte {
	b := make([]byte, 16+4*len(fds))
	put64(b, uint64(len(b)))
	put32(b[8:], linux.SOL_SOCKET)
	put32(b[12:], linux.SCM_RIGHTS)
	for i, fd := range fds {
		put32(b[16+4*i:], uint32(fd))
	}
	return append(b, make([]byte, cmsgAlign(len(b))-len(b))...)
}

func TestDiffRights(t *testing.T) {
	for _, typ := range []int{stream, seqpack, datagram} {
		t.Run(fmt.Sprint(typ&15), func(t *testing.T) {
			both(t, func(e *env) {
				a, b := unixPair(e, typ)
				x, y := unixPair(e, stream)
				one := [][]byte{[]byte("one")}
				e.sendmsg(a, e.msg(one, nil, rights(x)))
				_, fds := e.recvmsg(b, 10, 64, linux.MSG_CMSG_CLOEXEC)
				e.note("%d descriptors", len(fds))
				if len(fds) == 1 {
					e.send(fds[0], []byte("through"), 0, nil)
					e.recv(y, 10, 0)
				}
				// The last descriptor of x closes it, wherever that is.
				e.sendmsg(a, e.msg(one, nil, rights(x)))
				e.close(x)
				if len(fds) == 1 {
					e.close(fds[0])
				}
				e.poll("y", y)
				e.recv(b, 10, 0) // drops what came along
				e.poll("y", y)
				// Boundaries: rights keep messages of a stream apart.
				e.send(a, []byte("plain"), 0, nil)
				e.sendmsg(a, e.msg([][]byte{[]byte("ri"), []byte("ghts")}, nil, rights(y, y)))
				e.send(a, []byte("after"), 0, nil)
				e.recvmsg(b, 3, 64, 0)
				e.recvmsg(b, 30, 64, 0)
				e.recvmsg(b, 30, 64, 0)
				e.recvmsg(b, 30, 64, 0)
				e.recvmsg(b, 30, 64, 0)
				// Too little room for the descriptors.
				e.sendmsg(a, e.msg(one, nil, rights(y, y, y)))
				e.recvmsg(b, 30, 24, 0)
				e.sendmsg(a, e.msg(one, nil, rights(y)))
				e.recvmsg(b, 30, 0, 0)
				// A peek leaves them there.
				e.sendmsg(a, e.msg(one, nil, rights(y)))
				e.recvmsg(b, 30, 64, linux.MSG_PEEK)
				e.recvmsg(b, 30, 64, 0)
				// Bad requests.
				e.sendmsg(a, e.msg(one, nil, rights(99999)))
				bad := rights(y)
				put64(bad, 8)
				e.sendmsg(a, e.msg(one, nil, bad))
				bad = rights(y)
				put64(bad, 1<<20)
				e.sendmsg(a, e.msg(one, nil, bad))
				e.recvmsg(b, 30, 64, 0)
				// Descriptors on the way when both ends close.
				e.sendmsg(a, e.msg(one, nil, rights(y, a, b)))
			})
		})
	}
}

func TestDiffCredentials(t *testing.T) {
	both(t, func(e *env) {
		a, b := unixPair(e, stream)
		e.setint(b, linux.SOL_SOCKET, linux.SO_PASSCRED, 1)
		e.getint(b, linux.SOL_SOCKET, linux.SO_PASSCRED)
		e.send(a, []byte("x"), 0, nil)
		e.recvmsg(b, 10, 64, 0)
		p, l := e.alloc(12), e.alloc(4)
		put32(l, 12)
		e.do("peercred", syscall.SYS_GETSOCKOPT, uintptr(a), linux.SOL_SOCKET, linux.SO_PEERCRED, addrOf(p), addrOf(l))
		e.note("%x", p)
		bad := make([]byte, 32)
		put64(bad, 28)
		put32(bad[8:], linux.SOL_SOCKET)
		put32(bad[12:], linux.SCM_CREDENTIALS)
		copy(bad[16:], p)
		e.sendmsg(a, e.msg([][]byte{[]byte("own")}, nil, bad))
		e.recvmsg(b, 10, 64, 0)
	})
}

func TestDiffPktinfo(t *testing.T) {
	both(t, func(e *env) {
		a, b := e.socket(linux.AF_INET, datagram, 0), e.socket(linux.AF_INET, datagram, 0)
		e.bind(a, inet(linux.AF_INET, "0.0.0.0", 0))
		to := inet(linux.AF_INET, "127.0.0.1", portOf(e.sockname(a, false)))
		e.setint(a, linux.IPPROTO_IP, linux.IP_PKTINFO, 1)
		e.getint(a, linux.IPPROTO_IP, linux.IP_PKTINFO)
		e.send(b, []byte("with info"), 0, to)
		e.recvmsg(a, 20, 128, 0)
		e.send(b, []byte("with info"), 0, to)
		e.recvmsg(a, 4, 10, 0)
		e.sendmsg(b, e.msg([][]byte{[]byte("gat"), nil, []byte("hered")}, to, nil))
		e.recvmsg(a, 20, 0, 0)
		c := e.socket(linux.AF_INET6, datagram, 0)
		e.bind(c, inet(linux.AF_INET6, "::", 0))
		e.setint(c, linux.IPPROTO_IPV6, linux.IPV6_RECVPKTINFO, 1)
		e.send(c, []byte("six"), 0, inet(linux.AF_INET6, "::1", portOf(e.sockname(c, false))))
		e.recvmsg(c, 20, 128, 0)
		e.send(b, []byte("four"), 0, inet(linux.AF_INET, "127.0.0.1", portOf(e.sockname(c, false))))
		e.recvmsg(c, 20, 128, 0)
	})
}

// TestDiffMany sends and receives several messages by one call.
func TestDiffMany(t *testing.T) {
	both(t, func(e *env) {
		a, b := unixPair(e, datagram)
		v := e.alloc(3 * 64)
		for i := range 3 {
			copy(v[64*i:], e.msg([][]byte{bytes.Repeat([]byte("x"), i+1)}, nil, nil).hdr)
		}
		e.do("sendmmsg", syscall.SYS_SENDTO, 0, 0, 0, 0, 0, 0) // a bad descriptor first
		e.do("sendmmsg", 307, uintptr(a), addrOf(v), 3, 0)
		for i := range 3 {
			e.note("%d", le32(v[64*i+56:]))
		}
		for i := range 3 {
			copy(v[64*i:], e.msg([][]byte{make([]byte, 10)}, nil, nil).hdr)
		}
		e.do("recvmmsg", 299, uintptr(b), addrOf(v), 2, linux.MSG_WAITFORONE, 0)
		e.do("recvmmsg", 299, uintptr(b), addrOf(v), 3, 0, 0)
		e.do("recvmmsg", 299, uintptr(b), addrOf(v), 3, 0, 0)
	})
}
