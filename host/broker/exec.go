package broker

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// An Exec is a child that a guest has prepared: an image, by name, and what it starts with.
type Exec struct {
	Name      string // "": the member's own image
	Args, Env []string
	Dir       string
	Path      string      // of the file that stands for it, as the guest has it
	DeathSig  unix.Signal // 0: none
	Group     int         // abi.ExecInherit …
	Join      uint32      // the group of abi.ExecJoin
	Files     map[uint32]ExecFile
	text      int // bytes so far
}

// An ExecFile is a descriptor of a child's. FD is -1 for one that is null.
type ExecFile struct {
	FD    int    // a stream socket; owned
	Pair  uint64 // id of the pair of which it is end 0; 0: it was the parent's
	Std   int    // standard stream of the parent that it is, -1: none
	Alone bool   // nobody else has FD

	listener *handle // of ExecListener; a reference
	About    []byte  // what its parent says of it; nil: it is none
}

// Name is the monitor's name for a listener.
func (f ExecFile) Name() uint32 { return f.listener.id }

// Close closes what the child would have had.
func (x *Exec) Close() {
	for _, f := range x.Files {
		if f.FD >= 0 {
			unix.Close(f.FD)
		}
		if f.listener != nil {
			f.listener.put()
		}
	}
	x.Files = nil
}

// An Executor is a Family in which images may be started.
type Executor interface {
	// MayExec says whether an image of that name is granted; if not: EACCES.
	MayExec(name string) error
	// Exec starts a child of this member. It takes the files of x that it uses. EAGAIN: the
	// family is full.
	Exec(ctx context.Context, x *Exec) (pid uint32, err error)
}

// maxExecs bounds the children that one pVM may have under preparation, and so their
// texts and descriptors.
const maxExecs = 8

func (r *request) executor() (Executor, error) {
	if e, ok := r.b.c.Family.(Executor); ok {
		return e, nil
	}
	return nil, unix.EACCES
}

func doExecNew(r *request) (reply, error) {
	e, err := r.executor()
	if err != nil {
		return reply{}, err
	}
	name, err := r.paths(1)
	if err != nil {
		return reply{}, err
	}
	if err := e.MayExec(name[0]); err != nil {
		return reply{}, err
	}
	b := r.b
	if len(b.execs) >= maxExecs {
		return reply{}, unix.EAGAIN
	}
	if b.execs == nil {
		b.execs = make(map[uint64]*Exec)
	}
	b.lastExec++
	b.execs[b.lastExec] = &Exec{Name: name[0], Files: make(map[uint32]ExecFile)}
	return reply{a: b.lastExec}, nil
}

// prepared is the child that A names.
func (r *request) prepared() (*Exec, error) {
	if x := r.b.execs[r.msg.A]; x != nil {
		return x, nil
	}
	return nil, unix.EBADF
}

func doExecText(r *request) (reply, error) {
	x, err := r.prepared()
	if err != nil {
		return reply{}, err
	}
	for rest := r.payload; len(rest) > 0; {
		s, more, ok := abi.TakeString(rest)
		if !ok || strings.IndexByte(s, 0) >= 0 {
			return reply{}, unix.EINVAL
		}
		rest = more
		if x.text += len(s) + 9; x.text > abi.ExecTextMax {
			return reply{}, unix.E2BIG
		}
		s = strings.Clone(s)
		switch {
		case r.msg.B == abi.ExecArgs:
			x.Args = append(x.Args, s)
		case r.msg.B == abi.ExecEnv:
			x.Env = append(x.Env, s)
		case r.msg.B == abi.ExecDir && x.Dir == "":
			x.Dir = s
		case r.msg.B == abi.ExecPath && x.Path == "":
			x.Path = s
		default:
			return reply{}, unix.EINVAL
		}
	}
	return reply{}, nil
}

