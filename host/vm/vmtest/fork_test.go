package vmtest

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// forkArgs is what the third argument of CallFork points to.
func forkArgs(give [4]uint32, boot, own, words uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, abi.VMForkSize)
	for i, h := range give {
		le.PutUint32(b[4*i:], h)
	}
	le.PutUint64(b[abi.VMForkBoot:], boot)
	le.PutUint64(b[abi.VMForkOwn:], own)
	le.PutUint64(b[abi.VMForkWords:], words)
	return b
}

// gifts are what the monitor gives for a child, and the host's end of its channel.
func gifts(t *testing.T) (give []*os.File, control *os.File) {
	t.Helper()
	guest, ours, err := pair(unix.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	h := abi.BootHeader{Magic: abi.Magic, Version: abi.Version, Flags: abi.BootVM | abi.BootFork, Size: abi.BootSize, ID: 2, PID: 77, PPID: 1}
	b := make([]byte, abi.BootSize)
	h.Put(b)
	boot, err := memfd("boot", b)
	if err != nil {
		t.Fatal(err)
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	give = []*os.File{guest, boot, os.NewFile(uintptr(ep), "epoll"), os.NewFile(uintptr(dead), "dead")}
	t.Cleanup(func() {
		for _, f := range give {
			f.Close()
		}
		ours.Close()
	})
	return give, ours
}

// TestForkForged: a fork with arguments that are not the guest's does not happen.
func TestForkForged(t *testing.T) {
	give, _ := gifts(t)
	list := [4]uint32{6, 7, 8, 9}
	bad := [][]byte{
		forkArgs([4]uint32{6, 7, 8, 99}, Data+0x200, Data+0x300, 1),
		forkArgs([4]uint32{3, 7, 8, 9}, Data+0x200, Data+0x300, 1),
		forkArgs([4]uint32{6, 7, ^uint32(0), 9}, Data+0x200, Data+0x300, 1),
		forkArgs(list, textPtr, Data+0x300, 1),
		forkArgs(list, lastPtr, Data+0x300, 1),
		forkArgs(list, Data+0x200, badPtr, 1),
		forkArgs(list, Data+0x200, dataEnd-8, 2),
		forkArgs(list, Data+0x200, lastPtr, 1),
		forkArgs(list, Data+0x200, Data+0x300, abi.VMForkMost+1),
		forkArgs(list, Data+0x200, Data+0x300, 1<<61),
	}
	want := []unix.Errno{unix.EBADF, unix.EBADF, unix.EBADF, unix.EFAULT, unix.EFAULT, unix.EFAULT, unix.EFAULT, unix.EFAULT, unix.EINVAL, unix.EINVAL}
	data := make([]byte, 0x400+0x40*len(bad))
	copy(data[0x80:], forkArgs(list, Data+0x200, Data+0x300, 1))
	good := uint64(Data + 0x80)
	cases := []callCase{
		{"no memory", abi.CallFork, []uint64{abi.ForkFlags, 0, badPtr}, errno(unix.EFAULT)},
		{"in the info page, of zeros", abi.CallFork, []uint64{abi.ForkFlags, 0, abi.VMInfoPage + 0x100}, errno(unix.EBADF)},
		{"past the end", abi.CallFork, []uint64{abi.ForkFlags, 0, dataEnd - abi.VMForkSize + 1}, errno(unix.EFAULT)},
		{"another stack", abi.CallFork, []uint64{abi.ForkFlags, Data, good}, errno(unix.EINVAL)},
		{"a thread", abi.CallFork, []uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND, 0, good}, errno(unix.EINVAL)},
		{"no parent", abi.CallFork, []uint64{uint64(unix.SIGCHLD), 0, good}, errno(unix.EINVAL)},
		{"a namespace", abi.CallFork, []uint64{abi.ForkFlags | unix.CLONE_NEWUSER, 0, good}, errno(unix.EINVAL)},
		{"upper bits", abi.CallFork, []uint64{abi.ForkFlags | 1<<40, 0, good}, errno(unix.EINVAL)},
	}
	for i, b := range bad {
		at := 0x400 + 0x40*i
		copy(data[at:], b)
		cases = append(cases, callCase{"arguments " + string(rune('a'+i)), abi.CallFork, []uint64{abi.ForkFlags, 0, Data + uint64(at)}, errno(want[i])})
	}
	runCallsOf(t, cases, data, Options{Flags: abi.BootFork, Handles: give})
}

// TestFork forks a guest: registers go over, memory is a copy, the child has its own
// channel and boot block, and its parent's connections are dead there.
func TestFork(t *testing.T) {
	give, control := gifts(t)
	conn, peer, err := pair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer peer.Close()
	const boot, own, out, args = Data + 0x200, Data + 0x300, Data + 0x400, Data + 0x80
	data := make([]byte, 0x500)
	copy(data[args-Data:], forkArgs([4]uint32{6, 7, 8, 9}, boot, own, 1))
	data[own-Data+1] = 1 << (10 - 8) // handle 10 is a connection
	const mark, base = 0x1122334455667788, 0x112233445560
	a := NewAsm().Mov(RBP, mark)
	a.Mov(RAX, mark+1).Raw(0x66, 0x48, 0x0f, 0x6e, 0xe8) // movq %rax, %xmm5
	a.Mov(RAX, base).Raw(0xf3, 0x48, 0x0f, 0xae, 0xd0)   // wrfsbase %rax
	a.CallN(abi.CallFork, abi.ForkFlags, 0, args)
	a.Mov(RBX, out).Store(RBX, 0, RAX).Store(RBX, 8, RBP)
	a.Raw(0x66, 0x48, 0x0f, 0x7e, 0xe9).Store(RBX, 16, RCX) // movq %xmm5, %rcx
	a.Raw(0xf3, 0x48, 0x0f, 0xae, 0xc1).Store(RBX, 24, RCX) // rdfsbase %rcx
	a.MovR(R12, RAX)
	a.CallN(abi.CallSend, 10, out, 1, 0, 0, 0).Mov(RBX, out).Store(RBX, 32, RAX)
	a.Mov(RBX, boot).Load(RCX, RBX, 40).Mov(RBX, out).Store(RBX, 40, RCX) // process ids
	a.CallN(abi.CallClose, 6).Mov(RBX, out).Store(RBX, 48, RAX)           // moved away in the child
	a.Mov(RCX, 0).Cmp(R12, RCX).Jz("child")
	a.Print(out, 56).Exit(0)
	a.Label("child").CallN(abi.CallSend, abi.HandleControl, out, 56, 0, 0, 0).Exit(3)

	r := run(t, a, data, Options{Flags: abi.BootFork, Handles: append(give, conn)})
	for _, f := range give {
		f.Close()
	}
	if r.Code != 0 || len(r.Err) != 0 {
		t.Fatalf("parent: %+v", r)
	}
	var b [256]byte
	n, err := control.Read(b[:])
	if m, _, ok := abi.TakeMsg(b[:n]); err != nil || !ok || m.Op != abi.OpHello {
		t.Fatalf("first message: %x, %v", b[:n], err)
	}
	if n, err = control.Read(b[:]); n != 56 || err != nil {
		t.Fatalf("second message: %d bytes, %v", n, err)
	}
	le := binary.LittleEndian
	word := func(b []byte, i int) uint64 { return le.Uint64(b[8*i:]) }
	for _, c := range []struct {
		who  string
		got  []byte
		want [7]uint64
	}{
		{"parent", r.Out, [7]uint64{1, mark, mark + 1, base, 1, 0, 0}},
		{"child", b[:n], [7]uint64{0, mark, mark + 1, base, uint64(errno(unix.ENOTCONN)), 77 | 1<<32, uint64(errno(unix.EBADF))}},
	} {
		for i, want := range c.want {
			if got := word(c.got, i); got != want {
				t.Errorf("%s: word %d is %#x, want %#x", c.who, i, got, want)
			}
		}
	}
	if n, err := control.Read(b[:]); n != 0 && err == nil {
		t.Errorf("a third message: %x", b[:n])
	}
	conn.Close()
	if sent, err := io.ReadAll(peer); len(sent) != 1 || err != nil {
		t.Errorf("the parent's connection has %x, %v", sent, err)
	}
	if bytes.Contains(r.Out, []byte{77, 0, 0, 0, 1}) {
		t.Error("the parent has its child's boot block")
	}
}
