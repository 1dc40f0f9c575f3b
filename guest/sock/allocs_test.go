package sock

import (
	"syscall"
	"testing"

	"noyau.dev/guest/linux"
)

// TestAllocs: a data call costs no allocation, whatever its form.
func TestAllocs(t *testing.T) {
	e := ours(t)
	_, c, s := tcpPair(e, linux.AF_INET, "127.0.0.1")
	a, b := e.socket(linux.AF_INET, datagram, 0), e.socket(linux.AF_INET, datagram, 0)
	for _, fd := range []int{a, b} {
		e.bind(fd, inet(linux.AF_INET, "127.0.0.1", 0))
	}
	to := e.in(e.sockname(b, false))
	p, name, l := e.in([]byte("hello")), e.alloc(128), e.alloc(8)
	out := e.msg([][]byte{[]byte("hello")}, to, nil)
	in := e.msg([][]byte{make([]byte, 10)}, make([]byte, 128), make([]byte, 64))
	for _, tt := range []struct {
		name string
		call func() [2]linux.Errno
	}{
		{"read and write", func() [2]linux.Errno {
			_, x := sys(syscall.SYS_WRITE, uintptr(c), addrOf(p), 5)
			_, y := sys(syscall.SYS_READ, uintptr(s), addrOf(p), 5)
			return [2]linux.Errno{x, y}
		}},
		{"sendto and recvfrom", func() [2]linux.Errno {
			put32(l, 128)
			_, x := sys(syscall.SYS_SENDTO, uintptr(a), addrOf(p), 5, 0, addrOf(to), uintptr(len(to)))
			_, y := sys(syscall.SYS_RECVFROM, uintptr(b), addrOf(p), 5, 0, addrOf(name), addrOf(l))
			return [2]linux.Errno{x, y}
		}},
		{"sendmsg and recvmsg", func() [2]linux.Errno {
			_, x := sys(syscall.SYS_SENDMSG, uintptr(a), addrOf(out.hdr), 0)
			_, y := sys(syscall.SYS_RECVMSG, uintptr(b), addrOf(in.hdr), 0)
			return [2]linux.Errno{x, y}
		}},
	} {
		var errs [2]linux.Errno
		n := testing.AllocsPerRun(1000, func() { errs = tt.call() })
		if errs != ([2]linux.Errno{}) {
			t.Errorf("%s: %v", tt.name, errs)
		}
		if n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}
