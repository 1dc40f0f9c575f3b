//go:build !race

// checkptr objects to lengths that are addresses.

package trace

import (
	"math/rand"
	"testing"
	"time"

	"noyau.dev/abi"
	. "noyau.dev/guest/guesttest"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// parks are calls that may rightly wait for ever, or end the program.
var parks = map[int]bool{
	linux.SYS_EXIT: true, linux.SYS_EXIT_GROUP: true, linux.SYS_PAUSE: true, linux.SYS_FUTEX: true, linux.SYS_NANOSLEEP: true,
	linux.SYS_CLOCK_NANOSLEEP: true, linux.SYS_POLL: true, linux.SYS_PPOLL: true, linux.SYS_SELECT: true, linux.SYS_PSELECT6: true,
	linux.SYS_EPOLL_WAIT: true, linux.SYS_EPOLL_PWAIT: true, linux.SYS_EPOLL_PWAIT2: true, linux.SYS_FLOCK: true,
	linux.SYS_KILL: true, linux.SYS_TKILL: true, linux.SYS_TGKILL: true, linux.SYS_ACCEPT: true, linux.SYS_ACCEPT4: true,
	linux.SYS_CONNECT: true, linux.SYS_RECVFROM: true, linux.SYS_RECVMSG: true, linux.SYS_RECVMMSG: true,
	linux.SYS_FCNTL:     true, // it makes descriptors blocking
	linux.SYS_IOCTL:     true,
	linux.SYS_GETRANDOM: true, // it cuts lengths, so that an address is a length that it believes
}

// TestRandomArguments makes calls with arguments that make no sense together:
// each must answer, not panic. Numbers are small, negative or huge, so that no
// length reaches beyond the memory that the addresses mean.
func TestRandomArguments(t *testing.T) {
	rt.Native.Boot.PID = 1
	kernel.Setup(&host.Boot{Header: &abi.BootHeader{}, Dir: "/tmp"})
	zero, path := make([]byte, 1<<20), make([]byte, 1<<20)
	pz, _ := Bytes(zero)
	pp, _ := Bytes(path)
	var fds [2]int32
	Want(t, 0, linux.SYS_PIPE2, Addr(&fds), linux.O_NONBLOCK)
	Want(t, 0, linux.SYS_EVENTFD2, 0, linux.O_NONBLOCK)
	Want(t, 0, linux.SYS_EPOLL_CREATE1, 0)
	Want(t, 0, linux.SYS_TIMERFD_CREATE, linux.CLOCK_MONOTONIC, linux.O_NONBLOCK)
	Want(t, 0, linux.SYS_SOCKET, linux.AF_INET, linux.SOCK_STREAM|linux.SOCK_NONBLOCK, 0)
	Want(t, 0, linux.SYS_SOCKET, linux.AF_UNIX, linux.SOCK_DGRAM|linux.SOCK_NONBLOCK, 0)
	copy(path, "/tmp/random\x00")
	file := Want(t, 0, linux.SYS_OPEN, pp, linux.O_RDWR|linux.O_CREAT, 0600)
	values := []uintptr{0, 1, 2, 3, 5, 7, 8, 16, 100, 128, 4095, pz, pp, pz, pp, linux.O_NONBLOCK, linux.O_NONBLOCK | linux.O_RDWR | linux.O_CREAT,
		1 << 47, 1 << 62, 1 << 63, ^uintptr(0), ^uintptr(99)}
	for fd := uintptr(3); fd <= file; fd++ {
		values = append(values, fd, fd)
	}
	// A fixed seed: now and then an address comes where a length belongs, and the
	// app then faults by its own hand, which these do not.
	const seed = 20
	t.Log("seed", seed)
	rnd := rand.New(rand.NewSource(seed))
	answered := 0
	for range 30_000 {
		nr := rnd.Intn(450)
		if parks[nr] || kernel.Registered(nr) == nil {
			continue
		}
		var a [6]uintptr
		for i := range a {
			a[i] = values[rnd.Intn(len(values))]
		}
		clear(zero)
		clear(path[:4096])
		copy(path, "/tmp/random")
		if nr == linux.SYS_CLOSE || nr == linux.SYS_CLOSE_RANGE || nr == linux.SYS_DUP2 || nr == linux.SYS_DUP3 {
			continue // keep the descriptors
		}
		done := make(chan any)
		go func() {
			defer func() { done <- recover() }()
			if _, e := Call(uintptr(nr), a[:]...); e == 0 {
				answered++
			}
		}()
		select {
		case p := <-done:
			if p != nil {
				t.Fatalf("%s%x: panic: %v", word(calls, nr), a, p)
			}
		case <-time.After(time.Second):
			// It waits on a blocking descriptor that another call has made.
			go func() { <-done }()
		}
	}
	if answered < 1000 {
		t.Errorf("only %d calls succeeded: the arguments are too poor", answered)
	}
	Want(t, 0, linux.SYS_CLOSE_RANGE, 3, 1<<20, 0)
}
