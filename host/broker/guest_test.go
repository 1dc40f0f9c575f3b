package broker

import (
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/names"
	"noyau.dev/host/policy"
	"noyau.dev/host/volume"
)

// A guest is the other side of the control channel, as an image is: it speaks
// the protocol over a real socket to a real Broker.
type guest struct {
	t  testing.TB
	b  *Broker
	fd int // blocking

	bound map[policy.Publish]netip.AddrPort

	closes bool // the test closes what it gets

	mu   sync.Mutex
	next uint32
}

type setup struct {
	net      policy.Net
	publish  []policy.Publish
	volumes  []volume.Spec
	resolver names.Resolver
	max      int
	family   Family
	sockets  *Sockets
	failed   func(error)
	restored *Restored
	shared   *Ports
}

func start(t testing.TB, s setup) *guest {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(fds[0], true)
	guard := policy.NewGuard(s.net)
	c := Config{
		Control: os.NewFile(uintptr(fds[0]), "control"), Guard: guard,
		Names: names.New(guard, "pvm", s.resolver), MaxHandles: s.max, Family: s.family, Sockets: s.sockets,
		Failed: func(err error) { t.Errorf("the broker failed: %v", err) },
	}
	if s.failed != nil {
		c.Failed = s.failed
	}
	if c.Ports, err = OpenPorts(s.publish); err != nil {
		t.Fatal(err)
	}
	if err := c.Ports.Join(s.shared); err != nil {
		t.Fatal(err)
	}
	c.Restored = s.restored
	ids := volume.IDs{HostUID: uint32(os.Geteuid()), HostGID: uint32(os.Getegid()), GuestUID: 1000, GuestGID: 1000}
	for n, v := range s.volumes {
		r, err := volume.Open(v, uint32(n), ids)
		if err != nil {
			t.Fatal(err)
		}
		c.Roots = append(c.Roots, r)
	}
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, b: b, fd: fds[1], bound: c.Ports.Bound()}
	go b.Serve()
	t.Cleanup(func() {
		g.close()
		select {
		case <-b.Done():
		case <-time.After(20 * time.Second):
			t.Error("the broker did not end with its guest")
		}
	})
	return g
}

func (g *guest) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd >= 0 {
		unix.Close(g.fd)
		g.fd = -1
	}
}

// answer is a reply as the guest gets it.
type answer struct {
	abi.Msg
	payload []byte
	fd      int   // the first, -1: none
	fds     []int // all
}

func (a answer) err() error {
	if a.Errno == 0 {
		return nil
	}
	return unix.Errno(a.Errno)
}

// send sends a request and returns its id.
func (g *guest) send(m abi.Msg, payload []byte, fds ...int) uint32 {
	g.t.Helper()
	g.next++
	m.ID = g.next
	p := make([]byte, abi.MsgSize, abi.MsgSize+len(payload))
	m.Put(p)
	g.packet(append(p, payload...), fds...)
	return m.ID
}

func (g *guest) packet(p []byte, fds ...int) {
	g.t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(g.fd, p, oob, nil, unix.MSG_NOSIGNAL); err != nil {
		g.t.Fatalf("sending a message: %v", err)
	}
}

// recv returns the next message, which must come within some seconds.
func (g *guest) recv() answer {
	g.t.Helper()
	p := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 20000)
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			g.t.Fatalf("no answer from the broker (%v)", err)
		}
		break
	}
	buf := make([]byte, abi.MaxMsg)
	n, fds, _, err := recvPacket(g.fd, buf, unix.CmsgSpace(4*abi.MaxRights))
	if err != nil {
		g.t.Fatalf("receiving a message: %v", err)
	}
	a := answer{fd: -1}
	var ok bool
	if a.Msg, a.payload, ok = abi.TakeMsg(buf[:n]); !ok {
		g.t.Fatalf("the broker sent %d bytes that are no message", n)
	}
	if len(fds) > 0 {
		a.fd, a.fds = fds[0], fds
		if _, ok := g.t.(*testing.B); !ok && !g.closes {
			g.t.Cleanup(func() { unix.Close(a.fd) })
		}
	}
	return a
}

// call sends a request and returns its answer; nothing else may be under way.
func (g *guest) call(m abi.Msg, payload []byte, fds ...int) answer {
	g.t.Helper()
	id := g.send(m, payload, fds...)
	a := g.recv()
	for a.ID == 0 && a.Op == abi.EvGiveBack {
		a = g.recv()
	}
	if a.ID != id || a.Op != m.Op {
		g.t.Fatalf("answer has id %d op %d; want %d, %d", a.ID, a.Op, id, m.Op)
	}
	return a
}

func (g *guest) must(m abi.Msg, payload []byte, fds ...int) answer {
	g.t.Helper()
	a := g.call(m, payload, fds...)
	if a.Errno != 0 {
		g.t.Fatalf("op %d: %v", m.Op, a.err())
	}
	return a
}

func (g *guest) refused(want unix.Errno, m abi.Msg, payload []byte, fds ...int) {
	g.t.Helper()
	if a := g.call(m, payload, fds...); a.err() != want {
		g.t.Errorf("op %d, %+v: got %v; want %v", m.Op, m, a.err(), want)
	} else if a.fd >= 0 || a.Handle != 0 {
		g.t.Errorf("op %d: refused, but a handle was given", m.Op)
	}
}

func str(s ...string) []byte {
	var b []byte
	for _, x := range s {
		b = abi.AppendString(b, x)
	}
	return b
}

func addr(s string) []byte { return encodeAddr(netip.MustParseAddrPort(s)) }

func (g *guest) open(path string, flags int) answer {
	g.t.Helper()
	a := g.must(abi.Msg{Op: abi.OpOpen, B: uint64(flags), C: 0o644}, str(path))
	if a.Handle == 0 || a.fd < 0 {
		g.t.Fatalf("open %s: no handle", path)
	}
	return a
}

// noMore fails the test if more descriptors stay open than n. What a reply gives is closed
// after it was sent, so the last may be closed when the guest has its answer already.
func noMore(t testing.TB, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); openFDs(t) > n; time.Sleep(time.Millisecond) {
		if time.Now().Before(end) {
			continue
		}
		list, _ := os.ReadDir("/proc/self/fd")
		t.Errorf("%d descriptors stay open, %d were before:", len(list), n)
		for _, fd := range list {
			to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
			t.Errorf("  %s: %s", fd.Name(), to)
		}
		return
	}
}

// openFDs is the number of open descriptors of this process.
func openFDs(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc to count descriptors: " + err.Error())
	}
	return len(d)
}
