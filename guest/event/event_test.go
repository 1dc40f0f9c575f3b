package event_test

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"

	_ "noyau.dev/guest/event"
	. "noyau.dev/guest/guesttest"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func pipe(t *testing.T, flags uintptr) (r, w uintptr) {
	t.Helper()
	var fds [2]int32
	Want(t, 0, linux.SYS_PIPE2, Addr(&fds), flags)
	r, w = uintptr(fds[0]), uintptr(fds[1])
	t.Cleanup(func() { kernel.Close(r); kernel.Close(w) })
	return r, w
}

func read(t *testing.T, fd uintptr, n int) string {
	t.Helper()
	b := make([]byte, n)
	p, l := Bytes(b)
	return string(b[:Want(t, 0, linux.SYS_READ, fd, p, l)])
}

func write(t *testing.T, fd uintptr, s string) {
	t.Helper()
	p, l := Bytes([]byte(s))
	if n := Want(t, 0, linux.SYS_WRITE, fd, p, l); int(n) != len(s) {
		t.Fatalf("wrote %d of %d", n, len(s))
	}
}

// end is a pipe end as an io.Reader and io.Writer over blocking calls.
type end uintptr

func (e end) Read(b []byte) (int, error) {
	p, l := Bytes(b)
	n, errno := Call(linux.SYS_READ, uintptr(e), p, l)
	if errno != 0 {
		return 0, errno
	}
	if n == 0 {
		return 0, io.EOF
	}
	return int(n), nil
}

func (e end) Write(b []byte) (int, error) {
	p, l := Bytes(b)
	n, errno := Call(linux.SYS_WRITE, uintptr(e), p, l)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func TestPipeCarriesEverythingInOrder(t *testing.T) {
	r, w := pipe(t, 0)
	data := make([]byte, 1_000_000)
	for i := range data {
		data[i] = byte(i * i >> 5)
	}
	go func() {
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)%150_000)
			if _, err := (end(w)).Write(rest[:n]); err != nil {
				t.Error(err)
			}
			rest = rest[n:]
		}
		kernel.Close(w)
	}()
	var got bytes.Buffer
	b := make([]byte, 7777)
	for {
		n, err := end(r).Read(b)
		got.Write(b[:n])
		if err != nil {
			break
		}
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Fatalf("got %d bytes, want %d, or other content", got.Len(), len(data))
	}
}

func TestPipeEdges(t *testing.T) {
	r, w := pipe(t, linux.O_NONBLOCK)
	b := make([]byte, 100_000)
	p, l := Bytes(b)
	Want(t, linux.EAGAIN, linux.SYS_READ, r, p, l)
	if n := Want(t, 0, linux.SYS_WRITE, w, p, l); n != 65536 {
		t.Errorf("a full pipe took %d", n)
	}
	Want(t, linux.EAGAIN, linux.SYS_WRITE, w, p, l)
	Want(t, 0, linux.SYS_READ, r, p, 100)
	Want(t, linux.EAGAIN, linux.SYS_WRITE, w, p, 4096) // no partial write of PIPE_BUF or less
	Want(t, 0, linux.SYS_READ, r, p, 3996)
	Want(t, 0, linux.SYS_WRITE, w, p, 4096)
	if n := Want(t, 0, linux.SYS_FCNTL, r, linux.F_GETPIPE_SZ); n != 65536 {
		t.Errorf("F_GETPIPE_SZ = %d", n)
	}
	Want(t, linux.EBUSY, linux.SYS_FCNTL, r, linux.F_SETPIPE_SZ, 4096)
	kernel.Close(r)
	Want(t, linux.EPIPE, linux.SYS_WRITE, w, p, 1)
	Want(t, linux.EINVAL, linux.SYS_PIPE2, Addr(new([2]int32)), 1)
	Want(t, linux.EFAULT, linux.SYS_PIPE2, 8, 0)
}

