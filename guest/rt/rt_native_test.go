//go:build !noyau

package rt

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWatch(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	notified, ready := make(chan uint32, 16), make(chan uint32, 16)
	Native.Ready = func(pd PD, ev uint32) { ready <- ev }
	s := &Source{Slow: true, Notify: func(ev uint32) { notified <- ev }, PD: 5}
	if e := Watch(int32(fds[0]), s); e != 0 {
		t.Fatal(e)
	}
	if ev := <-notified; ev != Out {
		t.Errorf("at first %#x: what is ready already is reported", ev)
	}
	<-ready
	unix.Write(fds[1], []byte("x"))
	if ev := <-notified; ev&In == 0 {
		t.Errorf("events %#x", ev)
	}
	if ev := <-ready; ev&In == 0 {
		t.Errorf("events %#x for the poller", ev)
	}
	unix.Shutdown(fds[1], unix.SHUT_RDWR)
	if ev := <-notified; ev&Hup == 0 || ev&RdHup == 0 {
		t.Errorf("events %#x", ev)
	}
	Unwatch(int32(fds[0]))
	if e := Watch(1<<20, s); e != int32(unix.EBADF) {
		t.Errorf("errno %d", e)
	}
}

func TestTimer(t *testing.T) {
	fired := make(chan int64, 10)
	tm := NewTimer(func() { fired <- Nanotime() })
	if tm.Stop() {
		t.Error("a new timer is not armed")
	}
	start := Nanotime()
	tm.Reset(1e12)
	tm.Reset(2e6) // replaces the earlier one
	if at := <-fired; at-start < 2e6 {
		t.Errorf("fired after %v", time.Duration(at-start))
	}
	tm.Reset(1e12)
	if !tm.Stop() {
		t.Error("an armed timer")
	}
}

func TestPages(t *testing.T) {
	p := Pages(8192)
	if p == 0 || p%4096 != 0 {
		t.Fatalf("%#x", p)
	}
	FreePages(p, 8192)
	if p := Pages(1 << 60); p != 0 {
		t.Errorf("%#x for more than there is", p)
	}
}
