package broker

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/policy"
	"noyau.dev/host/volume"
)

const secret = "only the host may read this"

// jail is a volume beside a secret, with ways to it.
func jail(t testing.TB) (g *guest, root string) {
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	os.MkdirAll(filepath.Join(root, "d"), 0o755)
	os.MkdirAll(filepath.Join(dir, "outside"), 0o755)
	os.WriteFile(filepath.Join(dir, "outside", "f"), []byte(secret), 0o644)
	os.WriteFile(filepath.Join(root, "d", "f"), []byte("inside"), 0o644)
	os.Symlink("../outside", filepath.Join(root, "up"))
	os.Symlink(filepath.Join(dir, "outside"), filepath.Join(root, "abs"))
	os.Symlink("../../outside/f", filepath.Join(root, "d", "deep"))
	os.Symlink("/proc/self/root", filepath.Join(root, "proc"))
	return start(t, setup{volumes: []volume.Spec{{Host: root, Guest: "/data"}}}), root
}

func TestPathsOut(t *testing.T) {
	g, _ := jail(t)
	open := abi.Msg{Op: abi.OpOpen, C: 0o644}
	for _, p := range []string{"..", "../outside/f", "d/../../outside/f", "/etc/passwd", "./d", "d//f", "d/", "d/.", "d\x00/f", "/", "//"} {
		for op, m := range map[string]abi.Msg{
			"open": open, "create": {Op: abi.OpOpen, B: unix.O_CREAT | unix.O_WRONLY, C: 0o644},
			"stat": {Op: abi.OpStat}, "mkdir": {Op: abi.OpMkdir, C: 0o755}, "unlink": {Op: abi.OpUnlink},
			"readlink": {Op: abi.OpReadlink}, "chmod": {Op: abi.OpChmod, C: 0o777}, "chown": {Op: abi.OpChown, B: 1000, C: 1000},
			"times": {Op: abi.OpTimes}, "access": {Op: abi.OpAccess}, "mknod": {Op: abi.OpMknod, C: 0o600},
		} {
			if a := g.call(m, str(p)); a.err() != unix.EINVAL {
				t.Errorf("%s %q: %v; want EINVAL", op, p, a.err())
			}
		}
		g.refused(unix.EINVAL, abi.Msg{Op: abi.OpRename}, str(p, "x"))
		g.refused(unix.EINVAL, abi.Msg{Op: abi.OpRename}, str("d/f", p))
		g.refused(unix.EINVAL, abi.Msg{Op: abi.OpLink}, str(p, "x"))
		g.refused(unix.EINVAL, abi.Msg{Op: abi.OpSymlink}, str("x", p))
	}
	g.refused(unix.ENAMETOOLONG, open, str(strings.Repeat("a/", 2100)+"a"))
	g.refused(unix.ENAMETOOLONG, open, str(strings.Repeat("a", 256)))
	for _, p := range []string{"up/f", "abs/f", "d/deep", "proc/etc/passwd", "up", "abs"} {
		g.refused(unix.EXDEV, open, str(p))
		g.refused(unix.EXDEV, abi.Msg{Op: abi.OpOpen, B: unix.O_CREAT | unix.O_WRONLY, C: 0o644}, str(p))
		g.refused(unix.EXDEV, abi.Msg{Op: abi.OpStat}, str(p))
		g.refused(unix.EXDEV, abi.Msg{Op: abi.OpChmod, C: 0o777}, str(p))
		g.refused(unix.EXDEV, abi.Msg{Op: abi.OpUnlink}, str(p+"/x"))
	}
	// The links themselves are the guest's to see.
	g.must(abi.Msg{Op: abi.OpStat, B: unix.AT_SYMLINK_NOFOLLOW}, str("up"))
	g.refused(unix.EBUSY, abi.Msg{Op: abi.OpUnlink, B: unix.AT_REMOVEDIR}, str(""))
	g.refused(unix.ENODEV, abi.Msg{Op: abi.OpStat, A: 7}, str("d"))
	g.refused(unix.ENODEV, abi.Msg{Op: abi.OpStat, A: ^uint64(0)}, str("d"))
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpStat}, append(str("d"), 0))
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpStat}, []byte{0xff, 0xff, 'd'})
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpStat}, nil)
	g.refused(unix.EOPNOTSUPP, abi.Msg{Op: abi.OpOpen, B: 0o20200000 | unix.O_RDWR}, str("d"))
}

