package fs

import (
	"bytes"
	"os"
	"runtime"
	"sort"
	"syscall"
	"testing"
	"unsafe"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func TestMain(m *testing.M) {
	rt.Native.Boot = abi.BootHeader{PID: 7, PPID: 1, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Memory: 256 << 20}
	kernel.Setup(&host.Boot{Header: &rt.Native.Boot, Hostname: "noyau", Dir: "/"})
	os.Exit(m.Run())
}

// fresh gives the pVM a new name space.
func fresh(t *testing.T, files ...host.File) *Tree {
	old := Root
	Root = NewTree(64 << 20)
	Root.populate(&host.Boot{Header: &rt.Native.Boot, Hostname: "noyau", Dir: "/", Files: files})
	kernel.SocketNames = socketNames{Root}
	t.Cleanup(func() { Root = old })
	return Root
}

// A side makes system calls: the library OS's, or the real kernel's.
type side struct {
	name string
	call func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno)
}

var (
	guest = side{"guest", func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno) {
		r, _, e := kernel.Syscall(nr, a1, a2, a3, a4, a5, a6)
		return r, e
	}}
	native = side{"native", func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno) {
		r, _, e := syscall.Syscall6(nr, a1, a2, a3, a4, a5, a6)
		return r, linux.Errno(e)
	}}
)

// do makes a call. Arguments are integers, strings (NUL-terminated for the
// call) and byte slices.
func (s side) do(nr int, args ...any) (uintptr, linux.Errno) {
	var a [6]uintptr
	var pin runtime.Pinner
	defer pin.Unpin()
	for i, v := range args {
		switch v := v.(type) {
		case int:
			a[i] = uintptr(v)
		case uintptr:
			a[i] = v
		case string:
			b := append([]byte(v), 0)
			pin.Pin(&b[0])
			a[i] = uintptr(unsafe.Pointer(&b[0]))
		case []byte:
			if len(v) > 0 {
				pin.Pin(&v[0])
				a[i] = uintptr(unsafe.Pointer(&v[0]))
			}
		case *linux.Stat:
			pin.Pin(v)
			a[i] = uintptr(unsafe.Pointer(v))
		case *linux.Statx:
			pin.Pin(v)
			a[i] = uintptr(unsafe.Pointer(v))
		case *linux.Statfs:
			pin.Pin(v)
			a[i] = uintptr(unsafe.Pointer(v))
		case *linux.Flock:
			pin.Pin(v)
			a[i] = uintptr(unsafe.Pointer(v))
		case *[2]linux.Timespec:
			pin.Pin(v)
			a[i] = uintptr(unsafe.Pointer(v))
		case *[3]uint64:
			pin.Pin(v)
			a[i] = uintptr(unsafe.Pointer(v))
		default:
			panic("argument of a kind that do does not know")
		}
	}
	return s.call(uintptr(nr), a[0], a[1], a[2], a[3], a[4], a[5])
}

// must makes a call that has to succeed.
func (s side) must(t *testing.T, nr int, args ...any) uintptr {
	t.Helper()
	r, e := s.do(nr, args...)
	if e != 0 {
		t.Fatalf("%s: call %d%v: %v", s.name, nr, args, syscall.Errno(e))
	}
	return r
}

// names lists an open directory from where it stands, with types, sorted.
func (s side) names(fd uintptr) (list []string, e linux.Errno) {
	b := make([]byte, 300)
	for {
		n, e := s.do(linux.SYS_GETDENTS64, fd, b, len(b))
		if e != 0 || n == 0 {
			sort.Strings(list)
			return list, e
		}
		for r := b[:n]; len(r) > 0; {
			size := int(r[16]) | int(r[17])<<8
			name := r[19:size]
			name = name[:bytes.IndexByte(name, 0)]
			list = append(list, string(name)+string('0'+rune(r[18])))
			r = r[size:]
		}
	}
}

// readFile returns the content of a file of the pVM.
func readFile(t *testing.T, path string) string {
	t.Helper()
	fd := guest.must(t, linux.SYS_OPEN, path, linux.O_RDONLY, 0)
	defer guest.must(t, linux.SYS_CLOSE, fd)
	var out []byte
	b := make([]byte, 4096)
	for {
		n := guest.must(t, linux.SYS_READ, fd, b, len(b))
		if n == 0 {
			return string(out)
		}
		out = append(out, b[:n]...)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	fd := guest.must(t, linux.SYS_OPEN, path, linux.O_WRONLY|linux.O_CREAT|linux.O_TRUNC, 0o644)
	if content != "" {
		guest.must(t, linux.SYS_WRITE, fd, []byte(content), len(content))
	}
	guest.must(t, linux.SYS_CLOSE, fd)
}
