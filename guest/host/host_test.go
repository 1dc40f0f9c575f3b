package host

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// peer is the monitor's end of a control channel.
type peer struct {
	t  *testing.T
	fd int
}

func start(t *testing.T, handlers ...func()) *peer {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	control.drain.Lock()
	OnEvent, OnGone = nil, nil
	for _, f := range handlers {
		f()
	}
	control.drain.Unlock()
	if e := Start(int32(fds[0])); e != 0 {
		t.Fatal(e)
	}
	t.Cleanup(func() {
		rt.Unwatch(int32(fds[0]))
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return &peer{t, fds[1]}
}

func (p *peer) recv() (abi.Msg, []byte, int) {
	b, oob := make([]byte, abi.MaxMsg), make([]byte, 64)
	n, on, _, _, err := unix.Recvmsg(p.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		p.t.Error(err)
		return abi.Msg{}, nil, -1
	}
	fd := -1
	if on > 0 {
		c, _ := unix.ParseSocketControlMessage(oob[:on])
		fds, _ := unix.ParseUnixRights(&c[0])
		fd = fds[0]
	}
	m, payload, ok := abi.TakeMsg(b[:n])
	if !ok {
		p.t.Errorf("a malformed request of %d bytes", n)
	}
	return m, payload, fd
}

func (p *peer) send(m abi.Msg, payload []byte, fd int) {
	b := make([]byte, abi.MsgSize)
	m.Put(b)
	p.raw(append(b, payload...), fd)
}

func (p *peer) raw(b []byte, fd int) {
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	if err := unix.Sendmsg(p.fd, b, oob, nil, 0); err != nil {
		p.t.Error(err)
	}
}

func TestRequest(t *testing.T) {
	p := start(t)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("behind a handle")
	go func() {
		m, payload, _ := p.recv()
		if m.Op != abi.OpOpen || m.A != 1 || m.D != 4 || string(payload) != "a path" || m.ID == 0 {
			t.Errorf("request %+v %q", m, payload)
		}
		p.send(abi.Msg{ID: m.ID, Op: m.Op, Handle: 33}, []byte("a stat"), int(f.Fd()))
	}()
	r, e := Request(abi.Msg{Op: abi.OpOpen, A: 1, D: 4}, []byte("a "), []byte("path"))
	if e != 0 || r.Handle != 33 || string(r.Payload) != "a stat" || r.FD < 0 {
		t.Fatalf("%+v, errno %d", r, e)
	}
	b := make([]byte, 20)
	if n, e := Pread(r.FD, b, 2); e != 0 || string(b[:n]) != "hind a handle" {
		t.Errorf("%q, errno %d", b[:n], e)
	}
	if e := Close(r.FD); e != 0 {
		t.Error(e)
	}
	go func() {
		m, _, _ := p.recv()
		p.send(abi.Msg{ID: m.ID, Errno: int32(linux.EACCES), A: 5}, nil, -1)
	}()
	if r, e := Request(abi.Msg{Op: abi.OpListen}); e != linux.EACCES || r.A != 5 || r.FD != -1 {
		t.Errorf("%+v, errno %d", r, e)
	}
	if _, e := Request(abi.Msg{}, make([]byte, abi.MaxPayload+1)); e != linux.EMSGSIZE {
		t.Errorf("too long a payload: errno %d", e)
	}
}

func TestRequestWithHandle(t *testing.T) {
	p := start(t)
	fds, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	go func() {
		m, _, fd := p.recv()
		unix.Write(fd, []byte("x"))
		unix.Close(fd)
		p.send(abi.Msg{ID: m.ID}, nil, -1)
	}()
	if _, e := RequestWith(abi.Msg{Op: abi.OpSockopt}, int32(fds[0])); e != 0 {
		t.Fatal(e)
	}
	b := make([]byte, 4)
	if n, e := Recv(int32(fds[1]), b, 0); n != 1 || e != 0 {
		t.Errorf("%d bytes, errno %d: another handle arrived", n, e)
	}
	if _, e := Recv(int32(fds[1]), b, 0); e != linux.EAGAIN {
		t.Errorf("errno %d of an empty socket", e)
	}
	Close(int32(fds[0]))
	Close(int32(fds[1]))
}

// TestConcurrent makes more requests than the socket holds, answered in another
// order, so that senders wait for room.
func TestConcurrent(t *testing.T) {
	p := start(t)
	const n = 2000
	go func() {
		for done := 0; done < n; {
			var batch []abi.Msg
			time.Sleep(time.Millisecond) // let the queue fill
			for range min(50, n-done) {
				m, _, _ := p.recv()
				batch = append(batch, m)
			}
			for i := range batch {
				m := batch[len(batch)-1-i]
				p.send(abi.Msg{ID: m.ID, A: m.A * 2}, bytes.Repeat([]byte{byte(m.A)}, 100), -1)
			}
			done += len(batch)
		}
	}()
	var wg sync.WaitGroup
	for i := range uint64(n) {
		wg.Go(func() {
			r, e := Request(abi.Msg{Op: abi.OpStat, A: i}, make([]byte, 1000))
			if e != 0 || r.A != 2*i || len(r.Payload) != 100 || r.Payload[99] != byte(i) {
				t.Errorf("request %d: %+v, errno %d", i, r, e)
			}
		})
	}
	wg.Wait()
	if w := rt.Native.Waiters.Load(); w != 0 {
		t.Errorf("%d waiters are left", w)
	}
}

// TestPostWaits: who waits for room for a message without a reply waits for the monitor, which
// is no deadlock.
func TestPostWaits(t *testing.T) {
	p := start(t)
	const n = 5000
	sent := make(chan bool)
	go func() {
		defer close(sent)
		for range n {
			if e := Post(abi.Msg{Op: abi.OpDrop}); e != 0 {
				t.Errorf("errno %d", e)
			}
		}
	}()
	for begin := time.Now(); rt.Native.Waiters.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Error("nobody waits for the monitor")
			break
		}
	}
	for range n {
		p.recv()
	}
	<-sent
	if w := rt.Native.Waiters.Load(); w != 0 {
		t.Errorf("%d waiters are left", w)
	}
}