// A directory of the path is swapped with a link to the outside, again and
// again, while the guest opens and writes beneath it.
func TestSymlinkRace(t *testing.T) {
	g, root := jail(t)
	outside := filepath.Join(filepath.Dir(root), "outside")
	link := filepath.Join(root, "swap")
	os.Symlink("../outside", link)
	var stop atomic.Bool
	swapped := make(chan int)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, filepath.Join(root, "d"), unix.RENAME_EXCHANGE)
		}
		swapped <- n
	}()
	inside, refused := 0, 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		a := g.call(abi.Msg{Op: abi.OpOpen, B: unix.O_RDONLY}, str("d/f"))
		switch {
		case a.Errno == 0:
			b := make([]byte, 100)
			n, _ := unix.Pread(a.fd, b, 0)
			if strings.Contains(string(b[:n]), secret) {
				t.Fatal("the guest read a file outside of its volume")
			}
			inside++
			g.send(abi.Msg{Op: abi.OpDrop, Handle: a.Handle}, nil)
		default:
			refused++
		}
		g.call(abi.Msg{Op: abi.OpMknod, C: 0o600}, str("d/new"))
		g.call(abi.Msg{Op: abi.OpRename}, str("d/new", "d/other"))
		g.call(abi.Msg{Op: abi.OpChmod, C: 0o600}, str("d/f"))
		g.call(abi.Msg{Op: abi.OpUnlink}, str("d/other"))
	}
	stop.Store(true)
	n := <-swapped
	t.Logf("%d swaps, %d opens inside, %d refused", n, inside, refused)
	if inside == 0 || refused == 0 {
		t.Skip("the race was not run: the machine is too slow or too fast")
	}
	if d, _ := os.ReadDir(outside); len(d) != 1 {
		t.Errorf("the outside has now %d entries", len(d))
	}
	if st, err := os.Stat(filepath.Join(outside, "f")); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("the file outside was changed: %v %v", st, err)
	}
}

