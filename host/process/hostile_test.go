package process

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A hostile image makes raw system calls of every number by every entry into the
// kernel. It dies of each that is not in the list.

func TestEveryNumber(t *testing.T) {
	allowed := map[uint64]bool{}
	for _, r := range ImageRules(Allow{}) {
		allowed[uint64(r.Nr)] = len(r.Any) == 0
	}
	if _, err := theJail(); err != nil {
		t.Fatal(err)
	}
	ours := openFiles(t)
	for nr := range uint64(480) {
		// Arguments that no condition accepts, and that a call would take: 1 is the
		// standard output, the addresses are the guest's own.
		guest := new(code).sys(nr, 1, guestBase, guestBase, 1, guestBase, 1).exit(survived)
		st := start(t, guest, Spec{})
		switch {
		case uprobes[nr]:
			if st.Code == 0 && st.Signal == 0 {
				t.Errorf("call %d: succeeded", nr)
			}
		case !allowed[nr] && st != killed:
			t.Errorf("call %d: got %+v, want SIGSYS", nr, st)
		case allowed[nr] && st == killed:
			t.Errorf("call %d is allowed, but ended the guest", nr)
		}
	}
	if now := openFiles(t); now != ours {
		t.Errorf("%d open descriptors after the attacks, %d before", now, ours)
	}
}

// uprobes are calls that Linux answers before it asks any filter, since the
// kernel itself puts them into programs under its probes: uretprobe and uprobe
// (Linux 6.14 and 6.18). From anywhere else they fail or raise SIGILL.
var uprobes = map[uint64]bool{335: true, 336: true}

func TestX32(t *testing.T) {
	for nr := range uint64(560) {
		if nr > 340 && nr < 510 && nr%16 != 0 {
			continue
		}
		guest := new(code).sys(nr|0x40000000, 1, guestBase, 1).exit(survived)
		if st := start(t, guest, Spec{}); st != killed {
			t.Errorf("x32 call %d: got %+v, want SIGSYS", nr, st)
		}
	}
}

func TestInt80(t *testing.T) {
	for nr := range uint64(460) {
		guest := new(code).load(nr, 1, guestBase, 1).raw(0xcd, 0x80).exit(survived)
		st := start(t, guest, Spec{})
		// A kernel without 32-bit programs has no such entry.
		if st != killed && st.Signal != int(unix.SIGSEGV) {
			t.Errorf("int 0x80 call %d: got %+v, want a signal", nr, st)
		}
	}
}

func TestSysenter(t *testing.T) {
	guest := new(code).load(4, 1, guestBase, 1).raw(0x0f, 0x34).exit(survived)
	if st := start(t, guest, Spec{}); st.Signal == 0 {
		t.Errorf("sysenter: got %+v, want a signal", st)
	}
}

func TestAttacks(t *testing.T) {
	parent := uint64(os.Getpid())
	rw, exec := uint64(readWrite), uint64(unix.PROT_EXEC)
	fixed := uint64(mapAnon)
	tests := []struct {
		name  string
		guest *code
		want  int // signal
	}{
		{"kill the parent", new(code).sys(unix.SYS_KILL, parent, 9), 31},
		{"kill everything", new(code).sys(unix.SYS_KILL, ^uint64(0), 9), 31},
		{"trace the parent", new(code).sys(unix.SYS_PTRACE, unix.PTRACE_ATTACH, parent), 31},
		{"read the parent's memory", new(code).sys(unix.SYS_PROCESS_VM_READV, parent, guestBase, 1, guestBase, 1), 31},
		{"open a file", new(code).sys(unix.SYS_OPENAT, uint64(1<<64-100), guestBase), 31},
		{"a socket", new(code).sys(unix.SYS_SOCKET, 2, 1), 31},
		{"executable memory", new(code).sys(unix.SYS_MMAP, abi.RegionBase, 4096, rw|exec, fixed, ^uint64(0)), 31},
		{"executable file", new(code).sys(unix.SYS_MMAP, 0, 4096, exec|1, unix.MAP_SHARED, 4), 31},
		{"make memory executable", new(code).sys(unix.SYS_MPROTECT, guestBase, 4096, 7), 31},
		{"map over its own text", new(code).sys(unix.SYS_MMAP, guestBase, 4096, rw, fixed, ^uint64(0)), 31},
		{"map at zero", new(code).sys(unix.SYS_MMAP, 0, 4096, rw, fixed, ^uint64(0)), 31},
		{"map above the region", new(code).sys(unix.SYS_MMAP, regionEnd, 4096, rw, fixed, ^uint64(0)), 31},
		{"map the other half", new(code).sys(unix.SYS_MMAP, abi.RegionBase|1<<63, 4096, rw, fixed, ^uint64(0)), 31},
		{"execute again", new(code).sys(unix.SYS_EXECVEAT, 6, guestBase+8, 0, 0, unix.AT_EMPTY_PATH, 0), 31},
		{"execute a handle", new(code).sys(unix.SYS_EXECVEAT, 4, guestBase+8, 0, 0, unix.AT_EMPTY_PATH, ^uint64(0)), 31},
		{"execute with half of the secret", new(code).sys(unix.SYS_EXECVEAT, 6, guestBase+8, 0, 0, unix.AT_EMPTY_PATH, execSecret()^1<<63), 31},
		{"execute by name", new(code).sys(unix.SYS_EXECVE, guestBase), 31},
		{"loosen the filter", new(code).sys(unix.SYS_SECCOMP, 1, 0, guestBase), 31},
		{"become root", new(code).sys(unix.SYS_SETUID, 0), 31},
		{"leave the namespaces", new(code).sys(unix.SYS_SETNS, 3, 0), 31},
		{"a thread", new(code).sys(unix.SYS_CLONE, unix.CLONE_VM|unix.CLONE_THREAD|unix.CLONE_SIGHAND), 31},
		{"watch by another epoll instance", new(code).sys(unix.SYS_EPOLL_PWAIT, 3, 0, 1, 0, 0, 8), 31},
		{"a message by another socket", new(code).sys(unix.SYS_SENDMSG, 1, guestBase, 0), 31},
		{"datagram to an address", new(code).sys(unix.SYS_SENDTO, 1, guestBase, 1, 0, guestBase, 16), 31},
		{"write its own text", new(code).raw(0x48, 0xb8, 0, 0, 0x40, 0, 0, 0, 0, 0, 0x88, 0x00), 11}, // mov [0x400000], al
		{"read zero", new(code).raw(0x31, 0xc0, 0x8b, 0x00), 11},                                     // mov eax, [0]
		{"read the kernel", new(code).raw(0x48, 0xc7, 0xc0, 0, 0, 0, 0x81, 0x8b, 0x00), 11},
		{"run the stack", new(code).raw(0xff, 0xe4), 11},           // jmp rsp
		{"a port", new(code).raw(0xe4, 0x60), 11},                  // in al, 0x60
		{"halt", new(code).raw(0xf4), 11},                          // hlt
		{"no instruction", new(code).raw(0x0f, 0x0b), 4},           // ud2
		{"return to nowhere", new(code).raw(0x6a, 0xff, 0xc3), 11}, // push -1; ret
	}
	for _, tt := range tests {
		if st := start(t, tt.guest.exit(survived), Spec{}); st.Signal != tt.want {
			t.Errorf("%s: got %+v, want signal %d", tt.name, st, tt.want)
		}
	}
}

