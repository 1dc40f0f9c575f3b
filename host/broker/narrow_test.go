package broker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

// TestNarrowRequests sends raw requests, as a guest does that is no longer what it was.
func TestNarrowRequests(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := func(rights uint64) *guest {
		g := start(t, setup{family: &fakeFamily{}, sockets: &Sockets{}, volumes: []volume.Spec{{Host: dir, Guest: "/d"}}})
		g.refused(unix.EINVAL, abi.Msg{Op: abi.OpNarrow, A: abi.NarrowAll + 1}, nil)
		g.refused(unix.ESRCH, abi.Msg{Op: abi.OpNarrow, A: rights, B: 7}, nil) // no member of this family
		g.must(abi.Msg{Op: abi.OpNarrow, A: rights}, nil)
		g.must(abi.Msg{Op: abi.OpNarrow}, nil)
		return g
	}
	open := func(flags uint64) abi.Msg { return abi.Msg{Op: abi.OpOpen, B: flags, C: 0o600} }

	g := begin(abi.NarrowWrite)
	h := g.must(open(unix.O_RDONLY), str("f"))
	for _, flags := range []uint64{unix.O_WRONLY, unix.O_RDWR, 3, unix.O_CREAT, unix.O_TRUNC, unix.O_APPEND, unix.O_TMPFILE, 1 << 40, 1 << 63} {
		g.refused(unix.EROFS, open(flags), str("f"))
	}
	for op, payload := range map[uint16][]byte{
		abi.OpMkdir: str("n"), abi.OpUnlink: str("f"), abi.OpRename: str("f", "g"), abi.OpLink: str("f", "g"), abi.OpSymlink: str("f", "g"),
		abi.OpChmod: str("f"), abi.OpChown: str("f"), abi.OpTimes: str("f"), abi.OpMknod: str("n"),
	} {
		g.refused(unix.EROFS, abi.Msg{Op: op, C: 0o777}, payload)
	}
	for _, op := range []uint16{abi.OpTruncate, abi.OpFalloc, abi.OpChmod, abi.OpChown, abi.OpTimes} {
		g.refused(unix.EROFS, abi.Msg{Op: op, Handle: h.Handle, A: 100}, nil)
	}
	g.must(abi.Msg{Op: abi.OpStat}, str("f"))

	g = begin(abi.NarrowVolumes)
	for op, payload := range map[uint16][]byte{
		abi.OpOpen: str("f"), abi.OpStat: str("f"), abi.OpReadlink: str("f"), abi.OpAccess: str("f"), abi.OpStatfs: nil, abi.OpMkdir: str("n"), abi.OpUnlink: str("f"),
	} {
		g.refused(unix.EACCES, abi.Msg{Op: op}, payload)
	}

	g = begin(abi.NarrowNet | abi.NarrowListen)
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpConnect, A: abi.ProtoTCP}, addr("192.0.2.1:1"))
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpConnect, A: abi.ProtoUDP}, addr(abi.DNSIP4+":53"))
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 1}, addr("0.0.0.0:80"))
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpUDP}, addr("0.0.0.0:0"))

	g = begin(abi.NarrowFork | abi.NarrowExec | abi.NarrowNames | abi.NarrowSignal)
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpFork}, nil)
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpPair, A: unix.SOCK_STREAM}, nil)
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpShare, A: 4096}, nil)
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpExecNew}, str("helper"))
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpExecStart, A: 1}, nil)
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpNameListen, A: unix.SOCK_STREAM}, str("/x"))
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpNameDial, A: unix.SOCK_STREAM}, str("/x"))
	g.refused(unix.EPERM, abi.Msg{Op: abi.OpKill, A: 1, B: 15}, nil)
}

