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