// Wild pointers in calls that are allowed are errors, and no more.
func TestWildPointers(t *testing.T) {
	a, _ := socketpair(t)
	for _, nr := range []uint64{unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_PREAD64, unix.SYS_PWRITE64} {
		for _, p := range []uint64{0, 8, 0x7ffffffff000, 1 << 47, 0xffffffff81000000, ^uint64(0) - 4095} {
			files := testFiles(t)
			files[1] = a
			guest := new(code).sys(nr, 1, p, 64, unix.MSG_DONTWAIT).exitErrno()
			st := start(t, guest, Spec{Files: files})
			if st.Signal != 0 || st.Code == 0 {
				t.Errorf("call %d with address %#x: got %+v, want an error number", nr, p, st)
			}
		}
	}
}

// There are six descriptors and no more.
func TestNoOtherDescriptors(t *testing.T) {
	for fd := range uint64(300) {
		guest := new(code).sys(unix.SYS_PREAD64, fd, guestBase, 0, 0).exitErrno()
		st := start(t, guest, Spec{})
		if bad := st.Code == int(unix.EBADF); bad != (fd >= 6) {
			t.Errorf("descriptor %d: pread gives %v", fd, unix.Errno(st.Code))
		}
	}
}

// Nothing of the launcher is left in what an image can read: its stack holds
// arguments and environment, and not the secret.
func TestStackHoldsNoSecret(t *testing.T) {
	ours, theirs := socketpair(t)
	files := testFiles(t)
	files[1] = theirs
	const text = "first\x00second one\x00KEY=value\x00"
	var guest code
	send := func(size uint64, address ...byte) {
		guest.load(unix.SYS_SENDTO, 1, 0, size, 0, 0, 0)
		guest.raw(address...).raw(0x0f, 0x05)
	}
	send(8, 0x48, 0x89, 0xe6)                             // mov rsi, rsp: argc
	send(uint64(len(text)), 0x48, 0x8b, 0x74, 0x24, 0x08) // mov rsi, [rsp+8]: argv[0]
	for off := range uint32(160) {                        // in pieces, as the end of the stack is near
		lea := binary.LittleEndian.AppendUint32([]byte{0x48, 0x8d, 0xb4, 0x24}, 64*off)
		send(64, lea...) // lea rsi, [rsp+64*off]
	}
	s := Spec{Files: files, Args: []string{"first", "second one"}, Env: []string{"KEY=value"}}
	if st := start(t, guest.exit(survived), s); st.Code != survived {
		t.Fatalf("got %+v", st)
	}
	theirs.Close()
	stack, err := io.ReadAll(ours)
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x02\x00\x00\x00\x00\x00\x00\x00" + text; !strings.HasPrefix(string(stack), want) {
		t.Errorf("argc and arguments are %q, want %q", stack[:min(len(stack), len(want))], want)
	}
	if bytes.Contains(stack, binary.LittleEndian.AppendUint64(nil, execSecret())) {
		t.Error("the launcher's secret is on the stack")
	}
}

// socketpair returns two connected stream sockets.
func socketpair(t testing.TB) (a, b *os.File) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(p[0]), "a"), os.NewFile(uintptr(p[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// openFiles counts the open descriptors of this process.
func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
