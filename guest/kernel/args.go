package kernel

import "noyau.dev/guest/linux"

// Args are the arguments of a system call, as they came.
type Args struct{ A1, A2, A3, A4, A5, A6 uintptr }

// The app shares our address space, so a pointer of its own cannot harm
// anybody but itself. What gives EFAULT is what programs pass on purpose: nil,
// small integers, and addresses that no user program can have.
const (
	addrMin = 64 << 10 // nothing is ever mapped below
	addrMax = 1 << 47
)

func badAddr(addr, n uintptr) bool {
	return addr < addrMin || addr >= addrMax || n > addrMax-addr
}

// Bytes is the app's memory at addr. With n 0 it is empty and addr may be
// anything.
func Bytes(addr, n uintptr) ([]byte, linux.Errno) {
	if n == 0 {
		return nil, 0
	}
	if badAddr(addr, n) {
		return nil, linux.EFAULT
	}
	return bytesAt(addr, n), 0
}

// String copies the NUL-terminated string at addr: ENAMETOOLONG if it has
// PATH_MAX bytes or more.
func String(addr uintptr) (string, linux.Errno) {
	if badAddr(addr, 1) {
		return "", linux.EFAULT
	}
	for n := uintptr(0); n < linux.PATH_MAX; n++ {
		if byteAt(addr+n) == 0 {
			return string(bytesAt(addr, n)), 0
		}
	}
	return "", linux.ENAMETOOLONG
}

// Ptr is the struct of the app at addr. Copy before checking what another
// goroutine could change in between.
func Ptr[T any](addr uintptr) (*T, linux.Errno) {
	if badAddr(addr, sizeOf[T]()) {
		return nil, linux.EFAULT
	}
	return ptrAt[T](addr), 0
}

// Slice is the app's array of n elements at addr: EFAULT, EINVAL if n is
// negative as an int.
func Slice[T any](addr, n uintptr) ([]T, linux.Errno) {
	if n == 0 {
		return nil, 0
	}
	if n > addrMax {
		return nil, linux.EINVAL
	}
	if badAddr(addr, n*sizeOf[T]()) {
		return nil, linux.EFAULT
	}
	return sliceAt[T](addr, n), 0
}

// Put stores v at addr, unless addr is 0, which many calls take as "no, thanks".
func Put[T any](addr uintptr, v T) linux.Errno {
	if addr == 0 {
		return 0
	}
	p, e := Ptr[T](addr)
	if e == 0 {
		*p = v
	}
	return e
}