func TestEventsAndGarbage(t *testing.T) {
	events := make(chan abi.Msg, 10)
	p := start(t, func() { OnEvent = func(m abi.Msg, payload []byte) { events <- m } })
	p.raw([]byte("short"), -1)
	p.raw([]byte("short with a handle"), int(os.Stdin.Fd()))
	p.send(abi.Msg{ID: 12345}, nil, int(os.Stdin.Fd())) // a reply to nothing
	p.send(abi.Msg{Op: abi.EvSignal, A: 15}, nil, -1)
	if m := <-events; m.Op != abi.EvSignal || m.A != 15 {
		t.Errorf("%+v", m)
	}
}

func TestTooMuchGarbage(t *testing.T) {
	gone := make(chan bool, 1)
	p := start(t, func() { OnGone = func() { gone <- true } })
	go func() {
		p.recv()
		for range maxBad + 1 {
			p.raw([]byte("garbage"), -1)
		}
	}()
	if _, e := Request(abi.Msg{Op: abi.OpStat}); e != linux.EIO {
		t.Errorf("errno %d", e)
	}
	<-gone
	if _, e := Request(abi.Msg{Op: abi.OpStat}); e != linux.EIO {
		t.Errorf("errno %d", e)
	}
}

func TestMonitorGone(t *testing.T) {
	gone := make(chan bool, 1)
	p := start(t, func() { OnGone = func() { gone <- true } })
	go func() {
		p.recv()
		unix.Shutdown(p.fd, unix.SHUT_RDWR)
	}()
	if _, e := Request(abi.Msg{Op: abi.OpStat}); e != linux.EIO {
		t.Errorf("errno %d", e)
	}
	<-gone
	if e := Post(abi.Msg{Op: abi.OpDrop}); e != linux.EIO {
		t.Errorf("errno %d", e)
	}
}

func bootBlock() []byte {
	str := func(s string) []byte { return abi.AppendString(nil, s) }
	b := abi.AppendRecord(nil, abi.RecHostname, str("box"))
	b = abi.AppendRecord(b, abi.RecDir, str("/work"))
	b = abi.AppendRecord(b, abi.RecFile, append(abi.Append32(str("/etc/a"), 0644), "content"...))
	b = abi.AppendRecord(b, abi.RecHostFile, abi.Append64(abi.Append32(abi.Append32(str("/etc/b"), 0444), 9), 1<<33))
	b = abi.AppendRecord(b, abi.RecVolume, abi.Append32(abi.Append32(str("/data"), 2), abi.VolumeReadOnly))
	b = abi.AppendRecord(b, 999, []byte("from the future"))
	b = abi.AppendRecord(b, abi.RecWinsize, abi.Append16(abi.Append16(nil, 24), 80))
	b = abi.AppendRecord(b, abi.RecLimit, abi.Append64(abi.Append64(abi.Append32(nil, 7), 100), 200))
	return abi.AppendRecord(b, abi.RecTraceTo, abi.Append32(nil, 11))
}

func checkBoot(t *testing.T, b *Boot) {
	t.Helper()
	if b.Hostname != "box" || b.Dir != "/work" || b.Rows != 24 || b.Cols != 80 || b.TraceTo != 11 {
		t.Errorf("%+v", b)
	}
	if len(b.Files) != 2 || string(b.Files[0].Content) != "content" || b.Files[0].Handle != -1 || b.Files[0].Mode != 0644 ||
		b.Files[1].Path != "/etc/b" || b.Files[1].Handle != 9 || b.Files[1].Size != 1<<33 {
		t.Errorf("files %+v", b.Files)
	}
	if len(b.Volumes) != 1 || b.Volumes[0] != (Volume{"/data", 2, true}) {
		t.Errorf("volumes %+v", b.Volumes)
	}
	if len(b.Limits) != 1 || b.Limits[0] != (Limit{7, 100, 200}) {
		t.Errorf("limits %+v", b.Limits)
	}
}

func TestLoadBoot(t *testing.T) {
	for name, seals := range map[string]int{"sealed": unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW, "open": 0} {
		t.Run(name, func(t *testing.T) {
			fd, err := unix.MemfdCreate("boot", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
			if err != nil {
				t.Skip("memfd_create:", err)
			}
			defer unix.Close(fd)
			rt.Native.Boot = abi.BootHeader{Magic: abi.Magic, Version: abi.Version}
			payload := bootBlock()
			rt.Native.Boot.Size = uint64(abi.BootSize + len(payload))
			head := make([]byte, abi.BootSize)
			rt.Native.Boot.Put(head)
			unix.Write(fd, append(head, payload...))
			unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
			b, e := LoadBoot(int32(fd))
			if e != 0 {
				t.Fatal(e)
			}
			checkBoot(t, b)
		})
	}
}

func FuzzParseBoot(f *testing.F) {
	f.Add(bootBlock())
	f.Fuzz(func(t *testing.T, b []byte) {
		boot, ok := ParseBoot(&abi.BootHeader{}, b)
		if boot == nil {
			t.Fatal("no Boot")
		}
		for _, f := range boot.Files {
			if ok && (f.Size < 0 || f.Handle < 0 && int64(len(f.Content)) != f.Size) {
				t.Errorf("%+v", f)
			}
		}
	})
}
