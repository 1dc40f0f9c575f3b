package sock

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"noyau.dev/guest/linux"
)

// both runs a scenario on Linux and on the library OS and compares every
// result, errno and readiness bit. Where other programs of the machine bind ports
// too (see alone), what differs is tried again: a real difference is there each time.
func both(t *testing.T, scenario func(*env)) {
	t.Helper()
	var diff string
	for range 3 {
		a, b := native(t), ours(t)
		scenario(a)
		a.closeAll()
		scenario(b)
		b.closeAll()
		if diff = compare(a.log, b.log); diff == "" {
			return
		}
	}
	t.Fatal(diff)
}

func compare(a, b []string) string {
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("step %d: Linux %q, noyau %q\nbefore:\n%s", i, x, y, strings.Join(a[max(0, i-40):min(i, len(a))], "\n"))
		}
	}
	return ""
}

const (
	nonblock = linux.SOCK_NONBLOCK
	stream   = linux.SOCK_STREAM | nonblock
	datagram = linux.SOCK_DGRAM | nonblock
	seqpack  = linux.SOCK_SEQPACKET | nonblock
)

// tcpPair returns the two ends of a loopback connection.
func tcpPair(e *env, family uint16, ip string) (l, c, s int) {
	l = e.socket(int(family), stream, 0)
	e.bind(l, inet(family, ip, 0))
	e.listen(l, 5)
	c = e.socket(int(family), stream, 0)
	e.connect(c, inet(family, ip, portOf(e.sockname(l, false))))
	s = e.accept(l)
	// A reset overtakes what Nagle's algorithm holds back; here it has no such rule.
	e.setint(c, linux.IPPROTO_TCP, linux.TCP_NODELAY, 1)
	e.setint(s, linux.IPPROTO_TCP, linux.TCP_NODELAY, 1)
	return l, c, s
}

func unixPair(e *env, typ int) (a, b int) {
	p := e.alloc(8)
	e.do("socketpair", 53, linux.AF_UNIX, uintptr(typ), 0, addrOf(p))
	a, b = int(le32(p)), int(le32(p[4:]))
	e.fds = append(e.fds, a, b)
	return a, b
}

