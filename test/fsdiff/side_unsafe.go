package fsdiff

import (
	"bytes"
	"runtime"
	"sort"
	"syscall"
	"testing"
	"unsafe"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// A Side makes system calls: the library OS's, or the real kernel's.
type Side struct {
	name string
	call func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno)
}

// The two sides.
var (
	Guest = Side{"guest", func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno) {
		r, _, e := kernel.Syscall(nr, a1, a2, a3, a4, a5, a6)
		return r, e
	}}
	Native = Side{"native", func(nr, a1, a2, a3, a4, a5, a6 uintptr) (uintptr, linux.Errno) {
		r, _, e := syscall.Syscall6(nr, a1, a2, a3, a4, a5, a6)
		return r, linux.Errno(e)
	}}
)

// Do makes a call. Arguments are integers, strings (NUL-terminated for the
// call) and byte slices.
func (s Side) Do(nr int, args ...any) (uintptr, linux.Errno) {
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
			panic("argument of a kind that Do does not know")
		}
	}
	return s.call(uintptr(nr), a[0], a[1], a[2], a[3], a[4], a[5])
}

// Must makes a call that has to succeed.
func (s Side) Must(t testing.TB, nr int, args ...any) uintptr {
	t.Helper()
	r, e := s.Do(nr, args...)
	if e != 0 {
		t.Fatalf("%s: call %d%v: %v", s.name, nr, args, syscall.Errno(e))
	}
	return r
}

// Names lists an open directory from where it stands, with types, sorted.
func (s Side) Names(fd uintptr) (list []string, e linux.Errno) {
	b := make([]byte, 300)
	for {
		n, e := s.Do(linux.SYS_GETDENTS64, fd, b, len(b))
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
