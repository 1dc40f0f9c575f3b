package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
	"noyau.dev/host/volume"
)

// An Exec is an image that members of the family may start (os/exec). It runs as a
// sibling, with the volumes, ports, network, limits and isolation of the family.
type Exec struct {
	// Name is what the app calls it: an absolute path, or the name of a file in /bin.
	// "self" with no Image is the app's own image, which is where os.Executable says.
	Name  string
	Image string // path of the image file
}

// ExecSelf is the Name of a pVM's own image.
const ExecSelf = "self"

func (x *Exec) self() bool { return x.Name == ExecSelf && x.Image == "" }

// guestPath is where the app finds it; "" for itself.
func (x *Exec) guestPath() string {
	switch {
	case x.self():
		return ""
	case strings.HasPrefix(x.Name, "/"):
		return x.Name
	}
	return "/bin/" + x.Name
}

// check says what is wrong with an Exec.
func (x *Exec) check() error {
	if x.self() {
		return nil
	}
	p := x.guestPath()
	if x.Name == "" || path.Clean(p) != p || p == "/" || strings.Count(p, "/") != 2 && !strings.HasPrefix(x.Name, "/") || strings.IndexByte(p, 0) >= 0 || len(p) > abi.MaxPath {
		return fmt.Errorf("exec %q: want the name of a program, or an absolute path without . and ..", x.Name)
	}
	if x.Image == "" {
		return fmt.Errorf("exec %s: no image given for it", x.Name)
	}
	return nil
}

// An executable is an image that is open, so that it stays the same.
type executable struct {
	name  string
	image string // path on the host, for messages
	file  *os.File
}

func (e *executable) close() {
	if e.file != nil {
		e.file.Close()
	}
}

// openExecs opens the images that may be started. self is that of the pVM.
func openExecs(c *Config, self *os.File) (map[string]*executable, error) {
	all := make(map[string]*executable)
	fail := func(err error) (map[string]*executable, error) {
		for _, e := range all {
			e.close()
		}
		return nil, err
	}
	for i := range c.Exec {
		x := &c.Exec[i]
		if err := x.check(); err != nil {
			return fail(err)
		}
		name := x.guestPath()
		if all[name] != nil {
			return fail(fmt.Errorf("exec %s is given twice", x.Name))
		}
		var err error
		e := &executable{name: name, image: x.Image}
		if x.self() {
			e.image = c.Image
			e.file, err = duplicate(self)
		} else {
			e.file, err = os.Open(x.Image)
		}
		if err != nil {
			return fail(fmt.Errorf("exec %s: %w", x.Name, err))
		}
		all[name] = e
	}
	return all, nil
}

// executable is what name means for m: its own image, or one of the family's.
func (m *member) executable(name string) *executable {
	x := m.f.execs[name]
	if name == "" && x != nil && m.image != nil {
		return m.image // one that was started by another name
	}
	return x
}

// MayExec implements broker.Executor.
func (m *member) MayExec(name string) error {
	if m.executable(name) == nil {
		return unix.EACCES
	}
	return nil
}

// Exec implements broker.Executor.
func (m *member) Exec(ctx context.Context, x *broker.Exec) (uint32, error) {
	f := m.f
	image := m.executable(x.Name)
	if image == nil {
		return 0, unix.EACCES
	}
	if err := m.Room(ctx); err != nil {
		return 0, err
	}
	// From here on it can be signalled with its group: who does waits until it is known.
	c := &member{f: f, parent: m, ppid: m.pid, image: image, started: true, deathSig: x.DeathSig, changed: make(chan struct{}), known: make(chan struct{})}
	defer close(c.known)
	if err := f.newPID(c); err != nil {
		return 0, err
	}
	f.mu.Lock()
	err := c.startGroup(m, x)
	f.mu.Unlock()
	if err != nil {
		c.gone()
		f.release()
		return 0, err
	}
	proc, err := c.launch(m, x)
	if err != nil {
		c.gone()
		f.release()
		return 0, execErrno(err)
	}
	f.mu.Lock()
	c.proc = proc
	if m.children == nil {
		m.children = make(map[uint32]*child)
	}
	m.children[c.pid] = &child{}
	c.broker.Narrow(m.broker.Narrowed()) // nobody serves it yet
	killed, orphan := f.killed, f.living[m.pid] != m
	f.mu.Unlock()
	if killed {
		proc.Kill()
	}
	if orphan {
		c.orphaned()
	}
	go c.broker.Serve()
	go c.see(m)
	return c.pid, nil
}

// execErrno is what a program is told of a launch that failed: the error of the host's
// that is the reason, if it makes sense to the program.
func execErrno(err error) error {
	var e unix.Errno
	errors.As(err, &e)
	switch e {
	case unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.E2BIG, unix.EINVAL:
		return e
	}
	return unix.EIO
}

