package sock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// gateway is the sockaddr of a port of the host's loopback, as the pVM sees it.
func gateway(port int) []byte {
	a := addr{ip: mapped(10, 0, 2, 2), port: uint16(port)}
	return pin(appendInet(nil, linux.AF_INET, &a))
}

func hostEcho(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// TestOutsideConnect sends to the host and back, nonblocking: more than the
// buffers hold, then a half-close.
func TestOutsideConnect(t *testing.T) {
	c, err := dialConn(linux.AF_INET, gateway(hostEcho(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		if _, err := c.Write(want); err != nil {
			t.Error(err)
		}
		if _, e := sys(syscall.SYS_SHUTDOWN, c.fd, linux.SHUT_WR); e != 0 {
			t.Error("shutdown:", e)
		}
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
	}
}

// TestOutsideBlocking is the same with a blocking descriptor, which waits on
// the queue.
func TestOutsideBlocking(t *testing.T) {
	fd, e := sys(syscall.SYS_SOCKET, linux.AF_INET, linux.SOCK_STREAM, 0)
	if e != 0 {
		t.Fatal(e)
	}
	defer sys(syscall.SYS_CLOSE, fd)
	sa := gateway(hostEcho(t))
	if _, e := sys(syscall.SYS_CONNECT, fd, addrOf(sa), uintptr(len(sa))); e != 0 {
		t.Fatal("connect:", e)
	}
	const n = 8 << 20
	p := pin(make([]byte, n))
	for i := range p {
		p[i] = byte(i % 253)
	}
	done := make(chan error, 1)
	go func() {
		b, got := pin(make([]byte, 100000)), 0
		for got < n {
			m, e := sys(syscall.SYS_READ, fd, addrOf(b), uintptr(len(b)))
			if e != 0 || m == 0 {
				done <- fmt.Errorf("read after %d: %v", got, e)
				return
			}
			if !bytes.Equal(b[:m], p[got:got+int(m)]) {
				done <- fmt.Errorf("wrong data at %d", got)
				return
			}
			got += int(m)
		}
		done <- nil
	}()
	if m, e := sys(syscall.SYS_WRITE, fd, addrOf(p), n); e != 0 || m != n {
		t.Errorf("write = %d, %v", m, e)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(stuck):
		t.Fatal("lost wake-up: blocking read of a host connection")
	}
}

func TestOutsideRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	if _, err := dialConn(linux.AF_INET, gateway(port)); err != linux.ECONNREFUSED {
		t.Errorf("dial of a closed port: %v; want ECONNREFUSED", err)
	}
}

// TestOutsideCloseWhileConnecting closes before the monitor's answer: the
// handle that comes late must go back.
func TestOutsideCloseWhileConnecting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sa := gateway(l.Addr().(*net.TCPAddr).Port)
	const n = 50
	for range n {
		fd, _ := sys(syscall.SYS_SOCKET, linux.AF_INET, linux.SOCK_STREAM|linux.SOCK_NONBLOCK)
		if _, e := sys(syscall.SYS_CONNECT, fd, addrOf(sa), uintptr(len(sa))); e != linux.EINPROGRESS {
			t.Fatal("connect:", e)
		}
		sys(syscall.SYS_CLOSE, fd)
	}
	for range n {
		l.(*net.TCPListener).SetDeadline(time.Now().Add(stuck))
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(stuck))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection stayed open:", err)
		}
		c.Close()
	}
}

