package broker

import (
	"context"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// fakeFamily is a Family in which "helper" may be started.
type fakeFamily struct {
	mu      sync.Mutex
	started []*Exec
	take    func(*Exec) // called before it is started
}

func (*fakeFamily) Fork(bool, bool) (*Birth, error) { return nil, unix.EAGAIN }
func (*fakeFamily) Unborn(uint32)                   {}
func (*fakeFamily) Room(context.Context) error      { return nil }
func (*fakeFamily) Wait(context.Context, uint32, bool, bool) (uint32, uint32, error) {
	return 0, 0, unix.ECHILD
}
func (*fakeFamily) Signal(context.Context, uint32, unix.Signal) error { return unix.ESRCH }

func (*fakeFamily) MayExec(name string) error {
	if name != "helper" {
		return unix.EACCES
	}
	return nil
}

func (f *fakeFamily) Exec(_ context.Context, x *Exec) (uint32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started = append(f.started, x)
	if f.take != nil {
		f.take(x)
	}
	return 7, nil
}

// TestExecRequests: what a hostile guest may say of a child that it prepares.
func TestExecRequests(t *testing.T) {
	f := &fakeFamily{}
	g := start(t, setup{family: f})
	g.closes = true
	for _, name := range []string{"", "other", "helper\x00", "/bin/helper", strings.Repeat("x", 60000)} {
		g.refused(unix.EACCES, abi.Msg{Op: abi.OpExecNew}, str(name))
	}
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpExecNew}, nil)
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpExecNew}, str("helper", "helper"))
	g.refused(unix.ESRCH, abi.Msg{Op: abi.OpGroup}, nil) // this family has none
	g.refused(unix.ESRCH, abi.Msg{Op: abi.OpKill, B: 9, C: abi.KillGroup}, nil)
	g.refused(unix.ECHILD, abi.Msg{Op: abi.OpWait, B: abi.WaitGroup}, nil)
	for _, op := range []uint16{abi.OpExecText, abi.OpExecFile, abi.OpExecStart} {
		g.refused(unix.EBADF, abi.Msg{Op: op, A: 1}, nil)
	}
	before := openFDs(t)
	n := g.must(abi.Msg{Op: abi.OpExecNew}, str("helper")).A
	text := func(kind uint64) abi.Msg { return abi.Msg{Op: abi.OpExecText, A: n, B: kind} }
	g.refused(unix.EINVAL, text(abi.ExecArgs), str("a\x00b"))
	g.refused(unix.EINVAL, text(abi.ExecArgs), []byte{9, 0, 'x'})
	g.refused(unix.EINVAL, text(99), str("x"))
	g.must(text(abi.ExecDir), str("/"))
	g.refused(unix.EINVAL, text(abi.ExecDir), str("/again"))
	g.refused(unix.EINVAL, text(abi.ExecPath), str("/a", "/b"))
	for range 2 {
		g.must(text(abi.ExecEnv), str(strings.Repeat("v", 50_000)))
	}
	g.refused(unix.E2BIG, text(abi.ExecEnv), str(strings.Repeat("v", 50_000)))

	file := func(fd, kind, std uint64) abi.Msg { return abi.Msg{Op: abi.OpExecFile, A: n, B: fd, C: kind, D: std} }
	g.refused(unix.EINVAL, file(0, 99, 0), nil)
	g.refused(unix.EINVAL, file(0, abi.ExecNull, 4), nil)
	g.refused(unix.EINVAL, file(1<<32, abi.ExecNull, 0), nil)
	g.refused(unix.EINVAL, file(0, abi.ExecSame, 0), nil) // nothing beside it
	// Nothing but a connected stream may be given: no control channel, file, listener, poller.
	seq, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	listener, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	unix.Listen(listener, 1)
	null, _ := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	ep, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	for _, fd := range []int{seq[0], listener, null, ep} {
		g.refused(unix.EINVAL, file(0, abi.ExecSame, 1), nil, fd)
	}
	for _, fd := range []int{seq[0], seq[1], listener, null, ep} {
		unix.Close(fd)
	}
	st, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	g.must(file(0, abi.ExecSame, 1), nil, st[0])
	g.refused(unix.EINVAL, file(0, abi.ExecNull, 0), nil) // twice
	unix.Close(st[0])
	unix.Close(st[1])
	like := func(fd uint64, of uint32) abi.Msg {
		return abi.Msg{Op: abi.OpExecFile, A: n, B: fd, C: abi.ExecLike, Handle: of}
	}
	g.refused(unix.EINVAL, like(1, 7), nil) // there is none
	g.refused(unix.EINVAL, like(1, 1), nil) // itself
	g.must(file(3, abi.ExecNull, 0), nil)
	g.refused(unix.EINVAL, like(1, 3), nil) // nothing
	a := g.must(file(1, abi.ExecPipe, 0), nil)
	unix.Close(a.fd)
	g.must(like(2, 1), nil)
	g.refused(unix.EINVAL, like(2, 1), nil) // twice
	for fd := uint64(4); fd < abi.ExecFilesMax; fd++ {
		if a := g.must(file(fd, abi.ExecPipe, 0), nil); a.fd >= 0 {
			unix.Close(a.fd)
		} else {
			t.Fatal(a)
		}
	}
	g.refused(unix.EMFILE, file(500, abi.ExecPipe, 0), nil)

	// The number that may be under preparation is bounded; what is dropped is given back.
	var all []uint64
	for range maxExecs - 1 {
		all = append(all, g.must(abi.Msg{Op: abi.OpExecNew}, str("helper")).A)
	}
	g.refused(unix.EAGAIN, abi.Msg{Op: abi.OpExecNew}, str("helper"))
	for _, a := range all {
		g.send(abi.Msg{Op: abi.OpExecDrop, A: a}, nil)
	}
	g.refused(unix.EINVAL, abi.Msg{Op: abi.OpExecStart, A: n, B: 65}, nil)
	if a := g.must(abi.Msg{Op: abi.OpExecStart, A: n, B: 15}, nil); a.A != 7 {
		t.Errorf("pid %d", a.A)
	}
	g.refused(unix.EBADF, abi.Msg{Op: abi.OpExecStart, A: n}, nil)
	f.mu.Lock()
	if x := f.started[0]; len(f.started) != 1 || x.Name != "helper" || x.DeathSig != 15 || x.Dir != "/" || len(x.Env) != 2 {
		t.Errorf("%+v", x)
	}
	f.mu.Unlock()
	// What nobody took is closed.
	noMore(t, before)
}

