package broker

import (
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// TestPairs: what a guest may ask for, and that nobody can change the size of the memory.
func TestPairs(t *testing.T) {
	g := start(t, setup{family: &fakeFamily{}})
	for _, m := range []abi.Msg{
		{A: unix.SOCK_DGRAM}, {A: unix.SOCK_STREAM | 1<<32}, {A: unix.SOCK_STREAM, B: 1}, {A: unix.SOCK_STREAM, B: abi.PageSize - 1},
		{A: unix.SOCK_STREAM, B: maxShare + abi.PageSize}, {A: unix.SOCK_STREAM, B: 1 << 63},
	} {
		m.Op = abi.OpPair
		g.refused(unix.EINVAL, m, nil)
	}
	for _, m := range []abi.Msg{{C: 4}, {B: 9, C: abi.KillRuns}, {C: 1 << 40}} {
		m.Op, m.A = abi.OpKill, 1
		g.refused(unix.EINVAL, m, nil)
	}
	g.refused(unix.ESRCH, abi.Msg{Op: abi.OpKill, A: 5, C: abi.KillRuns}, nil)
	const size = 5 * abi.PageSize
	fds := g.must(abi.Msg{Op: abi.OpPair, A: unix.SOCK_STREAM, B: size}, nil).fds
	if len(fds) != 3 {
		t.Fatalf("%d descriptors, want 3", len(fds))
	}
	unix.Write(fds[0], []byte("x"))
	if n, err := unix.Read(fds[1], make([]byte, 2)); n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, err := unix.Read(fds[1], make([]byte, 2)); err != unix.EAGAIN {
		t.Errorf("nothing to read: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fds[2], &st); err != nil || st.Size != size {
		t.Error(st.Size, err)
	}
	for _, n := range []int64{0, size - 1, size + 1} {
		if err := unix.Ftruncate(fds[2], n); err != unix.EPERM {
			t.Errorf("to %d bytes: %v", n, err)
		}
	}
}

// fullFamily is one whose members have as much as they may have.
type fullFamily struct {
	fakeFamily
	full     bool
	unshared chan [2]uint64
}

func (f *fullFamily) NewPair() (uint64, error) {
	if f.full {
		return 0, unix.EMFILE
	}
	return 7, nil
}

func (f *fullFamily) NewShare(n uint64, withPair bool) (place, pair uint64, err error) {
	if f.full {
		return 0, 0, unix.EMFILE
	}
	if withPair {
		pair = 8
	}
	return n, pair, nil
}

func (f *fullFamily) Unshare(place, pair uint64)            { f.unshared <- [2]uint64{place, pair} }
func (*fullFamily) Rejoin(uint32) (int, uint64, int, error) { return -1, 0, 0, unix.EBADF }
func (*fullFamily) Rejoined()                               {}

// TestPairsBounded: a member is told what it was given, gives it back, and gets nothing when it
// has too much; nothing is left open then.
func TestPairsBounded(t *testing.T) {
	f := &fullFamily{unshared: make(chan [2]uint64, 1)}
	g := start(t, setup{family: f})
	g.closes = true
	requests := []abi.Msg{
		{Op: abi.OpPair, A: unix.SOCK_STREAM}, {Op: abi.OpPair, A: unix.SOCK_STREAM, B: abi.PageSize}, {Op: abi.OpShare, A: 2 * abi.PageSize},
		{Op: abi.OpExecFile, A: g.must(abi.Msg{Op: abi.OpExecNew}, str("helper")).A, B: 5, C: abi.ExecPipe},
		{Op: abi.OpPair, A: unix.SOCK_STREAM, B: abi.PageSize, C: abi.PairEventfd},
	}
	wants := [][2]uint64{{7, 0}, {8, abi.PageSize}, {2 * abi.PageSize, 0}}
	for i, want := range wants {
		r := g.must(requests[i], nil)
		if r.A != want[0] || r.B != want[1] {
			t.Errorf("%+v: %d, %d, want %d", requests[i], r.A, r.B, want)
		}
		for _, fd := range r.fds {
			unix.Close(fd)
		}
	}
	f.full = true
	open := openFDs(t)
	for _, m := range requests {
		g.refused(unix.EMFILE, m, nil)
	}
	noMore(t, open)
	g.post(abi.Msg{Op: abi.OpUnshare, A: 3, B: 4})
	if got := <-f.unshared; got != [2]uint64{3, 4} {
		t.Error("given back:", got)
	}
}

// TestPairEventfd: with memory comes what wakes all who watch it, if it is asked for.
func TestPairEventfd(t *testing.T) {
	g := start(t, setup{family: &fullFamily{}})
	fds := g.must(abi.Msg{Op: abi.OpPair, A: unix.SOCK_STREAM, B: abi.PageSize, C: abi.PairEventfd}, nil).fds
	if len(fds) != 4 {
		t.Fatalf("%d descriptors, want 4", len(fds))
	}
	var polls [2]int
	for i := range polls {
		polls[i], _ = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		defer unix.Close(polls[i])
		if err := unix.EpollCtl(polls[i], unix.EPOLL_CTL_ADD, fds[3], &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if n, err := unix.Write(fds[3], []byte{1, 0, 0, 0, 0, 0, 0, 0}); n != 8 || err != nil {
			t.Fatal(n, err)
		}
		for i, poll := range polls {
			if n, err := unix.EpollWait(poll, make([]unix.EpollEvent, 2), 1000); n != 1 || err != nil {
				t.Fatalf("%d is told %d times (%v)", i, n, err)
			}
		}
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	if fds := g.must(abi.Msg{Op: abi.OpPair, A: unix.SOCK_STREAM, C: abi.PairEventfd}, nil).fds; len(fds) != 1 {
		t.Errorf("%d descriptors without memory, want 1", len(fds))
	} else {
		unix.Close(fds[0])
	}
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpPair, A: unix.SOCK_STREAM, B: abi.PageSize, C: abi.PairEventfd + 1}, nil)
}
