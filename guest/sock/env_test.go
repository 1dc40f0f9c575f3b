package sock

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// An env makes the same system calls either to the kernel of this machine or
// to the library OS, and writes down what they gave.
type env struct {
	t     *testing.T
	name  string
	call  func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno)
	ready func(fd int) uint32
	mem   []byte // the memory that calls are given: on the heap, where it stays
	used  int
	log   []string
	fds   []int
	dir   string
}

// memory keeps what is passed as an uintptr where it is.
var memory [][]byte

func newEnv(t *testing.T, name string) *env {
	e := &env{t: t, name: name, mem: make([]byte, 1<<20)}
	memory = append(memory, e.mem)
	t.Cleanup(e.closeAll)
	return e
}

// native is the kernel of this machine.
func native(t *testing.T) *env {
	e := newEnv(t, "linux")
	e.call = func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno) {
		r, _, errno := syscall.Syscall6(nr, a1, a2, a3, a4, a5, a6)
		return r, linux.Errno(errno)
	}
	e.ready = func(fd int) uint32 {
		p := e.alloc(8)
		put32(p, uint32(fd))
		p[4], p[5], p[6], p[7] = 0x07, 0x20, 0, 0 // POLLIN|POLLPRI|POLLOUT|POLLRDHUP
		if _, errno := e.call(syscall.SYS_POLL, addrOf(p), 1, 0, 0, 0, 0); errno != 0 {
			t.Fatal("poll:", errno)
		}
		return uint32(p[6]) | uint32(p[7])<<8
	}
	e.dir = t.TempDir()
	return e
}

// ours is the library OS.
func ours(t *testing.T) *env {
	e := newEnv(t, "noyau")
	e.call = func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno) {
		r, _, errno := kernel.Syscall(nr, a1, a2, a3, a4, a5, a6)
		return r, errno
	}
	e.ready = func(fd int) uint32 {
		d, errno := kernel.Get(uintptr(fd))
		if errno != 0 {
			t.Fatal("ready:", errno)
		}
		defer d.Put()
		return d.Ready()
	}
	e.dir = fmt.Sprint("/tmp/", len(memory), strings.ReplaceAll(t.Name(), "/", "-"))
	return e
}

func addrOf(b []byte) uintptr {
	if len(b) == 0 {
		return 0
	}
	return uintptr(unsafe.Pointer(&b[0]))
}

func (e *env) alloc(n int) []byte {
	if n == 0 {
		return nil
	}
	if e.used+n > len(e.mem) {
		e.used = 0
	}
	b := e.mem[e.used : e.used+n : e.used+n]
	e.used += (n + 7) &^ 7
	clear(b)
	return b
}

func (e *env) in(p []byte) []byte {
	b := e.alloc(len(p))
	copy(b, p)
	return b
}

// note writes down a result.
func (e *env) note(format string, args ...any) { e.log = append(e.log, fmt.Sprintf(format, args...)) }

// do makes a call and writes down what it gave.
func (e *env) do(what string, nr uintptr, a ...uintptr) (int, linux.Errno) {
	var v [6]uintptr
	copy(v[:], a)
	r, errno := e.call(nr, v[0], v[1], v[2], v[3], v[4], v[5])
	if errno != 0 {
		r = ^uintptr(0)
	}
	e.note("%s = %s", what, result(int(r), errno))
	return int(r), errno
}

func result(n int, errno linux.Errno) string {
	if errno != 0 {
		return syscall.Errno(errno).Error()
	}
	return fmt.Sprint(n)
}

// quiet is do for calls whose result is a descriptor.
func (e *env) quiet(what string, nr uintptr, a ...uintptr) int {
	n := len(e.log)
	fd, errno := e.do(what, nr, a...)
	if errno == 0 {
		e.log = e.log[:n]
		e.note("%s = ok", what)
		e.fds = append(e.fds, fd)
	}
	return fd
}

func (e *env) socket(family, typ, proto int) int {
	return e.quiet(fmt.Sprintf("socket(%d, %d, %d)", family, typ, proto), syscall.SYS_SOCKET, uintptr(family), uintptr(typ|syscall.SOCK_CLOEXEC), uintptr(proto))
}

func (e *env) bind(fd int, sa []byte) linux.Errno {
	p := e.in(sa)
	if sa[0] != linux.AF_UNIX {
		e.note("at family %d ip %x", sa[0], sa[4:min(len(sa), 24)])
	}
	_, errno := e.do("bind", syscall.SYS_BIND, uintptr(fd), addrOf(p), uintptr(len(p)))
	return errno
}

func (e *env) listen(fd, backlog int) linux.Errno {
	_, errno := e.do("listen", syscall.SYS_LISTEN, uintptr(fd), uintptr(backlog))
	return errno
}