func TestPipeVectors(t *testing.T) {
	r, w := pipe(t, 0)
	a, b := []byte("hello, "), []byte("vector")
	pa, la := Bytes(a)
	pb, lb := Bytes(b)
	v := [2]linux.Iovec{{Base: pa, Len: la}, {Base: pb, Len: lb}}
	if n := Want(t, 0, linux.SYS_WRITEV, w, Addr(&v), 2); n != 13 {
		t.Fatalf("writev = %d", n)
	}
	clear(a)
	clear(b)
	if n := Want(t, 0, linux.SYS_READV, r, Addr(&v), 2); n != 13 || string(a)+string(b) != "hello, vector" {
		t.Fatalf("readv = %d, %q %q", n, a, b)
	}
	Want(t, linux.ESPIPE, linux.SYS_PREADV, r, Addr(&v), 2, 0)
	Want(t, linux.EINVAL, linux.SYS_READV, r, Addr(&v), 5000)
}

func TestEventfd(t *testing.T) {
	fd := Want(t, 0, linux.SYS_EVENTFD2, 3, linux.EFD_NONBLOCK)
	sem := Want(t, 0, linux.SYS_EVENTFD2, 2, linux.EFD_NONBLOCK|linux.EFD_SEMAPHORE)
	defer kernel.Close(fd)
	defer kernel.Close(sem)
	b := make([]byte, 8)
	p, l := Bytes(b)
	write(t, fd, "\x04\x00\x00\x00\x00\x00\x00\x00")
	if got := read(t, fd, 8); got[0] != 7 {
		t.Errorf("counter %v", got)
	}
	Want(t, linux.EAGAIN, linux.SYS_READ, fd, p, l)
	Want(t, linux.EINVAL, linux.SYS_READ, fd, p, 7)
	if read(t, sem, 8)[0] != 1 || read(t, sem, 8)[0] != 1 {
		t.Error("semaphore")
	}
	Want(t, linux.EAGAIN, linux.SYS_READ, sem, p, l)
	write(t, fd, "\xfe\xff\xff\xff\xff\xff\xff\xff")
	b[0] = 1
	Want(t, linux.EAGAIN, linux.SYS_WRITE, fd, p, l)
}

func TestTimerfd(t *testing.T) {
	fd := Want(t, 0, linux.SYS_TIMERFD_CREATE, linux.CLOCK_MONOTONIC, 0)
	defer kernel.Close(fd)
	it := linux.Itimerspec{Value: linux.Timespec{Nsec: 2e6}, Interval: linux.Timespec{Nsec: 1e6}}
	Want(t, 0, linux.SYS_TIMERFD_SETTIME, fd, 0, Addr(&it), 0)
	if n := read(t, fd, 8)[0]; n < 1 { // parks
		t.Errorf("expirations %d", n)
	}
	read(t, fd, 8)
	var cur linux.Itimerspec
	Want(t, 0, linux.SYS_TIMERFD_SETTIME, fd, 0, Addr(&linux.Itimerspec{}), Addr(&cur))
	if cur.Interval.Nsec != 1e6 || cur.Value.Nano() <= 0 {
		t.Errorf("old value %+v", cur)
	}
	Want(t, 0, linux.SYS_TIMERFD_GETTIME, fd, Addr(&cur))
	if cur != (linux.Itimerspec{}) {
		t.Errorf("a disarmed timer has %+v", cur)
	}
	past := linux.Itimerspec{Value: linux.Timespec{Nsec: 1}}
	Want(t, 0, linux.SYS_TIMERFD_SETTIME, fd, linux.TFD_TIMER_ABSTIME, Addr(&past), 0)
	if n := read(t, fd, 8)[0]; n != 1 {
		t.Errorf("a time in the past expires %d times", n)
	}
	Want(t, linux.EINVAL, linux.SYS_TIMERFD_SETTIME, fd, 0, Addr(&linux.Itimerspec{Value: linux.Timespec{Nsec: 1e9}}), 0)
	Want(t, linux.EINVAL, linux.SYS_TIMERFD_CREATE, 99, 0)
}

func ctl(t *testing.T, want linux.Errno, ep, op, fd uintptr, events uint32, data uint32) {
	t.Helper()
	Want(t, want, linux.SYS_EPOLL_CTL, ep, op, fd, Addr(&linux.EpollEvent{Events: events, Data: [2]uint32{data}}))
}

func wait(t *testing.T, ep uintptr, ms int) []linux.EpollEvent {
	t.Helper()
	var ev [8]linux.EpollEvent
	n := Want(t, 0, linux.SYS_EPOLL_WAIT, ep, Addr(&ev[0]), 8, uintptr(ms))
	return ev[:n]
}

