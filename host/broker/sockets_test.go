package broker

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/policy"
)

var loop = netip.MustParseAddr("127.0.0.1")

func (g *guest) hostPort(p policy.Publish) string {
	return g.bound[p].String()
}

func dial(t testing.TB, to string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", to, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wait waits until fd is readable.
func wait(t testing.TB, fd int) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 10000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Fatalf("nothing arrived (%v)", err)
		}
		return
	}
}

func accept(t testing.TB, fd int) int {
	t.Helper()
	wait(t, fd)
	c, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c) })
	return c
}

func TestListen(t *testing.T) {
	pub := policy.Publish{IP: loop, GuestPort: 80}
	g := start(t, setup{publish: []policy.Publish{pub}})
	host := g.hostPort(pub)
	refused := func() {
		t.Helper()
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			t.Error("connected although the app does not listen")
		}
	}
	refused()
	// Nobody else gets the port meanwhile.
	if l, err := net.Listen("tcp", host); err == nil {
		l.Close()
		t.Error("another program could take the published port")
	}
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 128}, addr("0.0.0.0:81"))
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 128}, addr("127.0.0.1:80"))
	g.refused(unix.EPROTONOSUPPORT, abi.Msg{Op: abi.OpListen, A: 132}, addr("0.0.0.0:80"))
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP}, addr("0.0.0.0:80")[:20])

	for range 2 { // listen, close, listen again
		l := g.must(abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 128}, addr("0.0.0.0:80"))
		c := dial(t, host)
		s := accept(t, l.fd)
		for _, o := range [][3]int{{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}} {
			if v, err := unix.GetsockoptInt(s, o[0], o[1]); v == 0 || err != nil || o[1] == unix.TCP_KEEPIDLE && v != o[2] {
				t.Errorf("accepted socket: option %v is %d (%v)", o, v, err)
			}
		}
		// Options and shutdown of a connection that only the guest has.
		if a := g.must(abi.Msg{Op: abi.OpSockopt, A: unix.IPPROTO_TCP, B: unix.TCP_NODELAY}, nil, s); a.A != 1 {
			t.Errorf("TCP_NODELAY: %d", a.A)
		}
		g.must(abi.Msg{Op: abi.OpSockopt, A: unix.SOL_SOCKET, B: unix.SO_KEEPALIVE, C: 0, D: 1}, nil, s)
		if v, _ := unix.GetsockoptInt(s, unix.SOL_SOCKET, unix.SO_KEEPALIVE); v != 0 {
			t.Error("SO_KEEPALIVE was not switched off")
		}
		g.must(abi.Msg{Op: abi.OpShut, A: unix.SHUT_WR}, nil, s)
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after shutdown the client reads %v", err)
		}
		unix.Close(l.fd)
		g.send(abi.Msg{Op: abi.OpDrop, Handle: l.Handle}, nil)
		g.refused(unix.EBADF, abi.Msg{Op: abi.OpSockopt, Handle: l.Handle, A: unix.SOL_SOCKET, B: unix.SO_ERROR}, nil)
		refused()
	}
}

func TestPublishedOnEveryAddress(t *testing.T) {
	pub := policy.Publish{GuestPort: 80}
	g := start(t, setup{publish: []policy.Publish{pub}})
	_, port, _ := net.SplitHostPort(g.hostPort(pub))
	l := g.must(abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 16}, addr("[::]:80"))
	dial(t, "127.0.0.1:"+port)
	accept(t, l.fd)
	if c, err := net.Dial("tcp", "[::1]:"+port); err == nil {
		defer c.Close()
		accept(t, l.fd)
	} else {
		t.Logf("this host has no IPv6: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, ip := range []netip.Addr{loop, {}} {
		if ps, err := OpenPorts([]policy.Publish{{IP: ip, HostPort: port, GuestPort: 80}}); err == nil {
			ps.Close()
			t.Errorf("port in use on %v: no error", ip)
		} else if !strings.Contains(err.Error(), strconv.Itoa(int(port))) {
			t.Errorf("error without the port: %v", err)
		}
	}
	if _, err := OpenPorts([]policy.Publish{{IP: loop, GuestPort: 80}, {IP: loop, GuestPort: 80}}); err == nil {
		t.Error("one guest port published twice: no error")
	}
}