// TestNames: what a guest may say of names, and what it can hold.
func TestNames(t *testing.T) {
	s := &Sockets{}
	g, other := start(t, setup{family: &fakeFamily{}, sockets: s}), start(t, setup{family: &fakeFamily{}, sockets: s})
	g.closes, other.closes = true, true
	listen, dial := abi.Msg{Op: abi.OpNameListen, A: unix.SOCK_STREAM, B: 5}, abi.Msg{Op: abi.OpNameDial, A: unix.SOCK_STREAM}
	for _, m := range []abi.Msg{listen, dial} {
		for _, name := range []string{"", "\x00", "x", "x/y", "../x", "/a\x00b", "/" + strings.Repeat("x", abi.NameMax)} {
			g.refused(unix.EINVAL, m, str(name))
		}
		g.refused(unix.EINVAL, m, nil)
		g.refused(unix.EINVAL, m, str("/a", "/b"))
		for _, typ := range []uint64{0, unix.SOCK_RAW, unix.SOCK_STREAM | unix.SOCK_NONBLOCK, 1 << 40} {
			bad := m
			bad.A = typ
			g.refused(unix.EPROTOTYPE, bad, str("/x"))
		}
		bad := m
		bad.A = unix.SOCK_DGRAM
		g.refused(unix.EPROTOTYPE, bad, str(abi.ChannelPrefix+"x"))
		// Channels that nobody granted, whatever they are called.
		for _, name := range []string{"x", "", "../x", "x/y", "x\x00"} {
			g.refused(unix.EACCES, m, str(abi.ChannelPrefix+name))
		}
	}
	g.refused(unix.ECONNREFUSED, dial, str("/x"))
	before := openFDs(t)
	l := g.must(listen, str("/x"))
	other.refused(unix.EADDRINUSE, listen, str("/x"))
	other.refused(unix.EPROTOTYPE, abi.Msg{Op: abi.OpNameDial, A: unix.SOCK_SEQPACKET}, str("/x"))
	c := other.must(dial, str("/x"))
	a, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	unix.Write(c.fd, []byte("hi"))
	var b [8]byte
	if n, err := unix.Read(a, b[:]); n != 2 || err != nil {
		t.Error(n, err)
	}
	unix.Close(a)
	unix.Close(c.fd)
	// A queue that is full does not hold up the monitor.
	var waiting []int
	for {
		got := other.call(dial, str("/x"))
		if got.Errno != 0 {
			if got.err() != unix.EAGAIN {
				t.Error(got.err())
			}
			break
		}
		waiting = append(waiting, got.fd)
	}
	for _, fd := range waiting {
		unix.Close(fd)
	}
	unix.Close(l.fd) // the guest has closed it, the monitor does not know yet
	other.refused(unix.ECONNREFUSED, dial, str("/x"))
	g.send(abi.Msg{Op: abi.OpDrop, Handle: l.Handle}, nil)
	g.must(abi.Msg{Op: abi.OpNarrow}, nil) // it has been seen
	l = other.must(listen, str("/x"))      // the name is free
	unix.Close(l.fd)
	other.close()
	<-other.b.Done()
	noMore(t, before)
	for i := range maxSocketNames {
		n := g.must(listen, str("/"+strings.Repeat("n", i+1)))
		unix.Close(n.fd)
	}
	g.refused(unix.ENFILE, listen, str("/one more"))
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "noyau-socket-*")); len(left) > 0 {
		t.Error(left)
	}
}

// TestChannelDir: a directory that others can write to is not used.
func TestChannelDir(t *testing.T) {
	dir := t.TempDir()
	c := &Channels{Dir: dir, Listen: map[string]bool{"x": true}, Dial: map[string]bool{"x": true}}
	os.Chmod(dir, 0o777)
	if _, _, err := c.listen("x", unix.SOCK_STREAM, 1); err != ErrChannelDir {
		t.Error(err)
	}
	if _, err := c.dial("x", unix.SOCK_STREAM); err != ErrChannelDir {
		t.Error(err)
	}
	os.Chmod(dir, 0o700)
	// What is left of a monitor that was killed is not in the way.
	fd, _, err := c.listen("x", unix.SOCK_STREAM, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.listen("x", unix.SOCK_STREAM, 1); err != unix.EADDRINUSE {
		t.Error(err)
	}
	unix.Close(fd)
	if _, err := c.dial("x", unix.SOCK_STREAM); err != unix.ECONNREFUSED {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "..", ".x", "a/b", "a\x00", "ä", strings.Repeat("x", 65)} {
		if CheckChannel(name) {
			t.Errorf("%q is no name", name)
		}
		c.Listen[name], c.Dial[name] = true, true
		if _, _, err := c.listen(name, unix.SOCK_STREAM, 1); err != unix.EACCES {
			t.Errorf("%q: %v", name, err)
		}
	}
}
