package sock

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A conn uses a nonblocking descriptor as package net does, with a poller that
// has the states of the runtime's: nothing, ready, or somebody asleep.
type conn struct {
	fd     uintptr
	r, w   chan struct{}
	pd     rt.PD
	rb, wb []byte // what calls are given: on the heap
}

var pollers struct {
	sync.RWMutex
	m    map[rt.PD]*conn
	last rt.PD
	once sync.Once
}

const stuck = 30 * time.Second

func newConn(fd uintptr) *conn {
	pollers.once.Do(func() {
		pollers.m = map[rt.PD]*conn{}
		rt.Native.Ready = func(pd rt.PD, ev uint32) {
			pollers.RLock()
			c := pollers.m[pd]
			pollers.RUnlock()
			if c == nil {
				return
			}
			if ev&(rt.In|rt.RdHup|rt.Hup|rt.Err) != 0 {
				mark(c.r)
			}
			if ev&(rt.Out|rt.Hup|rt.Err) != 0 {
				mark(c.w)
			}
		}
	})
	c := &conn{fd: fd, r: make(chan struct{}, 1), w: make(chan struct{}, 1), rb: make([]byte, 64<<10), wb: make([]byte, 64<<10)}
	pollers.Lock()
	pollers.last++
	c.pd = pollers.last
	pollers.m[c.pd] = c
	pollers.Unlock()
	if e := kernel.PollOpen(int32(fd), c.pd); e != 0 {
		panic(linux.Errno(e))
	}
	return c
}