func TestDiffScenarios(t *testing.T) {
	for _, s := range []struct {
		name string
		run  func(*env)
	}{
		{"socket types", func(e *env) {
			for _, a := range [][3]int{{1, 1, 0}, {1, 2, 0}, {1, 5, 0}, {1, 1, 1}, {1, 1, 7}, {1, 9, 0}, {2, 1, 0}, {2, 1, 6}, {2, 1, 17}, {2, 2, 17}, {2, 2, 6}, {2, 5, 0}, {10, 1, 0}, {10, 2, 0}, {16, 3, 0}, {99, 1, 0}, {2, 1 | 0x100, 0}} {
				e.socket(a[0], a[1], a[2])
			}
		}},
		{"fresh tcp", func(e *env) {
			s := e.socket(linux.AF_INET, stream, 0)
			e.poll("fresh", s)
			e.sockname(s, true)
			e.recv(s, 10, 0)
			e.send(s, []byte("x"), 0, nil)
			e.shutdown(s, 2)
			e.accept(s)
		}},
		{"tcp echo and half close", func(e *env) {
			_, c, s := tcpPair(e, linux.AF_INET, "127.0.0.1")
			e.poll("c", c)
			e.poll("s", s)
			e.send(c, []byte("hello"), 0, nil)
			e.poll("s", s)
			e.recv(s, 3, linux.MSG_PEEK)
			e.recv(s, 3, 0)
			e.recv(s, 30, 0)
			e.recv(s, 30, 0)
			e.shutdown(c, linux.SHUT_WR)
			e.poll("s", s)
			e.poll("c", c)
			e.recv(s, 30, 0)
			e.send(c, []byte("x"), 0, nil)
			e.send(s, []byte("answer"), 0, nil)
			e.recv(c, 30, 0)
			e.shutdown(s, linux.SHUT_WR)
			e.poll("s", s)
			e.poll("c", c)
			e.recv(c, 30, 0)
		}},
		{"tcp refused", func(e *env) {
			l := e.socket(linux.AF_INET, stream, 0)
			e.bind(l, inet(linux.AF_INET, "127.0.0.1", 0))
			p := portOf(e.sockname(l, false))
			c := e.socket(linux.AF_INET, stream, 0)
			e.connect(c, inet(linux.AF_INET, "127.0.0.1", p))
			e.sockname(c, true)
			e.listen(l, 1)
			c = e.socket(linux.AF_INET, stream, 0)
			e.connect(c, inet(linux.AF_INET, "127.0.0.1", p))
			e.connect(c, inet(linux.AF_INET, "127.0.0.1", p))
			e.listen(c, 1)
			e.connect(l, inet(linux.AF_INET, "127.0.0.1", p))
		}},
		{"tcp close unread is a reset", func(e *env) {
			_, c, s := tcpPair(e, linux.AF_INET, "127.0.0.1")
			e.send(c, []byte("unread"), 0, nil)
			e.send(s, []byte("data"), 0, nil)
			e.close(s)
			e.poll("c", c)
			e.recv(c, 10, 0)
			e.recv(c, 10, 0)
			e.recv(c, 10, 0)
			e.send(c, []byte("x"), 0, nil)
			e.poll("c", c)
		}},
		{"tcp write after close", func(e *env) {
			_, c, s := tcpPair(e, linux.AF_INET6, "::1")
			e.close(s)
			e.poll("c", c)
			e.send(c, []byte("x"), 0, nil)
			e.poll("c", c)
			e.send(c, []byte("x"), 0, nil)
			e.send(c, []byte("x"), 0, nil)
			e.recv(c, 10, 0)
		}},
		{"tcp reset then write", func(e *env) {
			_, c, s := tcpPair(e, linux.AF_INET, "127.0.0.1")
			e.linger0(s)
			e.close(s)
			e.poll("c", c)
			e.send(c, []byte("x"), 0, nil)
			e.send(c, []byte("x"), 0, nil)
			e.recv(c, 1, 0)
			e.getint(c, linux.SOL_SOCKET, linux.SO_ERROR)
		}},
		{"tcp reset as SO_ERROR", func(e *env) {
			_, c, s := tcpPair(e, linux.AF_INET, "127.0.0.1")
			e.linger0(s)
			e.close(s)
			e.getint(c, linux.SOL_SOCKET, linux.SO_ERROR)
			e.getint(c, linux.SOL_SOCKET, linux.SO_ERROR)
			e.recv(c, 1, 0)
			e.sockname(c, true)
			e.shutdown(c, 2)
		}},
		{"tcp shutdown read", func(e *env) {
			_, c, s := tcpPair(e, linux.AF_INET, "127.0.0.1")
			e.shutdown(c, linux.SHUT_RD)
			e.poll("c", c)
			e.recv(c, 1, 0)
			e.send(s, []byte("late"), 0, nil)
			e.recv(c, 10, 0)
			e.recv(c, 10, 0)
			e.shutdown(c, 9)
		}},
		{"tcp listener closes with queue", func(e *env) {
			l := e.socket(linux.AF_INET, stream, 0)
			e.bind(l, inet(linux.AF_INET, "127.0.0.1", 0))
			e.listen(l, 5)
			e.poll("l", l)
			c := e.socket(linux.AF_INET, stream, 0)
			e.connect(c, inet(linux.AF_INET, "127.0.0.1", portOf(e.sockname(l, false))))
			e.poll("l", l)
			e.getint(l, linux.SOL_SOCKET, linux.SO_ACCEPTCONN)
			e.close(l)
			e.poll("c", c)
			e.recv(c, 1, 0)
		}},
		{"binding", bindScenario},
		{"dual stack", func(e *env) {
			l := e.socket(linux.AF_INET6, stream, 0)
			e.setint(l, linux.IPPROTO_IPV6, linux.IPV6_V6ONLY, 0)
			e.bind(l, inet(linux.AF_INET6, "::", 0))
			e.listen(l, 5)
			p := portOf(e.sockname(l, false))
			c := e.socket(linux.AF_INET, stream, 0)
			e.connect(c, inet(linux.AF_INET, "127.0.0.1", p))
			s := e.accept(l)
			n := e.sockname(s, false)
			e.note("local %x", append(n[:2:2], n[8:24]...))
			n = e.sockname(s, true)
			e.note("peer %x", append(n[:2:2], n[8:24]...))
			c = e.socket(linux.AF_INET6, stream, 0)
			e.connect(c, inet(linux.AF_INET6, "127.0.0.1", p))
			e.setint(c, linux.IPPROTO_IPV6, linux.IPV6_V6ONLY, 1)
			d := e.socket(linux.AF_INET6, stream, 0)
			e.setint(d, linux.IPPROTO_IPV6, linux.IPV6_V6ONLY, 1)
			e.connect(d, inet(linux.AF_INET6, "127.0.0.1", p))
		}},
		{"udp", func(e *env) {
			a, b := e.socket(linux.AF_INET, datagram, 0), e.socket(linux.AF_INET, datagram, 0)
			e.poll("a", a)
			e.bind(a, inet(linux.AF_INET, "127.0.0.1", 0))
			to := e.sockname(a, false)
			e.send(b, []byte("one"), 0, to)
			e.send(b, nil, 0, to)
			e.send(b, []byte("three"), 0, to)
			e.poll("a", a)
			e.recv(a, 2, linux.MSG_PEEK)
			e.recv(a, 2, linux.MSG_TRUNC)
			e.recv(a, 2, 0)
			e.recv(a, 2, 0)
			e.recv(a, 2, 0)
			e.send(b, []byte("x"), 0, nil)
			e.send(b, make([]byte, 65507), 0, to)
			e.send(b, make([]byte, 65508), 0, to)
			e.recv(a, 65507, 0)
			e.connect(b, to)
			e.send(b, []byte("connected"), 0, nil)
			e.recv(a, 20, 0)
			e.send(a, []byte("back"), 0, e.sockname(b, false))
			e.recv(b, 20, 0)
			e.close(a)
			e.send(b, []byte("gone"), 0, nil)
			e.poll("b", b)
			e.recv(b, 20, 0)
			e.recv(b, 20, 0)
			e.shutdown(b, linux.SHUT_WR)
			e.send(b, []byte("x"), 0, nil)
			e.shutdown(b, linux.SHUT_RD)
			e.recv(b, 20, 0)
			e.listen(b, 1)
			e.accept(b)
		}},
		{"udp filters by peer", func(e *env) {
			a, b, c := e.socket(linux.AF_INET, datagram, 0), e.socket(linux.AF_INET, datagram, 0), e.socket(linux.AF_INET, datagram, 0)
			for _, s := range []int{a, b, c} {
				e.bind(s, inet(linux.AF_INET, "127.0.0.1", 0))
			}
			e.connect(a, e.sockname(b, false))
			e.send(c, []byte("stranger"), 0, e.sockname(a, false))
			e.recv(a, 10, 0)
			e.send(b, []byte("peer"), 0, e.sockname(a, false))
			e.recv(a, 10, 0)
			e.connect(a, make([]byte, 16))
			e.sockname(a, true)
			e.send(c, []byte("stranger"), 0, e.sockname(a, false))
			e.recv(a, 10, 0)
		}},
		{"udp on a v6 socket", func(e *env) {
			a, b := e.socket(linux.AF_INET6, datagram, 0), e.socket(linux.AF_INET, datagram, 0)
			e.bind(a, inet(linux.AF_INET6, "::", 0))
			p := portOf(e.sockname(a, false))
			e.send(b, []byte("four"), 0, inet(linux.AF_INET, "127.0.0.1", p))
			e.recv(a, 10, 0)
			e.send(a, []byte("six"), 0, inet(linux.AF_INET6, "::1", p))
			e.recv(a, 10, 0)
			e.send(b, []byte("six"), 0, inet(linux.AF_INET6, "::1", p))
		}},
		{"unix stream names", func(e *env) { unixScenario(e, stream) }},
		{"unix seqpacket names", func(e *env) { unixScenario(e, seqpack) }},
		{"unix dgram", func(e *env) {
			a, b := e.socket(linux.AF_UNIX, datagram, 0), e.socket(linux.AF_UNIX, datagram, 0)
			name := appendUnix(nil, "\x00noyau-diff-"+fmt.Sprint(time.Now().UnixNano()))
			e.send(b, []byte("x"), 0, name)
			e.send(b, []byte("x"), 0, nil)
			e.bind(a, name)
			e.bind(a, name)
			e.send(b, []byte("one"), 0, name)
			e.poll("a", a)
			e.recv(a, 10, 0)
			e.recv(a, 10, 0)
			e.connect(b, name)
			e.send(b, []byte("two"), 0, nil)
			e.recv(a, 1, linux.MSG_TRUNC)
			e.close(a)
			e.send(b, []byte("three"), 0, nil)
			e.connect(b, name)
		}},
		{"options", func(e *env) {
			s := e.socket(linux.AF_INET, stream, 0)
			for _, o := range [][2]int{{1, linux.SO_TYPE}, {1, linux.SO_PROTOCOL}, {1, linux.SO_DOMAIN}, {1, linux.SO_ERROR}, {1, linux.SO_ACCEPTCONN}, {1, linux.SO_REUSEADDR}, {1, linux.SO_BROADCAST}, {6, 999}, {41, linux.IPV6_V6ONLY}, {17, 103}} {
				e.getint(s, o[0], o[1])
			}
			for _, o := range [][3]int{{1, linux.SO_REUSEADDR, 7}, {1, linux.SO_KEEPALIVE, 1}, {1, linux.SO_TYPE, 1}, {6, linux.TCP_NODELAY, 5}, {6, linux.TCP_KEEPIDLE, 33}, {6, linux.TCP_KEEPCNT, 0}, {0, linux.IP_TTL, 77}, {0, linux.IP_TTL, 0}, {1, linux.SO_RCVBUF, 10000}} {
				if e.setint(s, o[0], o[1], o[2]) == 0 {
					e.getint(s, o[0], o[1])
				}
			}
		}},
	} {
		t.Run(s.name, func(t *testing.T) { both(t, s.run) })
	}
}