// A port must be free for the next run though connections of the last linger.
func TestPortAgain(t *testing.T) {
	pub := policy.Publish{IP: loop, GuestPort: 80}
	for range 3 {
		g := start(t, setup{publish: []policy.Publish{pub}})
		l := g.must(abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 16}, addr("0.0.0.0:80"))
		pub.HostPort = g.bound[pub].Port()
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(pub.HostPort)))
		if err != nil {
			t.Fatal(err)
		}
		s := accept(t, l.fd)
		unix.Shutdown(s, unix.SHUT_RDWR) // the server's side closes first: TIME_WAIT
		c.Close()
		unix.Close(l.fd)
		g.close()
		<-g.b.Done()
	}
}

func TestConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	tcp := abi.Msg{Op: abi.OpConnect, A: abi.ProtoTCP}

	g := start(t, setup{})
	for _, to := range []string{"127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.2.2", "169.254.169.254", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]", "10.0.2.3", "[fe80::1]", "224.0.0.1", "255.255.255.255"} {
		g.refused(unix.EACCES, tcp, addr(to+":"+port))
	}
	g.refused(unix.EACCES, tcp, addr("10.1.1.1:0"))
	g.refused(unix.EPROTONOSUPPORT, abi.Msg{Op: abi.OpConnect, A: 1}, addr("10.0.2.2:80"))
	g.refused(unix.EINVAL, tcp, append(addr("10.0.2.2:80"), 1, 2, 3))
	g.refused(unix.EINVAL, tcp, make([]byte, 5000))

	g = start(t, setup{net: policy.Net{HostLoopback: true}})
	a := g.must(tcp, append(addr("10.0.2.2:"+port), addr("0.0.0.0:0")...))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	local, _, err := takeAddr(a.payload)
	if want := c.RemoteAddr().(*net.TCPAddr).Port; err != nil || local != netip.AddrPortFrom(guest4, uint16(want)) {
		t.Errorf("local address %v; want 10.0.2.15:%d", local, want)
	}
	g.must(abi.Msg{Op: abi.OpShut, Handle: a.Handle, A: unix.SHUT_WR}, nil)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after shutdown: %v", err)
	}
	g.must(abi.Msg{Op: abi.OpSockopt, Handle: a.Handle, A: unix.SOL_SOCKET, B: unix.SO_LINGER, C: 1, D: 1}, nil)
	g.must(abi.Msg{Op: abi.OpSockopt, Handle: a.Handle, A: unix.SOL_SOCKET, B: unix.SO_LINGER, C: 1 | 60<<32, D: 1}, nil)
	if v := g.must(abi.Msg{Op: abi.OpSockopt, Handle: a.Handle, A: unix.SOL_SOCKET, B: unix.SO_LINGER}, nil).A; v&1 != 0 {
		t.Error("a lingering close with a time is in force")
	}
	l.Close()
	g.refused(unix.ECONNREFUSED, tcp, addr("10.0.2.2:"+port))

	g = start(t, setup{net: policy.Net{None: true}})
	g.refused(unix.EACCES, tcp, addr("192.0.2.1:80"))
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpUDP}, addr("0.0.0.0:0"))
}

// A connect that never ends must go when the guest gives it up, or ends.
func TestConnectGivenUp(t *testing.T) {
	// A listener whose queue is full answers no more.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	unix.Bind(fd, &unix.SockaddrInet4{Addr: loop.As4()})
	unix.Listen(fd, 0)
	sa, _ := unix.Getsockname(fd)
	port := strconv.Itoa(sa.(*unix.SockaddrInet4).Port)
	g := start(t, setup{net: policy.Net{HostLoopback: true}})
	var ids []uint32
	for range 8 {
		ids = append(ids, g.send(abi.Msg{Op: abi.OpConnect, A: abi.ProtoTCP}, addr("10.0.2.2:"+port)))
	}
	last := ids[len(ids)-1]
	g.send(abi.Msg{Op: abi.OpDrop, A: uint64(last)}, nil)
	for {
		a := g.recv()
		if a.ID == last {
			if a.err() != unix.EINTR {
				t.Skipf("the connect ended by itself (%v): this host's queue was not full", a.err())
			}
			break
		}
	}
}