// launch starts the image of c, a child of parent's.
func (m *member) launch(parent *member, x *broker.Exec) (proc Process, err error) {
	f := m.f
	c := f.conf
	c.Image, c.ImageFile = m.image.image, m.image.file
	c.Name = fmt.Sprintf("%s-%d", f.conf.Name, m.pid)
	c.Arg0, c.Args = "", nil
	if len(x.Args) > 0 {
		c.Arg0, c.Args = x.Args[0], x.Args[1:]
	}
	c.Env = x.Env
	if path.IsAbs(x.Dir) {
		c.Dir = x.Dir
	}
	c.Timing = nil
	c.Trace = false // to where?
	c.Terminal = Terminal{Rows: c.Terminal.Rows, Cols: c.Terminal.Cols}
	for n, t := range []**os.File{&c.Terminal.In, &c.Terminal.Out, &c.Terminal.Err} {
		if s := x.Files[uint32(n)].Std; s >= 0 && s < 3 {
			m.terminal[n] = parent.terminal[s]
			*t = m.terminal[n]
		}
	}
	l := launch{roots: f.shape.Roots, ports: f.shape.Ports, volumes: f.volumes, child: x, pid: m.pid, ppid: m.ppid}
	defer l.closeGuests()
	if err := l.prepare(&c); err != nil {
		l.fail()
		return nil, err
	}
	m.boot, m.given = l.boot.head, l.given
	b, err := broker.New(m.config(l.control))
	if err != nil {
		l.fail()
		return nil, err
	}
	f.mu.Lock()
	m.broker = b
	f.mu.Unlock()
	if proc, err = f.backend.Start(c.spec(&l)); err != nil {
		l.fail()
		return nil, err
	}
	m.broker.TakeListeners(x)
	return proc, nil
}

// childStreams gives a child the descriptors that its parent has prepared.
func (l *launch) childStreams() error {
	for n := range uint32(3) {
		if l.child.Files[n].Alone {
			l.boot.add(abi.RecExecFile, abi.Append32(abi.Append32(nil, n), n))
		}
		if err := l.childFile(n); err != nil {
			return err
		}
	}
	return nil
}

// childFile gives the next handle: the child's descriptor n.
func (l *launch) childFile(n uint32) error {
	if f, ok := l.child.Files[n]; ok && f.FD >= 0 {
		if f.Pair != 0 {
			if l.given == nil {
				l.given = make(map[uint32]end)
			}
			l.given[uint32(len(l.handles))] = end{f.Pair, 0}
		}
		l.give(os.NewFile(uintptr(f.FD), fmt.Sprintf("descriptor %d", n)))
		f.FD = -1 // taken
		l.child.Files[n] = f
		return nil
	}
	return l.giveNull()
}

// giveNull gives a descriptor of which nothing can be read, and which takes all.
func (l *launch) giveNull() error {
	ours, guests, err := pair(unix.SOCK_STREAM, "null")
	if err != nil {
		return err
	}
	l.give(guests)
	unix.Shutdown(int(fdOf(ours)), unix.SHUT_WR)
	go drain(nil, ours) // ends when the child's side is closed
	return nil
}

// childFiles gives the descriptors beyond the standard streams.
func (l *launch) childFiles(boot *boot) error {
	for n := uint32(3); n < abi.ExecFilesMax; n++ {
		if _, ok := l.child.Files[n]; !ok {
			continue
		}
		kind, rec := uint16(abi.RecExecFile), abi.Append32(abi.Append32(nil, n), uint32(len(l.handles)))
		if f := l.child.Files[n]; f.About != nil {
			kind, rec = abi.RecExecListener, append(abi.Append32(rec, f.Name()), f.About...)
		}
		boot.add(kind, rec)
		if err := l.childFile(n); err != nil {
			return err
		}
	}
	return nil
}

// images are the files that stand for images, in a boot block.
func (b *boot) images(list []Exec) {
	for i := range list {
		p := list[i].guestPath()
		b.add(abi.RecExec, abi.AppendString(abi.AppendString(nil, p), p))
	}
}

// orphaned tells m that its parent has ended.
func (m *member) orphaned() {
	m.broker.Orphan()
	switch m.deathSig {
	case 0:
	case unix.SIGKILL:
		m.proc.Kill()
	default:
		m.broker.Signal(m.deathSig)
	}
}

// closeShared closes what the members of a family have in common.
func closeShared(roots []*volume.Root, ports *broker.Ports, execs map[string]*executable) {
	ports.Close()
	for _, r := range roots {
		r.Close()
	}
	for _, e := range execs {
		e.close()
	}
}

// Narrow implements broker.Narrower.
func (m *member) Narrow(ctx context.Context, pid uint32, rights uint32) error {
	f := m.f
	f.mu.Lock()
	to := f.living[pid]
	var known chan struct{}
	if to != nil && !to.ahead {
		known = to.known
	}
	f.mu.Unlock()
	if to == nil {
		return unix.ESRCH
	}
	if known != nil {
		select {
		case <-known:
		case <-ctx.Done():
			return unix.EINTR
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !to.descends(m) {
		return unix.EPERM
	}
	// Those that are being born too: a child may run already of whose process nothing is
	// known yet. One without a broker has its rights of its parent, later.
	for _, d := range f.living {
		if (d == to || d.descends(to)) && d.broker != nil {
			d.broker.Narrow(rights)
		}
	}
	if rights&abi.NarrowSignal != 0 {
		f.unlink(true, func(signalLink) bool { return true })
	}
	return nil
}

// descends says whether m is a child of a, or of a child of it, and so on.
func (m *member) descends(a *member) bool {
	for p := m.parent; p != nil; p = p.parent {
		if p == a {
			return true
		}
	}
	return false
}