func (e *env) connect(fd int, sa []byte) linux.Errno {
	p := e.in(sa)
	if sa[0] != linux.AF_UNIX {
		e.note("to family %d ip %x", sa[0], sa[4:min(len(sa), 24)])
	}
	n := len(e.log)
	_, errno := e.do("connect", syscall.SYS_CONNECT, uintptr(fd), addrOf(p), uintptr(len(p)))
	if errno == linux.EINPROGRESS {
		// Linux completes a loopback connection a moment later, we at once.
		for i := 0; i < 200 && e.ready(fd)&(rt.Out|rt.Err) == 0; i++ {
			time.Sleep(5 * time.Millisecond)
		}
		errno = linux.Errno(e.getint(fd, linux.SOL_SOCKET, linux.SO_ERROR))
		// A second connect tells Linux that we know.
		e.do("again", syscall.SYS_CONNECT, uintptr(fd), addrOf(p), uintptr(len(p)))
		e.log = e.log[:n]
		e.note("connect = %s", result(0, errno))
	}
	return errno
}

func (e *env) accept(fd int) int {
	return e.quiet("accept", syscall.SYS_ACCEPT4, uintptr(fd), 0, 0, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
}

func (e *env) sockname(fd int, peer bool) []byte {
	nr, what := uintptr(syscall.SYS_GETSOCKNAME), "getsockname"
	if peer {
		nr, what = syscall.SYS_GETPEERNAME, "getpeername"
	}
	p, l := e.alloc(128), e.alloc(4)
	put32(l, 128)
	if _, errno := e.do(what, nr, uintptr(fd), addrOf(p), addrOf(l)); errno != 0 {
		return nil
	}
	return append([]byte(nil), p[:min(le32(l), 128)]...)
}

func (e *env) send(fd int, p []byte, flags int, sa []byte) int {
	b, to := e.in(p), e.in(sa)
	n, _ := e.do(fmt.Sprintf("sendto(%d bytes, %#x)", len(p), flags), syscall.SYS_SENDTO, uintptr(fd), addrOf(b), uintptr(len(b)), uintptr(flags|syscall.MSG_NOSIGNAL), addrOf(to), uintptr(len(to)))
	return n
}

func (e *env) recv(fd, n, flags int) []byte {
	b := e.alloc(n)
	m, errno := e.do(fmt.Sprintf("recvfrom(%d bytes, %#x)", n, flags), syscall.SYS_RECVFROM, uintptr(fd), addrOf(b), uintptr(n), uintptr(flags), 0, 0)
	if errno != 0 {
		return nil
	}
	got := append([]byte(nil), b[:min(m, n)]...)
	e.note("  data %x", sum(got))
	return got
}

func sum(p []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range p {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

func (e *env) shutdown(fd, how int) {
	e.do(fmt.Sprintf("shutdown(%d)", how), syscall.SYS_SHUTDOWN, uintptr(fd), uintptr(how))
}

func (e *env) close(fd int) {
	if _, errno := e.call(syscall.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0); errno != 0 {
		e.t.Errorf("%s: close %d: %v", e.name, fd, errno)
	}
	e.note("close")
	for i, f := range e.fds {
		if f == fd {
			e.fds = append(e.fds[:i], e.fds[i+1:]...)
			break
		}
	}
}

func (e *env) closeAll() {
	for len(e.fds) > 0 {
		e.close(e.fds[0])
	}
}

func (e *env) setint(fd, level, name, v int) linux.Errno {
	p := e.alloc(4)
	put32(p, uint32(v))
	_, errno := e.do(fmt.Sprintf("setsockopt(%d, %d, %d)", level, name, v), syscall.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), addrOf(p), 4)
	return errno
}

func (e *env) getint(fd, level, name int) int {
	p, l := e.alloc(4), e.alloc(4)
	put32(l, 4)
	_, errno := e.do(fmt.Sprintf("getsockopt(%d, %d)", level, name), syscall.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), addrOf(p), addrOf(l))
	if errno != 0 {
		return -int(errno)
	}
	e.note("  value %d", int32(le32(p)))
	return int(int32(le32(p)))
}

func (e *env) linger0(fd int) {
	p := e.alloc(8)
	put32(p, 1)
	e.do("linger 0", syscall.SYS_SETSOCKOPT, uintptr(fd), linux.SOL_SOCKET, linux.SO_LINGER, addrOf(p), 8)
}

// poll writes down what poll says, but for Out, which depends on the size of
// buffers.
func (e *env) poll(what string, fd int) {
	e.note("  %s: %#x", what, e.ready(fd)&(rt.In|rt.Err|rt.Hup|rt.RdHup))
}

func inet(family uint16, ip string, port int) []byte {
	var a addr
	a.port = uint16(port)
	switch ip {
	case "0.0.0.0":
		a.ip = any4
	case "127.0.0.1":
		a.ip = loop4
	case "127.0.0.2":
		a.ip = mapped(127, 0, 0, 2)
	case "::":
	case "::1":
		a.ip = loop6
	default:
		panic(ip)
	}
	return appendInet(nil, family, &a)
}

func portOf(sa []byte) int { return int(sa[2])<<8 | int(sa[3]) }
