package pvm

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// A Memory is memory that is the same in a pVM and in all that it forks after Share.
// What lies in it is bytes and numbers: a Go pointer means nothing in another member, and
// the garbage collector does not look there. The usual rules hold for what several
// goroutines use: sync/atomic works on it, between members too; a sync.Mutex does not.
type Memory struct {
	at    uintptr
	bytes []byte
}

const shareHead = 128 // bytes before those of the program

// Share makes a Memory of n bytes, less than 4 GiB, all 0. It exists as long as a member of the
// family.
func Share(n int) (*Memory, error) {
	if n <= 0 {
		return nil, fail("share", syscall.EINVAL)
	}
	m := new(Memory)
	if _, _, errno := syscall.Syscall(sysShare, uintptr(n)+shareHead, uintptr(unsafe.Pointer(&m.at)), 0); errno != 0 {
		return nil, fail("share", errno)
	}
	p := *(*unsafe.Pointer)(unsafe.Pointer(&m.at)) // outside of the Go heap
	m.bytes = unsafe.Slice((*byte)(unsafe.Add(p, shareHead)), n)
	return m, nil
}

// Bytes is the memory. It begins at a multiple of 64.
func (m *Memory) Bytes() []byte { return m.bytes }

// Uint32 is the number at an offset that is a multiple of 4, for atomic use.
func (m *Memory) Uint32(offset int) *atomic.Uint32 {
	if offset < 0 || offset%4 != 0 || offset+4 > len(m.bytes) {
		panic(fmt.Sprintf("pvm: no aligned uint32 at %d of %d bytes", offset, len(m.bytes)))
	}
	return (*atomic.Uint32)(unsafe.Pointer(&m.bytes[offset]))
}

// Uint64 is the number at an offset that is a multiple of 8, for atomic use.
func (m *Memory) Uint64(offset int) *atomic.Uint64 {
	if offset < 0 || offset%8 != 0 || offset+8 > len(m.bytes) {
		panic(fmt.Sprintf("pvm: no aligned uint64 at %d of %d bytes", offset, len(m.bytes)))
	}
	return (*atomic.Uint64)(unsafe.Pointer(&m.bytes[offset]))
}

// Wait returns when v, a number in m, is not old. Whoever changes it calls Wake. A Wait that
// begins soon before the change costs neither member a call, if both have a processor.
func (m *Memory) Wait(v *atomic.Uint32, old uint32) error {
	if at := uintptr(unsafe.Pointer(v)) - m.at; at < shareHead || at >= shareHead+uintptr(len(m.bytes)) {
		return os.NewSyscallError("wait", syscall.EINVAL) // nobody can change it and call Wake
	}
	if v.Load() != old {
		return nil
	}
	_, _, errno := syscall.Syscall(sysShareWait, m.at, uintptr(unsafe.Pointer(v)), uintptr(old))
	runtime.KeepAlive(v)
	if errno != 0 {
		return os.NewSyscallError("wait", errno)
	}
	return nil
}

// Wake makes all that Wait look at their numbers again.
func (m *Memory) Wake() error {
	if _, _, errno := syscall.Syscall(sysShareWake, m.at, 0, 0); errno != 0 {
		return os.NewSyscallError("wake", errno)
	}
	return nil
}