func TestEpoll(t *testing.T) {
	ep := Want(t, 0, linux.SYS_EPOLL_CREATE1, 0)
	defer kernel.Close(ep)
	for _, c := range []struct {
		name   string
		flags  uint32
		repeat bool // reported again while the data is there
	}{
		{"level", 0, true},
		{"edge", linux.EPOLLET, false},
		{"one shot", linux.EPOLLONESHOT, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, w := pipe(t, linux.O_NONBLOCK)
			ctl(t, 0, ep, linux.EPOLL_CTL_ADD, r, rt.In|c.flags, 42)
			ctl(t, linux.EEXIST, ep, linux.EPOLL_CTL_ADD, r, rt.In, 1)
			if ev := wait(t, ep, 0); len(ev) != 0 {
				t.Fatalf("an empty pipe: %+v", ev)
			}
			write(t, w, "x")
			if ev := wait(t, ep, -1); len(ev) != 1 || ev[0].Events != rt.In || ev[0].Data[0] != 42 {
				t.Fatalf("%+v", ev)
			}
			if again := len(wait(t, ep, 0)) == 1; again != c.repeat {
				t.Errorf("reported again: %v", again)
			}
			ctl(t, 0, ep, linux.EPOLL_CTL_MOD, r, rt.In|c.flags, 43)
			if ev := wait(t, ep, 0); len(ev) != 1 || ev[0].Data[0] != 43 {
				t.Errorf("after MOD: %+v", ev)
			}
			read(t, r, 1)
			kernel.Close(w)
			if c.flags != linux.EPOLLONESHOT {
				if ev := wait(t, ep, 0); len(ev) != 1 || ev[0].Events&rt.Hup == 0 {
					t.Errorf("hang-up: %+v", ev)
				}
			}
			kernel.Close(r) // the entry goes with the description
			if ev := wait(t, ep, 0); len(ev) != 0 {
				t.Errorf("after close: %+v", ev)
			}
			ctl(t, linux.EBADF, ep, linux.EPOLL_CTL_DEL, r, 0, 0)
		})
	}
}

func TestEpollNested(t *testing.T) {
	a, b := Want(t, 0, linux.SYS_EPOLL_CREATE1, 0), Want(t, 0, linux.SYS_EPOLL_CREATE1, 0)
	defer kernel.Close(a)
	defer kernel.Close(b)
	r, w := pipe(t, 0)
	ctl(t, 0, a, linux.EPOLL_CTL_ADD, b, rt.In, 1)
	ctl(t, linux.ELOOP, b, linux.EPOLL_CTL_ADD, a, rt.In, 1)
	ctl(t, linux.EINVAL, b, linux.EPOLL_CTL_ADD, b, rt.In, 1)
	ctl(t, 0, b, linux.EPOLL_CTL_ADD, r, rt.In, 2)
	done := make(chan int)
	go func() { done <- len(wait(t, a, 10_000)) }()
	time.Sleep(time.Millisecond)
	write(t, w, "x")
	if n := <-done; n != 1 {
		t.Fatalf("%d events", n)
	}
	ctl(t, 0, b, linux.EPOLL_CTL_DEL, r, 0, 0)
	ctl(t, linux.ENOENT, b, linux.EPOLL_CTL_DEL, r, 0, 0)
	if ev := wait(t, a, 0); len(ev) != 0 {
		t.Errorf("%+v", ev)
	}
}