// TestPublished accepts from the host and from inside at one listener.
func TestPublished(t *testing.T) {
	for _, family := range []uint16{linux.AF_INET, linux.AF_INET6} {
		t.Run(fmt.Sprint("family ", family), func(t *testing.T) {
			ip := "0.0.0.0"
			if family == linux.AF_INET6 {
				ip = "::"
			}
			l, sa := listenConn(t, inet(family, ip, 8080), 10)
			serveEcho(t, l)
			for i := range 200 {
				out, err := net.DialTimeout("tcp", published[8080].String(), stuck)
				if err != nil {
					t.Fatal(err)
				}
				in, err := dialConn(uintptr(family), sa)
				if err != nil {
					t.Fatal(err)
				}
				out.SetDeadline(time.Now().Add(stuck))
				for _, c := range []io.ReadWriter{out, in} {
					b := make([]byte, 8)
					c.Write([]byte("ping"))
					if n, err := c.Read(b); n != 4 || err != nil {
						t.Fatal(i, n, err)
					}
				}
				out.Close()
				in.Close()
			}
		})
	}
}

// TestPublishedQueue waits for connections of the host in a blocking accept,
// which goes through the wait queue.
func TestPublishedQueue(t *testing.T) {
	l, _ := listenConn(t, inet(linux.AF_INET, "0.0.0.0", 8080), 400)
	d, _ := kernel.Get(l.fd)
	d.SetFlags(0)
	defer d.Put()
	const n = 300
	go func() {
		for range n {
			c, err := net.Dial("tcp", published[8080].String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
		}
	}()
	done := make(chan bool)
	go func() {
		defer close(done)
		sa := pin(make([]byte, 64))
		for range n {
			put32(sa[32:], 16)
			fd, e := sys(syscall.SYS_ACCEPT4, l.fd, addrOf(sa), addrOf(sa[32:]), 0)
			if e != 0 {
				t.Error("accept:", e)
				return
			}
			if a, _ := decodeInet(sa[:16]); a.ip != loop4 && !isLocal(&a.ip) && a.port == 0 {
				t.Error("peer", a)
			}
			sys(syscall.SYS_CLOSE, fd)
		}
	}()
	select {
	case <-done:
	case <-time.After(stuck):
		t.Fatal("lost wake-up: blocking accept of a host listener")
	}
}

func udpSocket(t *testing.T, family uint16, port int) *conn {
	fd, e := sys(syscall.SYS_SOCKET, uintptr(family), linux.SOCK_DGRAM|linux.SOCK_NONBLOCK)
	if e != 0 {
		t.Fatal(e)
	}
	if port >= 0 {
		sa := pin(inet(family, map[uint16]string{linux.AF_INET: "0.0.0.0", linux.AF_INET6: "::"}[family], port))
		if _, e := sys(syscall.SYS_BIND, fd, addrOf(sa), uintptr(len(sa))); e != 0 {
			t.Fatal("bind:", e)
		}
	}
	c := newConn(fd)
	t.Cleanup(c.Close)
	return c
}

func (c *conn) recvFrom(t *testing.T) (string, []byte) {
	t.Helper()
	reset(c.r)
	for {
		put32(c.wb, 128)
		n, e := sys(syscall.SYS_RECVFROM, c.fd, addrOf(c.rb), uintptr(len(c.rb)), 0, addrOf(c.wb[16:]), addrOf(c.wb))
		if e == linux.EAGAIN {
			if err := wait(c.r, "recvfrom"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if e != 0 {
			t.Fatal("recvfrom:", e)
		}
		return string(c.rb[:n]), append([]byte(nil), c.wb[16:16+le32(c.wb)]...)
	}
}

// TestOutsideUDP exchanges datagrams with the host: connected, unconnected with
// and without the right to send anywhere, and at a published port.
func TestOutsideUDP(t *testing.T) {
	srv, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := srv.ReadFrom(b)
			if err != nil {
				return
			}
			srv.WriteTo(append([]byte("re:"), b[:n]...), from)
		}
	}()
	sa := gateway(srv.LocalAddr().(*net.UDPAddr).Port)

	t.Run("connected", func(t *testing.T) {
		c := udpSocket(t, linux.AF_INET, -1)
		if _, e := sys(syscall.SYS_CONNECT, c.fd, addrOf(sa), uintptr(len(sa))); e != 0 {
			t.Fatal("connect:", e)
		}
		if _, err := c.Write([]byte("one")); err != nil {
			t.Fatal(err)
		}
		if got, from := c.recvFrom(t); got != "re:one" || !bytes.Equal(from, sa) {
			t.Errorf("got %q from %x, want from %x", got, from, sa)
		}
	})
	t.Run("unconnected", func(t *testing.T) {
		c := udpSocket(t, linux.AF_INET, -1)
		p := pin([]byte("two"))
		if _, e := sys(syscall.SYS_SENDTO, c.fd, addrOf(p), 3, 0, addrOf(sa), uintptr(len(sa))); e != 0 {
			t.Fatal("sendto:", e)
		}
		if got, _ := c.recvFrom(t); got != "re:two" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("published", func(t *testing.T) {
		c := udpSocket(t, linux.AF_INET, 5353)
		out, err := net.Dial("udp", published[5353].String())
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		for i := range 20 {
			fmt.Fprintf(out, "query %d", i)
			got, from := c.recvFrom(t)
			if got != fmt.Sprint("query ", i) {
				t.Fatalf("got %q", got)
			}
			// Inside senders come to the same socket.
			in := udpSocket(t, linux.AF_INET, -1)
			p, self := pin([]byte("inside")), pin(inet(linux.AF_INET, "127.0.0.1", 5353))
			if _, e := sys(syscall.SYS_SENDTO, in.fd, addrOf(p), 6, 0, addrOf(self), 16); e != 0 {
				t.Fatal("sendto:", e)
			}
			if got, _ := c.recvFrom(t); got != "inside" {
				t.Fatalf("got %q", got)
			}
			pin(from)
			if _, e := sys(syscall.SYS_SENDTO, c.fd, addrOf(p), 6, 0, addrOf(from), uintptr(len(from))); e != 0 {
				t.Fatal("answer:", e)
			}
			b := make([]byte, 10)
			out.SetDeadline(time.Now().Add(stuck))
			if n, err := out.Read(b); err != nil || string(b[:n]) != "inside" {
				t.Fatalf("host got %q, %v", b[:n], err)
			}
		}
	})
}

// TestOutsideOptions sets options of host connections, by name for one that we
// asked for, by descriptor for an accepted one.
func TestOutsideOptions(t *testing.T) {
	c, err := dialConn(linux.AF_INET, gateway(hostEcho(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, _ := listenConn(t, inet(linux.AF_INET, "0.0.0.0", 8080), 10)
	out, err := net.Dial("tcp", published[8080].String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []*conn{c, s} {
		d, sock, _ := get(c.fd)
		h := sock.host.Load()
		for _, o := range [][3]int{{linux.IPPROTO_TCP, linux.TCP_NODELAY, 0}, {linux.IPPROTO_TCP, linux.TCP_KEEPIDLE, 77}, {linux.SOL_SOCKET, linux.SO_KEEPALIVE, 0}} {
			if e := sock.setopt(o[0], o[1], abi.Append32(nil, uint32(o[2]))); e != 0 {
				t.Errorf("setsockopt %v: %v", o, e)
			}
			if v, err := syscall.GetsockoptInt(int(h.fd), o[0], o[1]); err != nil || v != o[2] {
				t.Errorf("the host has %d for %v, %v", v, o, err)
			}
		}
		d.Put()
	}
	if ev := s.ready(t); ev&rt.In != 0 || ev&rt.Out == 0 {
		t.Errorf("ready = %#x before data", ev)
	}
	out.Write([]byte("x"))
	for i := 0; i < 500 && s.ready(t)&rt.In == 0; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if ev := s.ready(t); ev&rt.In == 0 {
		t.Errorf("ready = %#x after data", ev)
	}
}

func (c *conn) ready(t *testing.T) uint32 {
	d, e := kernel.Get(c.fd)
	if e != 0 {
		t.Fatal(e)
	}
	defer d.Put()
	return d.Ready()
}