func doExecFile(r *request) (reply, error) {
	x, err := r.prepared()
	if err != nil {
		return reply{}, err
	}
	n, err := small(r.msg.B)
	if _, taken := x.Files[n]; err != nil || taken || n >= 1<<16 || r.msg.D > 3 {
		return reply{}, unix.EINVAL
	}
	if len(x.Files) >= abi.ExecFilesMax {
		return reply{}, unix.EMFILE
	}
	f := ExecFile{FD: -1, Std: int(r.msg.D) - 1}
	switch r.msg.C {
	case abi.ExecNull:
		x.Files[n] = f
		return reply{}, nil
	case abi.ExecSame:
		if !isStream(r.fd) {
			return reply{}, unix.EINVAL
		}
		f.FD, r.fd = r.fd, -1
		x.Files[n] = f
		return reply{}, nil
	case abi.ExecListener:
		if n < 3 || !isListener(r.fd) || len(r.payload) > abi.ExecAboutMax {
			return reply{}, unix.EINVAL
		}
		h, err := r.b.table.get(r.msg.Handle, kindListener)
		if err != nil {
			return reply{}, err
		}
		f.FD, r.fd, f.listener = r.fd, -1, h
		f.About = append([]byte{}, r.payload...)
		x.Files[n] = f
		return reply{}, nil
	case abi.ExecLike:
		like, ok := x.Files[r.msg.Handle]
		if !ok || like.FD < 0 || like.listener != nil {
			return reply{}, unix.EINVAL
		}
		if f.FD, err = unix.FcntlInt(uintptr(like.FD), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return reply{}, err
		}
		f.Pair, f.Std, like.Alone = like.Pair, like.Std, false
		x.Files[r.msg.Handle], x.Files[n] = like, f
		return reply{}, nil
	case abi.ExecPipe:
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return reply{}, err
		}
		rep := give(fds[1])
		if f.Pair, err = r.newPair(); err != nil {
			unix.Close(fds[0])
			return rep, err
		}
		f.FD, f.Alone = fds[0], true
		x.Files[n] = f
		rep.a = f.Pair
		return rep, nil
	}
	return reply{}, unix.EINVAL
}

// isStream says whether fd is a connected stream socket. So it is no control channel.
func isStream(fd int) bool {
	if fd < 0 {
		return false
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && typ == unix.SOCK_STREAM && !isListener(fd)
}

func isListener(fd int) bool {
	if fd < 0 {
		return false
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && listens != 0
}

// TakeListeners enters the listeners of x, with which the guest starts, in its table under
// the names that its parent has for them. Nobody serves the guest yet.
func (b *Broker) TakeListeners(x *Exec) {
	t := &b.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for n, f := range x.Files {
		if f.listener == nil {
			continue
		}
		if t.m == nil {
			t.m = make(map[uint32]*handle)
			t.next = firstHandle
		}
		id := f.listener.id
		if t.m[id] == nil { // of one that is given twice there is one name
			f.listener.refs.Add(1)
			t.m[id] = f.listener
		}
		t.next = max(t.next, id+1)
		f.listener.put()
		f.listener = nil
		x.Files[n] = f
	}
}

// doExecStart takes the child; waitExecStart starts it, which takes milliseconds.
func doExecStart(r *request) (reply, error) {
	x, err := r.prepared()
	if err != nil {
		return reply{}, err
	}
	join, err := small(r.msg.D)
	if err != nil || r.msg.B > 64 || r.msg.C > abi.ExecJoin {
		return reply{}, unix.EINVAL
	}
	delete(r.b.execs, r.msg.A)
	x.DeathSig, x.Group, x.Join = unix.Signal(r.msg.B), int(r.msg.C), join
	r.exec = x
	return reply{}, errLater
}

func waitExecStart(r *request) (reply, error) {
	e, err := r.executor()
	if err != nil {
		return reply{}, err
	}
	if err := r.b.c.Family.Room(r.ctx); err != nil {
		return reply{}, err
	}
	r.told() // or there would be a child in a snapshot of which its parent knows nothing
	var pid uint32
	err = r.slow(func() (err error) {
		pid, err = e.Exec(r.ctx, r.exec)
		return err
	})
	return reply{a: uint64(pid)}, err
}

func doExecDrop(r *request) (reply, error) {
	if x := r.b.execs[r.msg.A]; x != nil {
		delete(r.b.execs, r.msg.A)
		x.Close()
	}
	return reply{}, errNoReply
}

// A Narrower is a Family in which a member can take rights from its descendants.
type Narrower interface {
	// Narrow takes rights from the descendant pid and all of its own. EPERM: it is none.
	Narrow(ctx context.Context, pid uint32, rights uint32) error
}
