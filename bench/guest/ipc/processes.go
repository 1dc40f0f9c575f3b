package main

import (
	"log"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Descriptors of a child that is a process.
const (
	childStream = iota + 3
	childMessages
	childMemory
)

// processes starts the other side as a process of the same program.
func processes(i, n int) (*link, func()) {
	stream, streams := pair(syscall.SOCK_STREAM)
	messages, messagess := pair(syscall.SOCK_SEQPACKET)
	mem, err := os.CreateTemp("/dev/shm", "ipc")
	check(0, err)
	os.Remove(mem.Name())
	check(0, mem.Truncate(4096))
	cmd := exec.Command("/proc/self/exe", strconv.Itoa(i), strconv.Itoa(n), "-")
	cmd.ExtraFiles = []*os.File{streams, messagess, mem}
	cmd.Stderr = os.Stderr
	check(0, cmd.Start())
	streams.Close()
	messagess.Close()
	l := files(stream, messages, mem)
	l.signalPeer = func(s syscall.Signal) error { return cmd.Process.Signal(s) }
	full(stream, make([]byte, 1)) // it is there
	return l, func() {
		check(0, cmd.Wait())
		stream.Close()
		messages.Close()
		mem.Close()
	}
}

func pair(typ int) (a, b *os.File) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, typ|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	check(0, err)
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
}

// inherited is the link of a child.
func inherited() *link {
	for fd := childStream; fd < childMemory; fd++ {
		check(0, syscall.SetNonblock(fd, true))
	}
	l := files(os.NewFile(childStream, "stream"), os.NewFile(childMessages, "messages"), os.NewFile(childMemory, "memory"))
	l.signalPeer = func(s syscall.Signal) error { return syscall.Kill(os.Getppid(), s) }
	check(l.stream.Write(make([]byte, 1)))
	return l
}

func files(stream, messages, mem *os.File) *link {
	b, err := syscall.Mmap(int(mem.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	check(0, err)
	v := (*atomic.Uint32)(unsafe.Pointer(&b[0]))
	futex := func(op, x uintptr) {
		_, _, e := syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(v)), op, x, 0, 0, 0)
		if e != 0 && e != syscall.EAGAIN && e != syscall.EINTR {
			log.Fatal("futex: ", e)
		}
	}
	l := &link{stream: stream, receive: messages.Read}
	l.send = func(p []byte) error { _, err := messages.Write(p); return err }
	return onWord(l, v, func() { futex(1, 1) }, func(old uint32) {
		for v.Load() == old {
			futex(0, uintptr(old))
		}
	})
}
