package trace

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"noyau.dev/abi"
	_ "noyau.dev/guest/event"
	. "noyau.dev/guest/guesttest"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	_ "noyau.dev/guest/proc"
)

func TestTables(t *testing.T) {
	for _, c := range []struct {
		list string
		i    int
		want string
	}{
		{calls, 0, "read:fBu"}, {calls, linux.SYS_OPENAT, "openat:asom"}, {calls, linux.SYS_EPOLL_PWAIT2, "epoll_pwait2:fpdtp"},
		{calls, 400, ""}, {calls, 9999, ""}, {calls, -1, ""},
		{errnos, int(linux.EHWPOISON) - 1, "EHWPOISON"}, {errnos, int(linux.EPERM) - 1, "EPERM"}, {errnos, 40, ""},
		{signals, linux.SIGSYS - 1, "SYS"},
	} {
		if got := word(c.list, c.i); got != c.want {
			t.Errorf("word %d is %q, want %q", c.i, got, c.want)
		}
	}
}

func TestCall(t *testing.T) {
	str := func(s string) uintptr { p, _ := Bytes(append([]byte(s), 0)); return p }
	for _, c := range []struct {
		nr   uintptr
		a    kernel.Args
		r    uintptr
		e    linux.Errno
		want string
	}{
		{linux.SYS_OPENAT, kernel.Args{A1: uintptr(0xffffffffffffff9c), A2: str("/etc/hosts"), A3: linux.O_CREAT | linux.O_WRONLY | linux.O_CLOEXEC, A4: 0644}, 3, 0,
			`openat(AT_FDCWD, "/etc/hosts", O_WRONLY|O_CREAT|O_CLOEXEC, 0644)`},
		{linux.SYS_WRITE, kernel.Args{A1: 1, A2: str("a \"b\"\n\x01"), A3: 7}, 7, 0, `write(1, "a \"b\"\n\1", 7)`},
		{linux.SYS_READ, kernel.Args{A1: 1, A2: str(strings.Repeat("x", 40)), A3: 100}, 40, 0, `read(1, "` + strings.Repeat("x", 32) + `"..., 100)`},
		{linux.SYS_READ, kernel.Args{A1: 1, A2: 0x1000, A3: 100}, 0, linux.EFAULT, `read(1, 0x1000, 100)`},
		{linux.SYS_MMAP, kernel.Args{A2: 4096, A3: 3, A4: 0x22, A5: ^uintptr(0)}, 0x1000, 0,
			`mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)`},
		{linux.SYS_SOCKET, kernel.Args{A1: 2, A2: 1 | 0x80800, A3: 0}, 3, 0, `socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0)`},
		{linux.SYS_BIND, kernel.Args{A1: 3, A2: str("\x02\x00\x1f\x90\x7f\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"), A3: 16}, 0, 0,
			`bind(3, {sa_family=AF_INET, port=8080, addr=127.0.0.1}, 16)`},
		{linux.SYS_KILL, kernel.Args{A1: ^uintptr(0), A2: 15}, 0, 0, `kill(-1, SIGTERM)`},
		{linux.SYS_LSEEK, kernel.Args{A1: 3, A2: ^uintptr(4), A3: 2}, 0, 0, `lseek(3, -5, SEEK_END)`},
		{linux.SYS_NANOSLEEP, kernel.Args{A1: Addr(&linux.Timespec{Sec: 1, Nsec: 5})}, 0, 0, `nanosleep({tv_sec=1, tv_nsec=5}, NULL)`},
		{linux.SYS_GETPID, kernel.Args{A1: 55}, 1, 0, `getpid()`},
		{linux.SYS_KEYCTL, kernel.Args{A1: 1}, 0, linux.ENOSYS, `keyctl(0x1, 0, 0, 0, 0, 0)`},
		{0x10000, kernel.Args{}, 0, linux.ENOSYS, `syscall_65536()`},
		{linux.SYS_OPEN, kernel.Args{A1: 8}, 0, linux.EFAULT, `open(0x8, O_RDONLY, 0)`},
	} {
		if got := string(call(nil, c.nr, c.a, c.r, c.e)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// TestWhole traces real calls into a socket.
func TestWhole(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	kernel.Setup(&host.Boot{Header: &abi.BootHeader{Flags: abi.BootTrace}, TraceTo: int32(fds[0])})
	defer func() { kernel.Tracer = nil }()
	var p [2]int32
	Want(t, 0, linux.SYS_PIPE2, Addr(&p), linux.O_CLOEXEC)
	Want(t, linux.EBADF, linux.SYS_CLOSE, 77)
	Want(t, linux.ENOSYS, linux.SYS_KEYCTL)
	b := make([]byte, 1000)
	n, _ := unix.Read(fds[1], b)
	want := "pipe2([3, 4], O_CLOEXEC) = 0\nclose(77) = -1 EBADF\nkeyctl() = -1 ENOSYS\n"
	if got := string(b[:n]); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	kernel.Close(3)
	kernel.Close(4)
}
