package sock

import (
	"math/rand"
	"syscall"
	"testing"

	"noyau.dev/guest/linux"
)

// TestDiffNames runs random sequences of the calls that give sockets names and
// peers, for TCP and UDP of both families together.
func TestDiffNames(t *testing.T) {
	runs := 200
	if testing.Short() {
		runs = 40
	}
	for seed := range runs {
		both(t, func(e *env) {
			e.note("seed %d", seed)
			randomNames(e, rand.New(rand.NewSource(int64(seed))), seed%2 == 0)
			e.closeAll()
		})
	}
}

type named struct {
	fd     int
	family uint16
}

func randomNames(e *env, r *rand.Rand, tcp bool) {
	typ := datagram
	if tcp {
		typ = stream
	}
	var all []named
	open := func() {
		n := named{family: []uint16{linux.AF_INET, linux.AF_INET6}[r.Intn(2)]}
		n.fd = e.socket(int(n.family), typ, 0)
		if tcp {
			e.setint(n.fd, linux.SOL_SOCKET, linux.SO_REUSEADDR, 1)
		}
		if n.family == linux.AF_INET6 {
			only := r.Intn(2)
			if !tcp {
				// A dual-stack socket connected to ::1 keeps 0.0.0.0 from being
				// bound on Linux, though one bound to ::1 does not. Not so here.
				only = 1
			}
			e.setint(n.fd, linux.IPPROTO_IPV6, linux.IPV6_V6ONLY, only)
		}
		all = append(all, n)
	}
	port := func() int {
		if r.Intn(4) == 0 || len(all) == 0 {
			return 0
		}
		sa := e.sockname(all[r.Intn(len(all))].fd, false)
		if sa == nil {
			return 0
		}
		return portOf(sa)
	}
	where := func(family uint16) []byte {
		ips := []string{"127.0.0.1", "0.0.0.0", "127.0.0.2"}
		if family == linux.AF_INET6 {
			ips = []string{"::1", "::", "127.0.0.1", "::1"}
		}
		return inet(family, ips[r.Intn(len(ips))], port())
	}
	for range 40 {
		if len(all) < 3 || len(all) < 8 && r.Intn(5) == 0 {
			open()
		}
		i := r.Intn(len(all))
		n := all[i]
		e.note("socket %d of family %d", i, n.family)
		switch op := r.Intn(20); {
		case op < 4:
			e.bind(n.fd, where(n.family))
		case op < 7 && tcp:
			e.listen(n.fd, 20)
		case op < 11:
			sa := where(n.family)
			if portOf(sa) == 0 {
				break // what Linux says of port 0 depends on its routes
			}
			if tcp && portOf(e.sockname(n.fd, false)) == portOf(sa) {
				break // Linux connects a TCP socket to itself; here that is refused
			}
			if e.connect(n.fd, sa) == linux.ECONNREFUSED && tcp {
				// Linux goes on showing the port that it has given back.
				e.close(n.fd)
				all = append(all[:i], all[i+1:]...)
			}
		case op < 13 && tcp:
			if fd := e.accept(n.fd); fd >= 0 {
				all = append(all, named{fd, n.family})
			}
		case op < 15:
			e.address("local", n, false)
			e.address("peer", n, true)
		case op < 17:
			if tcp {
				e.send(n.fd, []byte("data"), 0, nil)
				break
			}
			sa := where(n.family)
			if portOf(sa) != 0 {
				e.send(n.fd, []byte("data"), 0, sa)
			}
		case op < 18:
			e.recv(n.fd, 10, 0)
		case op < 19:
			e.poll("poll", n.fd)
		default:
			e.close(n.fd)
			all = append(all[:i], all[i+1:]...)
		}
	}
}

// address writes down a socket's name but for the port's number, which differs
// from run to run.
func (e *env) address(what string, n named, peer bool) {
	nr := uintptr(syscall.SYS_GETSOCKNAME)
	if peer {
		nr = syscall.SYS_GETPEERNAME
	}
	p, l := e.alloc(128), e.alloc(4)
	put32(l, 128)
	if _, errno := e.do(what, nr, uintptr(n.fd), addrOf(p), addrOf(l)); errno != 0 {
		return
	}
	ip := p[4:8]
	if n.family == linux.AF_INET6 {
		ip = p[8:24]
	}
	e.note("  %d bytes, family %d, ip %x, has a port: %v", le32(l), p[0], ip, portOf(p) != 0)
}