// TestExecAlone: a pVM that may start nothing.
func TestExecAlone(t *testing.T) {
	g := start(t, setup{})
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpExecNew}, str("helper"))
	g.refused(unix.EACCES, abi.Msg{Op: abi.OpExecNew}, str(""))
}

// TestExecListeners: a listener is given with the descriptor that listens, by the name that
// the monitor has for it.
func TestExecListeners(t *testing.T) {
	f := &fakeFamily{}
	g := start(t, setup{family: f, sockets: &Sockets{}})
	g.closes = true
	l := g.must(abi.Msg{Op: abi.OpNameListen, A: unix.SOCK_STREAM, B: 5}, str("/l"))
	defer unix.Close(l.fd)
	n := g.must(abi.Msg{Op: abi.OpExecNew}, str("helper")).A
	file := func(fd uint64, handle uint32) abi.Msg {
		return abi.Msg{Op: abi.OpExecFile, A: n, B: fd, C: abi.ExecListener, Handle: handle}
	}
	g.refused(unix.EINVAL, file(3, l.Handle), nil)                                    // nothing beside it
	g.refused(unix.EINVAL, file(2, l.Handle), nil, l.fd)                              // a standard stream
	g.refused(unix.EBADF, file(3, l.Handle+1), nil, l.fd)                             // no such name
	g.refused(unix.EINVAL, file(3, l.Handle), make([]byte, abi.ExecAboutMax+1), l.fd) // too much about it
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	g.refused(unix.EINVAL, file(3, l.Handle), nil, pair[0]) // it does not listen
	g.must(file(3, l.Handle), []byte("about it"), l.fd)
	g.refused(unix.EINVAL, file(3, l.Handle), nil, l.fd) // taken
	g.must(file(4, l.Handle), nil, l.fd)
	child := newBroker(Config{})
	f.mu.Lock()
	f.take = func(x *Exec) {
		if string(x.Files[3].About) != "about it" || x.Files[3].Name() != l.Handle {
			t.Errorf("%+v", x.Files[3])
		}
		child.TakeListeners(x)
	}
	f.mu.Unlock()
	g.must(abi.Msg{Op: abi.OpExecStart, A: n}, nil)
	// In the child it has the same name, once.
	if h, err := child.table.get(l.Handle, kindListener); err != nil {
		t.Error(err)
	} else {
		h.put()
	}
	if child.table.len() != 1 {
		t.Error(child.table.len(), "handles")
	}
}
