package broker

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/policy"
	"noyau.dev/host/volume"
)

// event waits for an event of the monitor's.
func (g *guest) event(op uint16) {
	g.t.Helper()
	if a := g.recv(); a.ID != 0 || a.Op != op {
		g.t.Fatalf("%+v; want event %d", a.Msg, op)
	}
}

func (g *guest) post(m abi.Msg) {
	p := make([]byte, abi.MsgSize)
	m.Put(p)
	g.packet(p)
}

type made struct {
	Opened
	err error
}

// begin asks for a snapshot, up to the moment at which the guest has the file.
func begin(t *testing.T, g *guest, ctx context.Context) <-chan made {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	c := make(chan made, 1)
	go func() { o, err := g.b.Snapshot(ctx, f, nil); c <- made{o, err} }()
	g.event(abi.EvSnapshot)
	g.must(abi.Msg{Op: abi.OpSnapshot}, nil)
	return c
}

// TestSnapshotMoment: what the guest asks for after the moment of a snapshot is answered
// after it is written, and is not in it; and so is what had to wait.
func TestSnapshotMoment(t *testing.T) {
	g, dir := withVolume(t, false)
	a := g.open("a", unix.O_RDWR|unix.O_CREAT)
	unix.Pwrite(a.fd, []byte("hello"), 0)
	g.must(abi.Msg{Op: abi.OpFlock, Handle: a.Handle, A: unix.LOCK_SH}, nil)
	g.must(abi.Msg{Op: abi.OpLock, Handle: a.Handle, A: unix.F_WRLCK, B: 10, C: 5}, nil)
	l := g.open("l", unix.O_RDWR|unix.O_CREAT)
	other, err := os.Open(filepath.Join(dir, "l"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	unix.Flock(int(other.Fd()), unix.LOCK_EX)
	waits := g.send(abi.Msg{Op: abi.OpFlock, Handle: l.Handle, A: unix.LOCK_EX}, nil)
	c := begin(t, g, t.Context())
	unix.Flock(int(other.Fd()), unix.LOCK_UN)
	late := g.send(abi.Msg{Op: abi.OpOpen, B: unix.O_RDWR | unix.O_CREAT, C: 0o600}, str("late"))
	p := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(p, 200); n != 0 {
		t.Errorf("an answer while the guest writes itself: %+v", g.recv().Msg)
	}
	g.post(abi.Msg{Op: abi.OpSnapshotted})
	m := <-c
	if m.err != nil {
		t.Fatal(m.err)
	}
	got := map[uint32]bool{}
	for range 2 {
		got[g.recv().ID] = true
	}
	if !got[waits] || !got[late] {
		t.Errorf("answers to %v", got)
	}
	if len(m.Files) != 2 || m.Files[0].Handle != a.Handle || m.Files[1].Handle != l.Handle {
		t.Fatalf("%+v", m.Files)
	}
	if r := m.Files[0]; r.Path != "a" || r.Size != 5 || r.Flock != unix.LOCK_SH || len(r.Locks) != 1 || r.Locks[0] != (volume.Held{Type: unix.F_WRLCK, Start: 10, Length: 5}) {
		t.Errorf("%+v", r)
	}
	if m.Files[1].Flock != 0 {
		t.Errorf("a lock that the guest does not know of: %+v", m.Files[1])
	}
	if m.Next != l.Handle+1 {
		t.Errorf("names up to %d, want %d", m.Next, l.Handle+1)
	}
}

// TestSnapshotGivenUp: a guest that gets the file and does not write keeps nobody waiting,
// and is answered again.
func TestSnapshotGivenUp(t *testing.T) {
	g, _ := withVolume(t, false)
	g.refused(unix.EPERM, abi.Msg{Op: abi.OpSnapshot}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	c := begin(t, g, ctx)
	id := g.send(abi.Msg{Op: abi.OpStat}, str(""))
	cancel()
	if m := <-c; m.err == nil {
		t.Error("no error")
	}
	if a := g.recv(); a.ID != id || a.Errno != 0 {
		t.Errorf("%+v", a.Msg)
	}
	// One that goes on asking is not held for ever, and nor is its memory.
	c = begin(t, g, t.Context())
	done := make(chan int)
	go func() {
		n := 0
		for n < maxHeldPackets {
			if g.recv().ID != 0 {
				n++
			}
		}
		done <- n
	}()
	for range maxHeldPackets {
		g.send(abi.Msg{Op: abi.OpStat}, str(""))
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("no answers")
	}
	g.post(abi.Msg{Op: abi.OpSnapshotted, B: uint64(unix.ENOSPC)})
	if m := <-c; m.err != unix.ENOSPC {
		t.Error(m.err)
	}
	// The pVM ends meanwhile.
	c = begin(t, g, t.Context())
	g.close()
	if m := <-c; m.err == nil {
		t.Error("no error")
	}
}

// TestSnapshotUnread: a guest that asks for the file and does not read keeps nobody waiting
// who gives up, and is answered once it reads.
func TestSnapshotUnread(t *testing.T) {
	g, _ := withVolume(t, false)
	m := abi.Msg{Op: abi.EvGiveBack}
	full := make([]byte, abi.MsgSize)
	m.Put(full)
	g.b.raw.Control(func(fd uintptr) {
		for unix.Sendto(int(fd), full, unix.MSG_DONTWAIT, nil) == nil {
		}
	})
	f, err := os.Create(filepath.Join(t.TempDir(), "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := make(chan error, 1)
	go func() { _, err := g.b.Snapshot(ctx, f, nil); c <- err }()
	s := &g.b.snap
	await := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not seen: ", what)
			}
		}
	}
	await("an event that cannot be sent", func() bool {
		if s.replies.TryLock() {
			s.replies.Unlock()
			return false
		}
		return true
	})
	id := g.send(abi.Msg{Op: abi.OpSnapshot}, nil)
	await("an order that waits for it", func() bool {
		if s.replies.TryRLock() {
			s.replies.RUnlock()
			return false
		}
		return true
	})
	cancel()
	select {
	case err := <-c:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Snapshot waits for a guest that does not read")
	}
	a := g.recv()
	for a.ID == 0 {
		a = g.recv()
	}
	if a.ID != id || a.err() != unix.EPERM {
		t.Errorf("%+v", a.Msg)
	}
	g.must(abi.Msg{Op: abi.OpStat}, str(""))
	made := begin(t, g, t.Context())
	g.post(abi.Msg{Op: abi.OpSnapshotted})
	if m := <-made; m.err != nil {
		t.Error(m.err)
	}
}

// TestReopen: a restored guest gets each file of before once, by its name, and new ones
// have other names.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644)
	}
	root, err := volume.Open(volume.Spec{Host: dir, Guest: "/data"}, 0, volume.IDs{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	files, common := map[uint32]*volume.File{}, new(Common)
	for i, name := range []string{"a", "b", "c"} {
		f, err := root.Reopen(volume.Record{Path: name}, false)
		if err != nil {
			t.Fatal(err)
		}
		files[uint32(100+i)] = f
		common.Add(uint32(100+i), f)
	}
	g := start(t, setup{volumes: []volume.Spec{{Host: dir, Guest: "/data"}}, restored: &Restored{Files: files, Next: 200, Common: common}})
	common.Close()
	a := g.must(abi.Msg{Op: abi.OpReopen, Handle: 100}, nil)
	var b [8]byte
	if n, _ := unix.Pread(a.fd, b[:], 0); string(b[:n]) != "a" || stat(t, a.payload).Size != 1 || a.Handle != 100 {
		t.Errorf("%q, %+v", b[:n], a.Msg)
	}
	g.refused(unix.EBADF, abi.Msg{Op: abi.OpReopen, Handle: 100}, nil)
	g.refused(unix.EBADF, abi.Msg{Op: abi.OpReopen, Handle: 99}, nil)
	n := g.open("a", unix.O_RDONLY)
	if n.Handle < 200 {
		t.Errorf("a new name %d", n.Handle)
	}
	g.refused(unix.EBADF, abi.Msg{Op: abi.OpReopen, Handle: n.Handle}, nil)
	g.must(abi.Msg{Op: abi.OpFstat, Handle: 101}, nil) // known by its name
	g.must(abi.Msg{Op: abi.OpReopen}, nil)
	g.refused(unix.EBADF, abi.Msg{Op: abi.OpFstat, Handle: 101}, nil) // nobody had asked for it
	g.refused(unix.EBADF, abi.Msg{Op: abi.OpReopen, Handle: 102}, nil)
	g.must(abi.Msg{Op: abi.OpFstat, Handle: 100}, nil)
	if f := g.b.Figures(); f.Handles != 2 {
		t.Errorf("%d handles; want 2", f.Handles)
	}
}

// TestSharedPorts: two pVMs have one queue, which lives as long as one of them.
func TestSharedPorts(t *testing.T) {
	shared, err := OpenPorts([]policy.Publish{{IP: netip.MustParseAddr("127.0.0.1"), GuestPort: 80}})
	if err != nil {
		t.Fatal(err)
	}
	one := start(t, setup{shared: shared})
	two := start(t, setup{shared: shared})
	shared.Close()
	host := one.bound[one.b.c.Ports.List()[0]].String()
	if h := two.bound[two.b.c.Ports.List()[0]].String(); h != host {
		t.Errorf("%s and %s", host, h)
	}
	dial := func() error {
		c, err := net.Dial("tcp", host)
		if err == nil {
			c.Close()
		}
		return err
	}
	if dial() == nil {
		t.Error("a connection before anybody listens")
	}
	listen := abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 16}
	a := one.must(listen, addr("0.0.0.0:80"))
	two.must(listen, addr("0.0.0.0:80"))
	if err := dial(); err != nil {
		t.Error(err)
	}
	one.post(abi.Msg{Op: abi.OpDrop, Handle: a.Handle})
	one.close()
	<-one.b.Done()
	if err := dial(); err != nil {
		t.Error("with one of two:", err)
	}
	two.close()
	<-two.b.Done()
	if dial() == nil {
		t.Error("a connection to nobody")
	}
	if err := new(Ports).Join(nil); err != nil {
		t.Error(err)
	}
}
