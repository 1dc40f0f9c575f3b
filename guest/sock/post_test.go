package sock

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"noyau.dev/guest/linux"
)

// arriving is a datagram socket, and a descriptor by which datagrams of another member arrive.
func arriving(t *testing.T) (s *Socket, from int) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s = newSocket(linux.AF_UNIX, linux.SOCK_DGRAM, 0)
	netMu.Lock()
	_, e := s.attach(int32(fds[0]), 0)
	netMu.Unlock()
	if e != 0 {
		t.Fatal(e)
	}
	t.Cleanup(func() { s.Release(); syscall.Close(fds[1]) })
	return s, fds[1]
}

// TestPostForged: what no library OS sends is passed over, and what comes after it is received.
func TestPostForged(t *testing.T) {
	s, from := arriving(t)
	long := strings.Repeat("n", maxUnixPath)
	for _, flags := range []int{0, linux.MSG_PEEK} {
		for _, bad := range []string{"", "\x01", "\x05abcd", "\x6d" + long + "xyz", "\xff" + strings.Repeat("x", 300)} {
			if _, err := syscall.Write(from, []byte(bad)); err != nil {
				t.Fatal(err)
			}
		}
		for _, good := range []struct{ name, data string }{{"", ""}, {"", "abc"}, {"ab", ""}, {"/x", "abc"}, {long, strings.Repeat("d", 100)}} {
			if _, err := syscall.Write(from, []byte(string(rune(len(good.name)))+good.name+good.data)); err != nil {
				t.Fatal(err)
			}
			for _, f := range []int{flags, 0} {
				m := message{p: make([]byte, 100), flags: f}
				n, e := s.recv(&m)
				if e != 0 || string(m.p[:n]) != good.data || m.name != good.name || m.out != 0 {
					t.Errorf("%q, %v, %q, want %q of %q", m.p[:n], e, m.name, good.data, good.name)
				}
				if flags == 0 {
					break
				}
			}
		}
	}
	syscall.Write(from, []byte("\x01n"+strings.Repeat("d", 300)))
	m := message{p: make([]byte, 10), flags: linux.MSG_TRUNC}
	if n, e := s.recv(&m); n != 300 || e != 0 || m.out != linux.MSG_TRUNC {
		t.Error("cut off:", n, e, m.out)
	}
	if _, e := s.recv(&m); e != linux.EAGAIN {
		t.Error(e)
	}
}

// TestPostRandom: whatever arrives, a name is no longer than names are.
func TestPostRandom(t *testing.T) {
	s, from := arriving(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		b := make([]byte, r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if len(b) > 0 && r.IntN(2) == 0 {
			b[0] = byte(r.IntN(130))
		}
		if _, err := syscall.Write(from, b); err != nil {
			t.Fatal(err)
		}
		m := message{p: make([]byte, r.IntN(200)), flags: []int{0, linux.MSG_PEEK, linux.MSG_TRUNC}[r.IntN(3)]}
		n, e := s.recv(&m)
		if e != 0 && e != linux.EAGAIN || len(m.name) > maxUnixPath || n > 300 || n > len(m.p) && m.flags != linux.MSG_TRUNC {
			t.Fatalf("%x: %d, %v, %q", b, n, e, m.name)
		}
		for e == 0 {
			_, e = s.recv(&message{p: make([]byte, 10)})
		}
	}
}
