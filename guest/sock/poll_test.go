package sock

import (
	"syscall"
	"testing"
	"time"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// TestSeveralRegistrations: a duplicated descriptor has a registration with the
// poller of its own (net.TCPConn.File), each is made ready, and each ends alone.
func TestSeveralRegistrations(t *testing.T) {
	l, sa := listenConn(t, inet(linux.AF_INET, "127.0.0.1", 0), 1)
	inside, err := dialConn(linux.AF_INET, sa)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	outside, err := dialConn(linux.AF_INET, gateway(hostEcho(t)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*conn{"inside": inside, "outside": outside} {
		t.Run(name, func(t *testing.T) {
			fd, e := kernel.Dup(c.fd, 0, true)
			if e != 0 {
				t.Fatal(e)
			}
			second := newConn(fd)
			reset(c.r)
			reset(second.r)
			// The peer's answer makes both readable.
			sys(syscall.SYS_WRITE, c.fd, addrOf(c.wb), 1)
			if name == "inside" {
				sys(syscall.SYS_WRITE, peer.fd, addrOf(peer.wb), 1)
			}
			for what, w := range map[string]*conn{"first": c, "second": second} {
				if err := wait(w.r, what+" registration"); err != nil {
					t.Error(err)
				}
			}
			// The first goes, the second is still told.
			c.Close()
			reset(second.r)
			sys(syscall.SYS_READ, second.fd, addrOf(second.rb), 10)
			sys(syscall.SYS_WRITE, second.fd, addrOf(second.wb), 1)
			if name == "inside" {
				sys(syscall.SYS_WRITE, peer.fd, addrOf(peer.wb), 1)
			}
			if n, err := second.Read(make([]byte, 10)); n != 1 || err != nil {
				t.Errorf("read = %d, %v", n, err)
			}
			second.Close()
		})
	}
	peer.Close()
}

// TestWaitall: MSG_WAITALL returns with the whole buffer, or with what came
// before the end.
func TestWaitall(t *testing.T) {
	x, y := socketpair(linux.SOCK_STREAM)
	fx, _ := install(x, 0)
	fy, _ := install(y, 0)
	defer sys(syscall.SYS_CLOSE, fy)
	p := pin(make([]byte, 100))
	go func() {
		for range 25 {
			sys(syscall.SYS_WRITE, fx, addrOf(p), 4)
			time.Sleep(time.Millisecond)
		}
		sys(syscall.SYS_WRITE, fx, addrOf(p), 7)
		sys(syscall.SYS_CLOSE, fx)
	}()
	b := pin(make([]byte, 100))
	for _, want := range []uintptr{100, 7, 0} {
		if n, e := sys(syscall.SYS_RECVFROM, fy, addrOf(b), 100, linux.MSG_WAITALL, 0, 0); n != want || e != 0 {
			t.Errorf("recv = %d, %v; want %d", n, e, want)
		}
	}
}

// TestTimeouts: SO_RCVTIMEO and SO_SNDTIMEO end a wait with EAGAIN.
func TestTimeouts(t *testing.T) {
	x, y := socketpair(linux.SOCK_STREAM)
	fx, _ := install(x, 0)
	defer sys(syscall.SYS_CLOSE, fx)
	defer y.Release()
	tv := pin(make([]byte, 16))
	put32(tv[8:], 20000)
	b := pin(make([]byte, 4<<20))
	for _, o := range []uintptr{linux.SO_RCVTIMEO, linux.SO_SNDTIMEO} {
		if _, e := sys(syscall.SYS_SETSOCKOPT, fx, linux.SOL_SOCKET, o, addrOf(tv), 16); e != 0 {
			t.Fatal(e)
		}
	}
	if _, e := sys(syscall.SYS_RECVFROM, fx, addrOf(b), 1, 0, 0, 0); e != linux.EAGAIN {
		t.Errorf("recv = %v, want EAGAIN", e)
	}
	if n, e := sys(syscall.SYS_SENDTO, fx, addrOf(b), uintptr(len(b)), 0, 0, 0); e != 0 || n == 0 || n >= uintptr(len(b)) {
		t.Errorf("send = %d, %v; want a part", n, e)
	}
	if _, e := sys(syscall.SYS_SENDTO, fx, addrOf(b), 1, 0, 0, 0); e != linux.EAGAIN {
		t.Errorf("send = %v, want EAGAIN", e)
	}
}

// TestQueueBounds: neither a stream nor a datagram queue nor a listener takes
// more than its bound.
func TestQueueBounds(t *testing.T) {
	x, y := socketpair(linux.SOCK_STREAM)
	defer x.Release()
	defer y.Release()
	p := make([]byte, 3000)
	for x.Ready()&rt.Out != 0 {
		x.Write(p)
	}
	for {
		if _, e := x.Write(p); e == linux.EAGAIN {
			break
		}
	}
	if n := y.rx.q.n; n > defSndbuf {
		t.Errorf("a stream holds %d bytes, bound %d", n, defSndbuf)
	}

	e := ours(t)
	a, b := e.socket(linux.AF_INET, datagram, 0), e.socket(linux.AF_INET, datagram, 0)
	e.bind(a, inet(linux.AF_INET, "127.0.0.1", 0))
	to := e.sockname(a, false)
	for range 5000 {
		e.send(b, p, 0, to)
	}
	_, s, _ := get(uintptr(a))
	if s.d.q.cost > defRcvbuf || s.d.drops == 0 {
		t.Errorf("a datagram queue holds %d bytes after %d drops, bound %d", s.d.q.cost, s.d.drops, defRcvbuf)
	}

	l := e.socket(linux.AF_INET, stream, 0)
	e.bind(l, inet(linux.AF_INET, "127.0.0.1", 0))
	e.listen(l, 2)
	sa := e.sockname(l, false)
	for range 10 {
		c := e.socket(linux.AF_INET, stream, 0)
		q := e.in(sa)
		e.do("connect", syscall.SYS_CONNECT, uintptr(c), addrOf(q), uintptr(len(q)))
	}
	_, s, _ = get(uintptr(l))
	if s.l.ready.n != 3 || s.l.wait.n != 7 {
		t.Errorf("a listener of backlog 2 has %d connections and %d waiting, want 3 and 7", s.l.ready.n, s.l.wait.n)
	}
}