func mark(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func reset(ch chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

func wait(ch chan struct{}, what string) error {
	t := time.NewTimer(stuck)
	defer t.Stop()
	select {
	case <-ch:
		return nil
	case <-t.C:
		return fmt.Errorf("lost wake-up: %s", what)
	}
}

func sys(nr uintptr, a ...uintptr) (uintptr, linux.Errno) {
	var v [6]uintptr
	copy(v[:], a)
	r, _, e := kernel.Syscall(nr, v[0], v[1], v[2], v[3], v[4], v[5])
	return r, e
}

func (c *conn) Read(p []byte) (int, error) {
	reset(c.r)
	for {
		n, e := sys(syscall.SYS_READ, c.fd, addrOf(c.rb), uintptr(min(len(p), len(c.rb))))
		switch {
		case e == linux.EAGAIN:
			if err := wait(c.r, "read"); err != nil {
				return 0, err
			}
		case e != 0:
			return 0, e
		case n == 0:
			return 0, io.EOF
		default:
			return copy(p, c.rb[:n]), nil
		}
	}
}

func (c *conn) Write(p []byte) (total int, err error) {
	reset(c.w)
	for len(p) > 0 {
		m := copy(c.wb, p)
		n, e := sys(syscall.SYS_WRITE, c.fd, addrOf(c.wb), uintptr(m))
		switch {
		case e == linux.EAGAIN:
			if err := wait(c.w, "write"); err != nil {
				return total, err
			}
		case e != 0:
			return total, e
		default:
			p = p[n:]
			total += int(n)
		}
	}
	return total, nil
}

func (c *conn) Close() {
	kernel.PollClose(int32(c.fd), c.pd)
	pollers.Lock()
	delete(pollers.m, c.pd)
	pollers.Unlock()
	sys(syscall.SYS_CLOSE, c.fd)
}

func (c *conn) accept() (*conn, error) {
	reset(c.r)
	for {
		fd, e := sys(syscall.SYS_ACCEPT4, c.fd, 0, 0, linux.SOCK_NONBLOCK|linux.SOCK_CLOEXEC)
		switch {
		case e == linux.EAGAIN:
			if err := wait(c.r, "accept"); err != nil {
				return nil, err
			}
		case e != 0:
			return nil, e
		default:
			return newConn(fd), nil
		}
	}
}

var pinned sync.Map // sockaddrs that calls are given

func pin(b []byte) []byte { pinned.Store(&b[0], b); return b }

func dialConn(family uintptr, sa []byte) (*conn, error) {
	fd, e := sys(syscall.SYS_SOCKET, family, linux.SOCK_STREAM|linux.SOCK_NONBLOCK|linux.SOCK_CLOEXEC)
	if e != 0 {
		return nil, e
	}
	_, e = sys(syscall.SYS_CONNECT, fd, addrOf(sa), uintptr(len(sa)))
	if e != 0 && e != linux.EINPROGRESS {
		sys(syscall.SYS_CLOSE, fd)
		return nil, e
	}
	c := newConn(fd)
	if e == 0 {
		return c, nil
	}
	for {
		if err := wait(c.w, "connect"); err != nil {
			return c, err
		}
		put32(c.wb, 0)
		put32(c.wb[8:], 4)
		if _, e := sys(syscall.SYS_GETSOCKOPT, fd, linux.SOL_SOCKET, linux.SO_ERROR, addrOf(c.wb), addrOf(c.wb[8:])); e != 0 {
			return c, e
		}
		if v := linux.Errno(le32(c.wb)); v != 0 {
			c.Close()
			return nil, v
		}
		put32(c.wb[8:], 128)
		if _, e := sys(syscall.SYS_GETPEERNAME, fd, addrOf(c.wb[16:]), addrOf(c.wb[8:])); e == 0 {
			return c, nil
		}
	}
}

func listenConn(t testing.TB, sa []byte, backlog int) (*conn, []byte) {
	fd, e := sys(syscall.SYS_SOCKET, uintptr(sa[0]), linux.SOCK_STREAM|linux.SOCK_NONBLOCK|linux.SOCK_CLOEXEC)
	if e != 0 {
		t.Fatal(e)
	}
	sa = pin(append(sa, make([]byte, 8)...))
	put32(sa[len(sa)-8:], 1)
	sys(syscall.SYS_SETSOCKOPT, fd, linux.SOL_SOCKET, linux.SO_REUSEADDR, addrOf(sa[len(sa)-8:]), 4)
	if _, e := sys(syscall.SYS_BIND, fd, addrOf(sa), uintptr(len(sa)-8)); e != 0 {
		t.Fatal(e)
	}
	if _, e := sys(syscall.SYS_LISTEN, fd, uintptr(backlog)); e != 0 {
		t.Fatal(e)
	}
	l := sa[len(sa)-8:]
	put32(l, uint32(len(sa)-8))
	sys(syscall.SYS_GETSOCKNAME, fd, addrOf(sa), addrOf(l))
	c := newConn(fd)
	t.Cleanup(c.Close)
	return c, sa[:len(sa)-8]
}

// serveEcho echoes every connection of l until l fails.
func serveEcho(t testing.TB, l *conn) {
	go func() {
		for {
			c, err := l.accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 32<<10)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// TestDials dials again and again, with queues of every length, while the
// process is idle and while it is busy.
func TestDials(t *testing.T) {
	n := 20000
	if testing.Short() {
		n = 3000
	}
	for _, busy := range []bool{false, true} {
		for _, backlog := range []int{0, 1, 128} {
			for _, workers := range []int{1, 16} {
				t.Run(fmt.Sprintf("busy=%v/backlog=%d/workers=%d", busy, backlog, workers), func(t *testing.T) {
					l, sa := listenConn(t, inet(linux.AF_INET, "127.0.0.1", 0), backlog)
					serveEcho(t, l)
					var stop atomic.Bool
					if busy {
						go func() {
							for !stop.Load() {
							}
						}()
					}
					defer stop.Store(true)
					dials(t, sa, n/12/workers, workers)
				})
			}
		}
	}
}

func dials(t *testing.T, sa []byte, n, workers int) {
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b := make([]byte, 16)
			for i := range n {
				c, err := dialConn(uintptr(sa[0]), sa)
				if err != nil {
					t.Error("dial", i, err)
					return
				}
				if _, err := c.Write([]byte("ping")); err != nil {
					t.Error("write", i, err)
				}
				if m, err := c.Read(b); m != 4 || err != nil {
					t.Error("read", i, m, err)
				}
				c.Close()
				if t.Failed() {
					return
				}
			}
		}()
	}
	wg.Wait()
}

// TestTransfer moves data both ways through small and large buffers; every
// write and read may have to wait.
func TestTransfer(t *testing.T) {
	for _, size := range []int{1, 4096, 1 << 20} {
		for _, unix := range []bool{false, true} {
			t.Run(fmt.Sprintf("buffer=%d/unix=%v", size, unix), func(t *testing.T) {
				var a, b *conn
				if unix {
					x, y := socketpair(linux.SOCK_STREAM)
					fx, _ := install(x, linux.SOCK_NONBLOCK)
					fy, _ := install(y, linux.SOCK_NONBLOCK)
					a, b = newConn(fx), newConn(fy)
				} else {
					l, sa := listenConn(t, inet(linux.AF_INET6, "::1", 0), 1)
					var err error
					if a, err = dialConn(linux.AF_INET6, sa); err != nil {
						t.Fatal(err)
					}
					if b, err = l.accept(); err != nil {
						t.Fatal(err)
					}
				}
				for _, c := range []*conn{a, b} {
					put32(c.wb, uint32(size))
					for _, o := range []uintptr{linux.SO_SNDBUF, linux.SO_RCVBUF} {
						if _, e := sys(syscall.SYS_SETSOCKOPT, c.fd, linux.SOL_SOCKET, o, addrOf(c.wb), 4); e != 0 {
							t.Fatal(e)
						}
					}
				}
				total := 16 << 20
				if size == 1 {
					total = 2 << 20
				}
				var wg sync.WaitGroup
				for _, dir := range [][2]*conn{{a, b}, {b, a}} {
					wg.Add(2)
					go func() {
						defer wg.Done()
						p := make([]byte, 10007)
						for sent := 0; sent < total; sent += len(p) {
							for i := range p {
								p[i] = byte((sent + i) % 251)
							}
							if _, err := dir[0].Write(p); err != nil {
								t.Error(err)
								return
							}
						}
						sys(syscall.SYS_SHUTDOWN, dir[0].fd, linux.SHUT_WR)
					}()
					go func() {
						defer wg.Done()
						p, got := make([]byte, 7001), 0
						for {
							n, err := dir[1].Read(p)
							if err == io.EOF {
								break
							}
							if err != nil {
								t.Error(err)
								return
							}
							for i := range n {
								if p[i] != byte((got+i)%251) {
									t.Errorf("byte %d is wrong", got+i)
									return
								}
							}
							got += n
						}
						if got < total {
							t.Errorf("%d of %d bytes", got, total)
						}
					}()
				}
				wg.Wait()
				a.Close()
				b.Close()
			})
		}
	}
}

// TestBlocking is the same with descriptors in blocking mode.
func TestBlocking(t *testing.T) {
	x, y := socketpair(linux.SOCK_DGRAM)
	fx, _ := install(x, 0)
	fy, _ := install(y, 0)
	const n = 20000
	done := make(chan int)
	go func() {
		b, sum := make([]byte, 64), 0
		for range n {
			m, e := sys(syscall.SYS_READ, fy, addrOf(pin(b)), 64)
			if e != 0 {
				t.Error(e)
			}
			sum += int(m)
		}
		done <- sum
	}()
	b, want := pin(make([]byte, 64)), 0
	for i := range n {
		want += i % 60
		if m, e := sys(syscall.SYS_WRITE, fx, addrOf(b), uintptr(i%60)); e != 0 || int(m) != i%60 {
			t.Fatal(m, e)
		}
	}
	select {
	case sum := <-done:
		if sum != want {
			t.Errorf("got %d bytes, want %d", sum, want)
		}
	case <-time.After(stuck):
		t.Fatal("lost wake-up: datagrams")
	}
	sys(syscall.SYS_CLOSE, fx)
	sys(syscall.SYS_CLOSE, fy)
}

func BenchmarkPingPong(b *testing.B) {
	l, sa := listenConn(b, inet(linux.AF_INET, "127.0.0.1", 0), 1)
	serveEcho(b, l)
	c, err := dialConn(linux.AF_INET, sa)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	p := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(p)
		c.Read(p)
	}
}

func BenchmarkDial(b *testing.B) {
	l, sa := listenConn(b, inet(linux.AF_INET, "127.0.0.1", 0), 1)
	go func() {
		for {
			c, err := l.accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		c, err := dialConn(linux.AF_INET, sa)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

func BenchmarkStream(b *testing.B) {
	x, y := socketpair(linux.SOCK_STREAM)
	p, q := make([]byte, 64<<10), make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		for n := 0; n < len(p); {
			m, e := x.Write(p[n:])
			if e != 0 {
				b.Fatal(e)
			}
			for got := 0; got < m; {
				k, e := y.Read(q)
				if e != 0 {
					b.Fatal(e)
				}
				got += k
			}
			n += m
		}
	}
}
