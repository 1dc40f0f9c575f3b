package sock

import (
	"encoding/binary"
	"math/rand"
	"net"
	"syscall"
	"testing"

	"noyau.dev/guest/linux"
)

// TestHostileArguments makes every call with arguments that make no sense:
// nothing may panic, and nothing may block.
func TestHostileArguments(t *testing.T) {
	e := ours(t)
	r := rand.New(rand.NewSource(1))
	calls := []uintptr{41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 288, 299, 307, 16}
	fds := func() uintptr {
		if len(e.fds) == 0 || r.Intn(10) == 0 {
			return uintptr(r.Intn(2000)) + 1000
		}
		return uintptr(e.fds[r.Intn(len(e.fds))])
	}
	pointer := func() uintptr {
		switch r.Intn(6) {
		case 0:
			return 0
		case 1:
			return uintptr(r.Intn(4096))
		case 2:
			return ^uintptr(0) - uintptr(r.Intn(100))
		}
		p := e.alloc(512)
		r.Read(p)
		// Something like a sockaddr or a cmsghdr, half of the time.
		switch r.Intn(4) {
		case 0:
			binary.LittleEndian.PutUint16(p, []uint16{0, 1, 2, 10, 16}[r.Intn(5)])
		case 1:
			binary.LittleEndian.PutUint64(p, uint64(r.Intn(64)))
			binary.LittleEndian.PutUint32(p[8:], uint32(r.Intn(2)))
			binary.LittleEndian.PutUint32(p[12:], uint32(r.Intn(4)))
		}
		return addrOf(p)
	}
	// The app's memory is its own: a wild pointer into it faults, as it should.
	// So structures have good pointers, or such as no program can have.
	message := func() uintptr {
		p := e.alloc(512)
		r.Read(p)
		binary.LittleEndian.PutUint16(p, []uint16{0, 1, 2, 10, 16}[r.Intn(5)])
		c := e.alloc(64)
		r.Read(c)
		put64(c, uint64(r.Intn(70)))
		put32(c[8:], uint32(r.Intn(2)))
		put32(c[12:], uint32(r.Intn(4)))
		m := e.msg([][]byte{make([]byte, r.Intn(100)), make([]byte, r.Intn(100))}[:1+r.Intn(2)], p[:r.Intn(140)], c[:r.Intn(64)])
		if r.Intn(4) == 0 {
			put64(m.hdr[8*[]int{0, 2, 4}[r.Intn(3)]:], uint64(small(r)))
		}
		if r.Intn(8) == 0 {
			put64(m.hdr[24:], []uint64{0, 1025, 1 << 62}[r.Intn(3)])
		}
		return addrOf(m.hdr)
	}
	for i := range 60000 {
		if len(e.fds) < 12 {
			kind := [][2]int{{1, 1}, {1, 2}, {1, 5}, {2, 1}, {2, 2}, {10, 1}, {10, 2}, {16, 3}}[r.Intn(8)]
			e.socket(kind[0], kind[1]|linux.SOCK_NONBLOCK, 0)
		}
		nr := calls[r.Intn(len(calls))]
		a := [6]uintptr{fds(), pointer(), small(r), small(r), pointer(), small(r)}
		switch nr {
		case 51, 52: // getsockname, getpeername
			a[2] = pointer()
		case 43, 288: // accept
			a[2], a[3] = pointer(), linux.SOCK_NONBLOCK
		case 46, 47: // sendmsg, recvmsg; what accept(2) gave is in blocking mode
			a[1], a[2] = message(), a[2]|linux.MSG_DONTWAIT
		case 299, 307: // recvmmsg, sendmmsg
			v := e.alloc(64)
			copy(v, bytesOf(e, message()))
			a[1], a[2], a[3] = addrOf(v), uintptr(r.Intn(2)), a[3]|linux.MSG_DONTWAIT
		case 44, 45: // sendto, recvfrom
			a[2], a[3] = uintptr(r.Intn(400)), a[3]|linux.MSG_DONTWAIT
			if nr == 45 {
				a[5] = pointer()
			}
		case 54, 55: // setsockopt, getsockopt
			a = [6]uintptr{fds(), []uintptr{0, 1, 6, 17, 41, 270}[r.Intn(6)], uintptr(r.Intn(70)), pointer(), uintptr(r.Intn(300)), 0}
			if nr == 55 {
				p := e.alloc(8)
				put32(p, uint32(small(r)))
				a[4] = addrOf(p)
			}
		case 41, 53:
			if i%50 != 0 { // keep the table of descriptors small
				continue
			}
			a = [6]uintptr{uintptr(r.Intn(20)), uintptr(r.Intn(8) | linux.SOCK_NONBLOCK), uintptr(r.Intn(20)), pointer()}
		case 16: // ioctl
			a[1], a[2] = []uintptr{0x541b, 0x5411, 0x8910, 0x8913, 0x8915, 0x8933}[r.Intn(6)], pointer()
		}
		fd, errno := e.call(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == 0 && (nr == 41 || nr == 43 || nr == 288) {
			e.fds = append(e.fds, int(fd))
		}
		if len(e.fds) > 20 || i%1000 == 999 {
			e.closeAll()
		}
		e.log = e.log[:0]
	}
}

func small(r *rand.Rand) uintptr {
	v := []uintptr{0, 1, 2, 4, 8, 12, 16, 20, 28, 110, 128, 129, ^uintptr(0), 1 << 63, 1 << 47}
	return v[r.Intn(len(v))]
}

// bytesOf is the 56 bytes of e's memory at addr.
func bytesOf(e *env, addr uintptr) []byte {
	i := addr - addrOf(e.mem)
	return e.mem[i : i+56]
}

// TestNetlink reads the tables as package net does, with its own parser.
func TestNetlink(t *testing.T) {
	e := ours(t)
	dump := func(typ uint16, family byte) (out []syscall.NetlinkMessage) {
		s := e.socket(linux.AF_NETLINK, linux.SOCK_RAW|linux.SOCK_NONBLOCK, linux.NETLINK_ROUTE)
		defer e.close(s)
		sa := make([]byte, 12)
		sa[0] = linux.AF_NETLINK
		e.bind(s, sa)
		port := le32(e.sockname(s, false)[4:])
		req := make([]byte, 17)
		put32(req, 17)
		binary.LittleEndian.PutUint16(req[4:], typ)
		binary.LittleEndian.PutUint16(req[6:], syscall.NLM_F_DUMP|syscall.NLM_F_REQUEST)
		put32(req[8:], 1)
		req[16] = family
		e.send(s, req, 0, sa)
		for range 10 {
			b := e.recv(s, 4096, 0)
			msgs, err := syscall.ParseNetlinkMessage(b)
			if err != nil || len(msgs) == 0 {
				t.Fatalf("reply %x: %v", b, err)
			}
			for _, m := range msgs {
				if m.Header.Pid != port || m.Header.Seq != 1 {
					t.Fatalf("header %+v, want port %d", m.Header, port)
				}
				if m.Header.Type == syscall.NLMSG_DONE {
					return out
				}
				out = append(out, m)
			}
		}
		t.Fatal("a dump without an end")
		return nil
	}
	attrs := func(m syscall.NetlinkMessage) map[uint16][]byte {
		as, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			t.Fatal(err)
		}
		out := map[uint16][]byte{}
		for _, a := range as {
			out[a.Attr.Type] = a.Value
		}
		return out
	}
	var names []string
	for _, m := range dump(syscall.RTM_GETLINK, 0) {
		names = append(names, string(attrs(m)[syscall.IFLA_IFNAME]))
	}
	if len(names) != 2 || names[0] != "lo\x00" || names[1] != "eth0\x00" {
		t.Errorf("links %q", names)
	}
	got := map[string]byte{}
	for _, m := range dump(syscall.RTM_GETADDR, 0) {
		got[net.IP(attrs(m)[syscall.IFA_ADDRESS]).String()] = m.Data[1]
	}
	want := map[string]byte{"127.0.0.1": 8, "10.0.2.15": 24, "::1": 128, "fd00::15": 64}
	for a, n := range want {
		if got[a] != n {
			t.Errorf("address %s has prefix %d, want %d", a, got[a], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("addresses %v", got)
	}
	if n := len(dump(syscall.RTM_GETADDR, linux.AF_INET)); n != 2 {
		t.Errorf("%d IPv4 addresses, want 2", n)
	}
	var gw string
	for _, m := range dump(syscall.RTM_GETROUTE, linux.AF_INET) {
		if v := attrs(m)[syscall.RTA_GATEWAY]; v != nil {
			gw = net.IP(v).String()
		}
	}
	if gw != "10.0.2.2" {
		t.Errorf("gateway %q", gw)
	}
}