// Special files of the host are refused, and without waiting.
func TestSpecialFiles(t *testing.T) {
	g, root := jail(t)
	unix.Mkfifo(filepath.Join(root, "fifo"), 0o666)
	for _, fl := range []uint64{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_CREAT | unix.O_WRONLY} {
		g.refused(unix.ENXIO, abi.Msg{Op: abi.OpOpen, B: fl, C: 0o600}, str("fifo"))
	}
	l, err := net.Listen("unix", filepath.Join(root, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g.refused(unix.ENXIO, abi.Msg{Op: abi.OpOpen, B: unix.O_RDWR}, str("sock"))
	dev := start(t, setup{volumes: []volume.Spec{{Host: "/dev", Guest: "/dev"}}})
	dev.refused(unix.EACCES, abi.Msg{Op: abi.OpOpen, B: unix.O_RDWR}, str("null"))
	dev.refused(unix.EACCES, abi.Msg{Op: abi.OpOpen, B: unix.O_RDONLY}, str("zero"))
	// For looking only they may be opened; what comes back is an empty file.
	a := dev.must(abi.Msg{Op: abi.OpOpen, B: unix.O_PATH}, str("zero"))
	if n, err := unix.Pread(a.fd, make([]byte, 8), 0); n != 0 || err != nil {
		t.Errorf("read %d bytes of a device, %v", n, err)
	}
}

func TestHandles(t *testing.T) {
	pub := policy.Publish{IP: loop, GuestPort: 80}
	g := start(t, setup{publish: []policy.Publish{pub}, volumes: []volume.Spec{{Host: t.TempDir(), Guest: "/d"}}, max: 20})
	f := g.open("f", unix.O_CREAT|unix.O_RDWR)
	l := g.must(abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: 1}, addr("0.0.0.0:80"))
	u := g.must(abi.Msg{Op: abi.OpUDP}, addr("0.0.0.0:0"))
	fileOps := []uint16{abi.OpFstat, abi.OpReadDir, abi.OpTruncate, abi.OpSync, abi.OpFalloc, abi.OpChmod, abi.OpChown, abi.OpTimes}
	for _, op := range fileOps {
		g.refused(unix.EINVAL, abi.Msg{Op: op, Handle: l.Handle, A: 1}, nil)
		g.refused(unix.EINVAL, abi.Msg{Op: op, Handle: u.Handle, A: 1}, nil)
		g.refused(unix.EBADF, abi.Msg{Op: op, Handle: 4711, A: 1}, nil)
		g.refused(unix.EBADF, abi.Msg{Op: op, Handle: ^uint32(0), A: 1}, nil)
	}
	for _, op := range []uint16{abi.OpFlock, abi.OpLock} {
		g.refused(unix.EINVAL, abi.Msg{Op: op, Handle: l.Handle, A: 1}, nil)
	}
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpSendTo, Handle: f.Handle}, append(addr("192.0.2.1:9"), 1))
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpSendTo, Handle: l.Handle}, append(addr("192.0.2.1:9"), 1))
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpShut, Handle: f.Handle}, nil)
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpShut, Handle: u.Handle, A: 3}, nil)
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpSockopt, Handle: f.Handle, A: unix.SOL_SOCKET, B: unix.SO_ERROR}, nil)
	for _, o := range [][2]uint64{
		{unix.SOL_SOCKET, unix.SO_BINDTODEVICE}, {unix.SOL_SOCKET, unix.SO_MARK}, {unix.SOL_SOCKET, unix.SO_ATTACH_FILTER},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT}, {unix.IPPROTO_IP, unix.IP_TRANSPARENT}, {unix.IPPROTO_TCP, unix.TCP_REPAIR},
		{unix.IPPROTO_TCP, unix.TCP_ULP}, {1 << 32, 1 << 32}, {unix.SOL_SOCKET + 1<<32, unix.SO_KEEPALIVE},
	} {
		g.refused(unix.ENOPROTOOPT, abi.Msg{Op: abi.OpSockopt, Handle: u.Handle, A: o[0], B: o[1], C: 1, D: 1}, nil)
	}
	for _, op := range []uint16{0, 8, 19, 41, 59, 63, 999, 65535} {
		g.refused(unix.ENOSYS, abi.Msg{Op: op}, nil)
	}
	// The table is full at its bound, and files are not created by a refused open.
	n := 0
	for ; n < 100; n++ {
		if a := g.call(abi.Msg{Op: abi.OpOpen, B: unix.O_CREAT, C: 0o600}, str("f")); a.Errno != 0 {
			if a.err() != unix.EMFILE {
				t.Error(a.err())
			}
			break
		}
	}
	if n != 17 {
		t.Errorf("%d more handles; want 17", n)
	}
	g.refused(unix.EMFILE, abi.Msg{Op: abi.OpOpen, B: unix.O_CREAT, C: 0o600}, str("new"))
	g.refused(unix.ENOENT, abi.Msg{Op: abi.OpStat}, str("new"))
	g.refused(unix.EMFILE, abi.Msg{Op: abi.OpUDP}, addr("0.0.0.0:0"))
	g.refused(unix.EMFILE, abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP}, addr("0.0.0.0:80"))
}