// TestEpollStress passes bytes through pipes that one epoll loop serves
// edge-triggered: a lost wake-up makes it hang.
func TestEpollStress(t *testing.T) {
	ep := Want(t, 0, linux.SYS_EPOLL_CREATE1, 0)
	defer kernel.Close(ep)
	const pipes, rounds = 8, 2000
	var wg sync.WaitGroup
	var ends [pipes]uintptr
	for i := range pipes {
		r, w := pipe(t, linux.O_NONBLOCK)
		ends[i] = r
		ctl(t, 0, ep, linux.EPOLL_CTL_ADD, r, rt.In|linux.EPOLLET, uint32(i))
		wg.Go(func() {
			for range rounds {
				if _, err := (end(w)).Write([]byte{1}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	got := 0
	buf := make([]byte, 3)
	for got < pipes*rounds {
		for _, ev := range wait(t, ep, 10_000) {
			for {
				n, err := end(ends[ev.Data[0]]).Read(buf)
				got += n
				if err != nil {
					break
				}
			}
		}
	}
	wg.Wait()
}

func TestPollAndSelect(t *testing.T) {
	r, w := pipe(t, 0)
	fds := [3]linux.PollFd{{FD: int32(r), Events: linux.POLLIN}, {FD: int32(w), Events: linux.POLLIN}, {FD: -1}}
	if n := Want(t, 0, linux.SYS_POLL, Addr(&fds), 3, 1); n != 0 {
		t.Fatalf("nothing is ready, but %d: %+v", n, fds)
	}
	go func() { time.Sleep(time.Millisecond); end(w).Write([]byte("x")) }()
	if n := Want(t, 0, linux.SYS_PPOLL, Addr(&fds), 3, 0, 0); n != 1 || fds[0].Revents != linux.POLLIN {
		t.Fatalf("%d: %+v", n, fds)
	}
	bad := [1]linux.PollFd{{FD: 9999}}
	if n := Want(t, 0, linux.SYS_POLL, Addr(&bad), 1, ^uintptr(0)); n != 1 || bad[0].Revents != linux.POLLNVAL {
		t.Fatalf("%d: %+v", n, bad)
	}
	var in, out linux.FdSet
	in[r/64] |= 1 << (r % 64)
	in[w/64] |= 1 << (w % 64)
	out[w/64] |= 1 << (w % 64)
	tv := linux.Timeval{Sec: 10}
	if n := Want(t, 0, linux.SYS_SELECT, 64, Addr(&in), Addr(&out), 0, Addr(&tv)); n != 2 || in[0] != 1<<r || out[0] != 1<<w {
		t.Fatalf("%d: %x %x", n, in[0], out[0])
	}
	if tv.Sec != 9 {
		t.Errorf("select leaves %+v of its time", tv)
	}
	in = linux.FdSet{1: 1}
	Want(t, linux.EBADF, linux.SYS_SELECT, 100, Addr(&in), 0, 0, Addr(&tv))
}

func TestSignalfd(t *testing.T) {
	mask := uint64(1 << (linux.SIGUSR1 - 1))
	fd := Want(t, 0, linux.SYS_SIGNALFD4, ^uintptr(0), Addr(&mask), 8, linux.O_NONBLOCK)
	b := make([]byte, 200)
	p, l := Bytes(b)
	Want(t, linux.EAGAIN, linux.SYS_READ, fd, p, l)
	var seen []uint32
	rt.Native.SendSignal = func(s uint32) bool { seen = append(seen, s); return true }
	defer func() { rt.Native.SendSignal = nil }()
	kernel.Deliver(linux.SIGUSR1)
	kernel.Deliver(linux.SIGUSR2)
	if s := read(t, fd, 200); len(s) != 128 || s[0] != linux.SIGUSR1 {
		t.Errorf("read %d bytes, signal %d", len(s), s[0])
	}
	kernel.Close(fd)
	kernel.Deliver(linux.SIGUSR1)
	if len(seen) != 2 || seen[0] != linux.SIGUSR2 || seen[1] != linux.SIGUSR1 {
		t.Errorf("the app saw %v", seen)
	}
}

// TestPD attaches a pipe to the runtime's poller as internal/poll does.
func TestPD(t *testing.T) {
	r, w := pipe(t, linux.O_NONBLOCK)
	ready := make(chan uint32, 10)
	rt.Native.Ready = func(pd rt.PD, ev uint32) { ready <- ev }
	defer func() { rt.Native.Ready = nil }()
	if e := kernel.PollOpen(int32(r), 77); e != 0 || len(ready) != 0 {
		t.Fatalf("errno %d, %d events of an empty pipe", e, len(ready))
	}
	write(t, w, "x")
	if ev := <-ready; ev != rt.In {
		t.Errorf("events %#x", ev)
	}
	kernel.PollClose(int32(r), 77)
	write(t, w, "x")
	if len(ready) != 0 {
		t.Error("made ready after PollClose")
	}
	if e := kernel.PollOpen(int32(r), 78); e != 0 || len(ready) != 1 {
		t.Error("readiness from before PollOpen is reported at once")
	}
	kernel.PollClose(int32(r), 78)
	if e := kernel.PollOpen(9999, 79); e != uint32(linux.EBADF) {
		t.Errorf("errno %d", e)
	}
}