// bindScenario tries every pair of binds that Go programs meet.
func bindScenario(e *env) {
	type b struct {
		family uint16
		ip     string
		v6only int
	}
	addrs := []b{{linux.AF_INET, "127.0.0.1", 0}, {linux.AF_INET, "127.0.0.2", 0}, {linux.AF_INET, "0.0.0.0", 0}, {linux.AF_INET6, "::1", 0}, {linux.AF_INET6, "::", 0}, {linux.AF_INET6, "::", 1}}
	for _, typ := range []int{stream, datagram} {
		for _, opt := range []int{0, linux.SO_REUSEADDR, linux.SO_REUSEPORT} {
			for _, x := range addrs {
				for _, y := range addrs {
					for _, listen := range []bool{false, true} {
						if listen && typ == datagram {
							continue
						}
						e.note("%d opt %d: %v then %v listen %v", typ, opt, x, y, listen)
						var fds [2]int
						port := 0
						for i, a := range []b{x, y} {
							fds[i] = e.socket(int(a.family), typ, 0)
							if opt != 0 {
								e.setint(fds[i], linux.SOL_SOCKET, opt, 1)
							}
							if a.family == linux.AF_INET6 {
								e.setint(fds[i], linux.IPPROTO_IPV6, linux.IPV6_V6ONLY, a.v6only)
							}
							if e.bind(fds[i], inet(a.family, a.ip, port)) == 0 && i == 0 {
								port = portOf(e.sockname(fds[0], false))
							}
							if listen && i == 0 {
								e.listen(fds[0], 1)
							}
						}
						if typ == stream && !listen {
							e.listen(fds[0], 1)
							e.listen(fds[1], 1)
						}
						e.close(fds[0])
						e.close(fds[1])
					}
				}
			}
		}
	}
}