// Descriptors that a guest sends: only IP sockets are looked at, all are closed.
func TestDescriptorsSent(t *testing.T) {
	g, _ := jail(t)
	opt := abi.Msg{Op: abi.OpSockopt, A: unix.SOL_SOCKET, B: unix.SO_KEEPALIVE, C: 1, D: 1}
	g.refused(unix.EBADF, opt, nil)
	before := openFDs(t)
	var p [2]int
	unix.Pipe2(p[:], unix.O_CLOEXEC)
	f, _ := os.Open("/dev/null")
	raw, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	nl, _ := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)
	ep, _ := unix.EpollCreate1(0)
	for _, fd := range []int{p[0], p[1], int(f.Fd()), raw, nl, ep, g.fd} {
		g.refused(unix.ENOTSOCK, opt, nil, fd)
		if fd != raw {
			g.refused(unix.ENOTSOCK, abi.Msg{Op: abi.OpShut}, nil, fd)
		}
		g.must(abi.Msg{Op: abi.OpStat}, str("d"), fd) // not asked for: ignored
	}
	for _, fds := range [][]int{{p[0], p[1]}, {p[0], p[0], p[0]}, {p[0], p[0], p[0], p[0], p[0], p[0], p[0], p[0]}} {
		if a := g.call(opt, nil, fds...); a.Errno == 0 {
			t.Errorf("%d descriptors beside one message: accepted", len(fds))
		}
	}
	g.must(abi.Msg{Op: abi.OpShut}, nil, raw) // a unix stream may be shut down
	// So may packets to and from a listener. The control channel has no path.
	l, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	dialed, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	name := &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "l")}
	if err := errors.Join(unix.Bind(l, name), unix.Listen(l, 1), unix.Connect(dialed, name)); err != nil {
		t.Fatal(err)
	}
	accepted, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	g.refused(unix.ENOTSOCK, abi.Msg{Op: abi.OpShut, A: unix.SHUT_WR}, nil, l)
	for _, fd := range []int{dialed, accepted} {
		g.must(abi.Msg{Op: abi.OpShut, A: unix.SHUT_WR}, nil, fd)
		g.refused(unix.ENOTSOCK, opt, nil, fd)
	}
	for _, fd := range []int{l, dialed, accepted} {
		unix.Close(fd)
	}
	g.packet([]byte("no message"), p[0])
	g.must(abi.Msg{Op: abi.OpStat}, str("d"))
	for _, fd := range []int{p[0], p[1], raw, nl, ep} {
		unix.Close(fd)
	}
	f.Close()
	noMore(t, before)
}

// A guest that sends and never reads must not make the monitor grow, nor be
// served for ever.
func TestNeverReads(t *testing.T) {
	g, _ := jail(t)
	unix.SetNonblock(g.fd, true)
	p := make([]byte, abi.MsgSize)
	m := abi.Msg{ID: 1, Op: abi.OpStat}
	m.Put(p)
	p = append(p, str("d")...)
	sent, stalls := 0, 0
	for stalls < 50 && sent < 1_000_000 {
		err := unix.Sendmsg(g.fd, p, nil, nil, unix.MSG_DONTWAIT)
		if err == nil {
			sent++
			stalls = 0
			continue
		}
		stalls++
		time.Sleep(5 * time.Millisecond)
	}
	if sent >= 1_000_000 {
		t.Fatalf("%d requests were taken though no answer was read", sent)
	}
	if n := g.b.pending.Load(); n > abi.MaxPending {
		t.Errorf("%d requests under way", n)
	}
	if err := g.b.Signal(unix.SIGTERM); err != nil { // must not block
		t.Error(err)
	}
}