func TestUDP(t *testing.T) {
	srv, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	port := strconv.Itoa(srv.LocalAddr().(*net.UDPAddr).Port)
	pub := policy.Publish{IP: loop, GuestPort: 53, UDP: true}
	g := start(t, setup{net: policy.Net{HostLoopback: true}, publish: []policy.Publish{pub}})

	u := g.must(abi.Msg{Op: abi.OpUDP}, addr("0.0.0.0:0"))
	send := func(to string) abi.Msg { return abi.Msg{Op: abi.OpSendTo, Handle: u.Handle} }
	if a := g.must(send(""), append(addr("10.0.2.2:"+port), "hello"...)); a.A != 5 {
		t.Errorf("%d bytes sent; want 5", a.A)
	}
	b := make([]byte, 100)
	srv.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, from, err := srv.ReadFromUDP(b)
	if err != nil || string(b[:n]) != "hello" {
		t.Fatalf("got %q, %v", b[:n], err)
	}
	srv.WriteToUDP([]byte("back"), from)
	wait(t, u.fd)
	if n, _, err := unix.Recvfrom(u.fd, b, 0); err != nil || string(b[:n]) != "back" {
		t.Errorf("got %q, %v", b[:max(n, 0)], err)
	}
	m := send("")
	quiet := make([]byte, abi.MsgSize) // ID 0: nobody waits for an answer
	m.Put(quiet)
	g.packet(append(append(quiet, addr("10.0.2.2:"+port)...), "quiet"...))
	if n, _, err := srv.ReadFromUDP(b); err != nil || string(b[:n]) != "quiet" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	g.refused(unix.EACCES, send(""), append(addr("127.0.0.1:"+port), "x"...))
	g.refused(unix.EACCES, send(""), append(addr("169.254.169.254:80"), "x"...))

	// A published port answers its clients, and reaches no service of the host.
	p := g.must(abi.Msg{Op: abi.OpUDP}, addr("[::]:53"))
	if a, _, ok := abi.TakeAddr(p.payload); !ok || a.Family != 4 {
		t.Errorf("a port published on %v has a socket of family %d", pub.IP, a.Family)
	}
	c, err := net.Dial("udp", g.hostPort(pub))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("query"))
	wait(t, p.fd)
	n, sa, err := unix.Recvfrom(p.fd, b, 0)
	if err != nil || string(b[:n]) != "query" {
		t.Fatalf("got %q, %v", b[:n], err)
	}
	g.must(abi.Msg{Op: abi.OpSendTo, Handle: p.Handle}, append(encodeAddr(addrPort(sa)), "answer"...))
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(b); err != nil || string(b[:n]) != "answer" {
		t.Errorf("the client got %q, %v", b[:n], err)
	}
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpSendTo, Handle: p.Handle}, append(addr("127.0.0.1:53"), "x"...))

	k := g.must(abi.Msg{Op: abi.OpConnect, A: abi.ProtoUDP}, addr("10.0.2.2:"+port))
	unix.Write(k.fd, []byte("connected"))
	if n, _, err := srv.ReadFromUDP(b); err != nil || string(b[:n]) != "connected" {
		t.Errorf("got %q, %v", b[:n], err)
	}
}

// fixed is a resolver that knows one name.
type fixed struct{ *net.Resolver }

func (fixed) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if policy.CanonicalName(host) == "there.example" && network != "ip6" {
		return []netip.Addr{netip.MustParseAddr("192.0.2.7")}, nil
	}
	return nil, &net.DNSError{IsNotFound: true}
}

func TestNameService(t *testing.T) {
	g := start(t, setup{resolver: fixed{}})
	for _, proto := range []uint64{abi.ProtoUDP, abi.ProtoTCP} {
		a := g.must(abi.Msg{Op: abi.OpConnect, A: proto}, addr("10.0.2.3:53"))
		q := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 77, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("There.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		}
		p, _ := q.Pack()
		if proto == abi.ProtoTCP {
			p = append([]byte{byte(len(p) >> 8), byte(len(p))}, p...)
		}
		unix.Write(a.fd, p)
		wait(t, a.fd)
		b := make([]byte, 600)
		n, _, err := unix.Recvfrom(a.fd, b, 0)
		if err != nil {
			t.Fatal(err)
		}
		b = b[:n]
		if proto == abi.ProtoTCP {
			b = b[2:]
		}
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if m.ID != 77 || !m.Response || len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A != [4]byte{192, 0, 2, 7} {
			t.Errorf("answer %+v", m)
		}
		unix.Close(a.fd)
		g.send(abi.Msg{Op: abi.OpDrop, Handle: a.Handle}, nil)
	}
	for range 1000 { // the goroutines of closed channels end
		if g.b.channels.Load() == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("the channels did not end when the guest closed them")
}