func unixScenario(e *env, typ int) {
	l := e.socket(linux.AF_UNIX, typ, 0)
	e.listen(l, 1)
	name := appendUnix(nil, e.dir+".s")
	c := e.socket(linux.AF_UNIX, typ, 0)
	e.connect(c, name)
	e.bind(l, name)
	e.connect(c, name)
	e.listen(l, 1)
	d := e.socket(linux.AF_UNIX, typ, 0)
	e.bind(d, name)
	e.poll("fresh", c)
	e.connect(c, name)
	e.connect(c, name)
	x := e.socket(linux.AF_UNIX, datagram, 0)
	e.connect(x, name)
	e.poll("l", l)
	s := e.accept(l)
	e.accept(l)
	e.note("%v", bytes.Equal(e.sockname(c, true), name))
	e.note("%d", len(e.sockname(s, true)))
	e.send(c, []byte("hello"), 0, nil)
	e.send(c, []byte("world"), 0, nil)
	e.poll("s", s)
	e.recv(s, 3, linux.MSG_PEEK)
	e.recv(s, 7, 0)
	e.recv(s, 20, 0)
	e.recv(s, 20, 0)
	e.shutdown(c, linux.SHUT_WR)
	e.poll("s", s)
	e.recv(s, 20, 0)
	e.send(c, []byte("x"), 0, nil)
	e.send(s, []byte("unread"), 0, nil)
	e.close(c)
	e.poll("s", s)
	e.recv(s, 5, 0)
	e.recv(s, 5, 0)
	e.send(s, []byte("x"), 0, nil)
	e.close(l)
	e.connect(d, name)
}