func TestFloods(t *testing.T) {
	g, _ := jail(t)
	a := g.open("d/f", unix.O_RDWR)
	b := g.open("d/f", unix.O_RDWR)
	g.must(abi.Msg{Op: abi.OpFlock, Handle: a.Handle, A: unix.LOCK_EX}, nil)
	before := runtime.NumGoroutine()
	busy := 0
	for range abi.MaxPending + 100 {
		g.send(abi.Msg{Op: abi.OpFlock, Handle: b.Handle, A: unix.LOCK_EX}, nil)
	}
	for range 100 { // those above the bound are refused at once
		if r := g.recv(); r.err() == unix.EAGAIN {
			busy++
		}
	}
	if busy != 100 {
		t.Errorf("%d requests refused; want 100", busy)
	}
	if n := runtime.NumGoroutine() - before; n > abi.MaxPending+10 {
		t.Errorf("%d goroutines", n)
	}
	g.close()
	<-g.b.Done() // all of them go with the guest
}

func TestGarbage(t *testing.T) {
	g, _ := jail(t)
	for n := 1; n < 200; n++ {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(i*7 + n)
		}
		if n >= abi.MsgSize {
			p[4], p[5] = byte(n), 0 // every op
		}
		g.packet(p)
	}
	big := make([]byte, abi.MaxMsg+100)
	m := abi.Msg{ID: 999999, Op: abi.OpStat}
	m.Put(big)
	g.packet(big)
	for {
		if a := g.recv(); a.ID == 999999 {
			if a.err() != unix.EMSGSIZE {
				t.Errorf("message too long: %v", a.err())
			}
			return
		}
	}
}

// A bug in a handler ends this pVM and nothing else.
func TestWall(t *testing.T) {
	failed := make(chan error, 2)
	old := ops[abi.OpStatfs]
	ops[abi.OpStatfs].do = func(*request) (reply, error) { panic("a bug") }
	defer func() { ops[abi.OpStatfs] = old }()
	g := start(t, setup{failed: func(err error) { failed <- err }})
	g.send(abi.Msg{Op: abi.OpStatfs}, nil)
	select {
	case err := <-failed:
		if !strings.Contains(err.Error(), "a bug") {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told")
	}
	<-g.b.Done()
}

func TestEvents(t *testing.T) {
	g, _ := jail(t)
	g.b.Signal(unix.SIGINT)
	if a := g.recv(); a.ID != 0 || a.Op != abi.EvSignal || a.A != uint64(unix.SIGINT) {
		t.Errorf("event %+v", a.Msg)
	}
	g.b.Resize(24, 80)
	if a := g.recv(); a.Op != abi.EvWinsize || a.A != 24 || a.B != 80 {
		t.Errorf("event %+v", a.Msg)
	}
	if err := g.b.Signal(65); err == nil {
		t.Error("signal 65: no error")
	}
	g.refused(unix.ENOTTY, abi.Msg{Op: abi.OpTermGet, A: 1}, nil)
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpTermGet, A: 3}, nil)
	g.refused(unix.ENOTTY, abi.Msg{Op: abi.OpTermSet, A: 1, B: unix.TCSETS}, make([]byte, 36))
	g.send(abi.Msg{Op: abi.OpKilled, A: 15}, nil)
	g.must(abi.Msg{Op: abi.OpStat}, str("d"))
	if g.b.KilledBy() != unix.SIGTERM {
		t.Errorf("killed by %v", g.b.KilledBy())
	}
}

// TestLastWord: what a guest says last is heard, though it ends without having read all.
func TestLastWord(t *testing.T) {
	g, _ := jail(t)
	g.b.Signal(unix.SIGINT)
	p := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 20000); n != 1 { // and does not read it
		t.Fatal("no event", err)
	}
	// The broker is busy when both come, the message and the end.
	g.b.snap.mu.Lock()
	g.send(abi.Msg{Op: abi.OpSnapshot}, nil)
	g.send(abi.Msg{Op: abi.OpKilled, A: 15}, nil)
	g.close()
	g.b.snap.mu.Unlock()
	<-g.b.Done()
	if g.b.KilledBy() != unix.SIGTERM {
		t.Errorf("killed by %v", g.b.KilledBy())
	}
}
