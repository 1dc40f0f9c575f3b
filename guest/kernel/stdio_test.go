package kernel

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// pump returns a standard descriptor and the monitor's end of it.
func pump(t *testing.T, tty bool, flags uint32) (d *Desc, far int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(fds[1], false)
	t.Cleanup(func() {
		rt.Unwatch(int32(fds[0]))
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return NewDesc(newStdio(int32(fds[0]), tty), flags), fds[1]
}

func TestStdinParks(t *testing.T) {
	d, far := pump(t, false, linux.O_RDONLY)
	go func() {
		for _, s := range []string{"one", "two"} {
			time.Sleep(2 * time.Millisecond)
			unix.Write(far, []byte(s))
		}
		time.Sleep(2 * time.Millisecond)
		unix.Shutdown(far, unix.SHUT_WR)
	}()
	var got []byte
	b := make([]byte, 100)
	for {
		n, e := d.Read(b)
		if e != 0 {
			t.Fatal(e)
		}
		if n == 0 {
			break
		}
		got = append(got, b[:n]...)
	}
	if string(got) != "onetwo" {
		t.Errorf("%q", got)
	}
	if ev := d.Ready(); ev&rt.In == 0 || ev&rt.Hup == 0 {
		t.Errorf("at the end: events %#x", ev)
	}
	if w := rt.Native.Waiters.Load(); w != 0 {
		t.Errorf("%d waiters are left", w)
	}
}

func TestStdinNonblocking(t *testing.T) {
	d, far := pump(t, false, linux.O_RDONLY|linux.O_NONBLOCK)
	b := make([]byte, 10)
	if _, e := d.Read(b); e != linux.EAGAIN {
		t.Errorf("errno %d", e)
	}
	if ev := d.Ready(); ev&rt.In != 0 {
		t.Error("ready with nothing to read")
	}
	if e := Wait(d.File, rt.In, rt.Nanotime()+1e6); e != linux.ETIMEDOUT {
		t.Errorf("errno %d", e)
	}
	unix.Write(far, []byte("x"))
	if e := Wait(d.File, rt.In, rt.Nanotime()+10e9); e != 0 {
		t.Errorf("errno %d", e)
	}
	if n, e := d.Read(b); n != 1 || e != 0 {
		t.Errorf("%d, errno %d", n, e)
	}
}

func TestStdoutTakesEverything(t *testing.T) {
	d, far := pump(t, false, linux.O_WRONLY)
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	got := make(chan []byte)
	go func() {
		var all []byte
		b := make([]byte, 50_000)
		for len(all) < len(data) {
			n, err := unix.Read(far, b)
			if n <= 0 || err != nil {
				break
			}
			all = append(all, b[:n]...)
			time.Sleep(100 * time.Microsecond) // slower than the writer
		}
		got <- all
	}()
	if n, e := d.Write(data); n != len(data) || e != 0 {
		t.Errorf("%d, errno %d", n, e)
	}
	if !bytes.Equal(<-got, data) {
		t.Error("other content")
	}
	unix.Shutdown(far, unix.SHUT_RD)
	if _, e := d.Write(data); e != linux.EPIPE {
		t.Errorf("errno %d of a reader that has gone", e)
	}
}

func TestStdioKind(t *testing.T) {
	for _, c := range []struct {
		tty  bool
		mode uint32
		e    linux.Errno
	}{{true, linux.S_IFCHR | 0620, 0}, {false, linux.S_IFIFO | 0600, linux.ENOTTY}} {
		d, _ := pump(t, c.tty, linux.O_RDWR)
		var st linux.Stat
		if d.Stat(&st); st.Mode != c.mode {
			t.Errorf("tty %v: mode %o", c.tty, st.Mode)
		}
		event(abi.Msg{Op: abi.EvWinsize, A: 50, B: 132}, nil)
		var w [8]byte
		if _, e := d.Ioctl(linux.TIOCGWINSZ, Addr(w[:])); e != c.e || e == 0 && (w[0] != 50 || w[2] != 132) {
			t.Errorf("tty %v: errno %d, %v", c.tty, e, w)
		}
	}
}

// TestTermios asks a monitor for the terminal's settings.
func TestTermios(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		rt.Unwatch(int32(fds[0]))
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	if e := host.Start(int32(fds[0])); e != 0 {
		t.Fatal(e)
	}
	set := make(chan abi.Msg, 1)
	go func() {
		b := make([]byte, 1000)
		for {
			n, err := unix.Read(fds[1], b)
			m, payload, ok := abi.TakeMsg(b[:max(n, 0)])
			if err != nil || !ok {
				return
			}
			reply := append(make([]byte, abi.MsgSize), bytes.Repeat([]byte{7}, termiosSize)...)
			(&abi.Msg{ID: m.ID}).Put(reply)
			if m.Op == abi.OpTermSet {
				m.C = uint64(len(payload))
				set <- m
				reply = reply[:abi.MsgSize]
			}
			unix.Write(fds[1], reply)
		}
	}()
	d, _ := pump(t, true, linux.O_RDWR)
	tio := make([]byte, termiosSize)
	if _, e := d.Ioctl(linux.TCGETS, Addr(tio)); e != 0 || tio[35] != 7 {
		t.Errorf("errno %d, %v", e, tio)
	}
	if _, e := d.Ioctl(linux.TCSETSW, Addr(tio)); e != 0 {
		t.Errorf("errno %d", e)
	}
	if m := <-set; m.B != linux.TCSETSW || m.C != termiosSize {
		t.Errorf("%+v", m)
	}
	if _, e := d.Ioctl(linux.TCGETS, 0); e != linux.EFAULT {
		t.Errorf("errno %d", e)
	}
}