// TestDiffRandom runs random sequences of calls on connections of each kind.
func TestDiffRandom(t *testing.T) {
	kinds := map[string]func(e *env) (a, b int){
		"tcp4":      func(e *env) (int, int) { _, c, s := tcpPair(e, linux.AF_INET, "127.0.0.1"); return c, s },
		"tcp6":      func(e *env) (int, int) { _, c, s := tcpPair(e, linux.AF_INET6, "::1"); return c, s },
		"unix":      func(e *env) (int, int) { return unixPair(e, stream) },
		"seqpacket": func(e *env) (int, int) { return unixPair(e, seqpack) },
		"dgram":     func(e *env) (int, int) { return unixPair(e, datagram) },
	}
	runs := 150
	if testing.Short() {
		runs = 30
	}
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			for seed := range runs {
				both(t, func(e *env) {
					e.note("seed %d", seed)
					randomCalls(e, rand.New(rand.NewSource(int64(seed))), make)
					e.closeAll()
				})
				if t.Failed() {
					return
				}
			}
		})
	}
}

func randomCalls(e *env, r *rand.Rand, connect func(e *env) (a, b int)) {
	var fd [2]int
	fd[0], fd[1] = connect(e)
	open := [2]bool{true, true}
	pending := 0
	for range 40 {
		i := r.Intn(2)
		op, n := r.Intn(20), r.Intn(3000)
		if !open[i] {
			i = 1 - i
		}
		if !open[i] {
			return
		}
		e.note("end %d", i)
		switch {
		case op < 7:
			if pending < 20 { // well below where buffers differ
				pending++
				p := make([]byte, n)
				r.Read(p)
				e.send(fd[i], p, 0, nil)
			}
		case op < 14:
			e.recv(fd[i], n, 0)
		case op < 15:
			e.recv(fd[i], n, linux.MSG_PEEK)
		case op < 16:
			e.getint(fd[i], linux.SOL_SOCKET, linux.SO_ERROR)
		case op < 18:
			e.poll("poll", fd[i])
		case op < 19:
			e.shutdown(fd[i], r.Intn(3))
		case r.Intn(2) == 0:
			open[i] = false
			e.close(fd[i])
		}
	}
}
