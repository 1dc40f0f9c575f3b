package broker

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// Sockets are the unix sockets that members of a family know by name, and the channels to
// other families that the configuration grants.
//
// Behind a name is a socket of the host's that listens, so that a connection costs the
// monitor nothing, and forks share the queue. Nobody else finds it: the file that it was
// bound to is gone before it listens, and the monitor holds on to the inode.
type Sockets struct {
	Channels *Channels // nil: none is granted

	mu        sync.Mutex
	m         map[string]*socketName
	restoring chan struct{} // see Restoring; nil: they do not. Closed when all have asked
}

// Restoring says that members of a restored family ask for the listeners that they had, until
// it is false: those who had one in common get one.
func (s *Sockets) Restoring(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.restoring = make(chan struct{})
		return
	}
	if s.restoring != nil {
		close(s.restoring)
		s.restoring = nil
	}
	for _, n := range s.m {
		n.letGo()
	}
}

// letGo closes the listener that was kept.
func (n *socketName) letGo() {
	if n.kept >= 0 {
		unix.Close(n.kept)
		n.kept = -1
	}
}

// A socketName is a name that somebody listens at.
type socketName struct {
	at    int // the inode: O_PATH
	typ   int
	owner *Broker
	kept  int // in a family that is being restored: a descriptor of the listener, for the others that had it; else -1
	users int // handles that stand for it; of several members only after a restore
}

// maxSocketNames bounds the names of a family.
const maxSocketNames = 1024

// checkName says whether a name is one that a guest may use.
func checkName(name string) error {
	switch {
	case len(name) < 2 || len(name) > abi.NameMax:
		return unix.EINVAL
	case name[0] == 0:
		return nil
	case name[0] == '/' && strings.IndexByte(name, 0) < 0:
		return nil
	}
	return unix.EINVAL
}

// socketType checks the type of a socket of that name. Channels have connections only.
func socketType(v uint64, name string) (int, error) {
	switch {
	case v == unix.SOCK_STREAM, v == unix.SOCK_SEQPACKET, v == unix.SOCK_DGRAM && !strings.HasPrefix(name, abi.ChannelPrefix):
		return int(v), nil
	}
	return 0, unix.EPROTOTYPE
}

// socketRequest takes a name and a type of socket, which are to be listened or connected to.
func socketRequest(r *request) (name string, typ int, err error) {
	names, err := r.paths(1)
	if err == nil {
		err = checkName(names[0])
	}
	if err != nil {
		return "", 0, err
	}
	typ, err = socketType(r.msg.A, names[0])
	return names[0], typ, err
}

func doNameListen(r *request) (reply, error) {
	s := r.b.c.Sockets
	if s == nil {
		return reply{}, unix.EOPNOTSUPP
	}
	name, typ, err := socketRequest(r)
	if err != nil {
		return reply{}, err
	}
	if r.b.table.full() {
		return reply{}, unix.EMFILE
	}
	backlog := int(min(r.msg.B, 4096))
	var fd int
	var end func()
	if channel, ok := strings.CutPrefix(name, abi.ChannelPrefix); ok {
		fd, end, err = s.Channels.listen(channel, typ, backlog)
	} else {
		fd, end, err = s.listen(name, typ, backlog, r.b, r.msg.C == 1)
	}
	if err != nil {
		return reply{}, err
	}
	// The monitor keeps no descriptor: when the guests have closed theirs, dials are refused.
	h := &handle{kind: kindListener, fd: -1, end: end}
	if err := r.b.table.add(h); err != nil {
		unix.Close(fd)
		return reply{}, err
	}
	return reply{handle: h, give: fd, free: func() { unix.Close(fd) }}, nil
}

// listen makes a listener of a name. A member may give a name to another socket of its
// own: its file system says that the first has lost it.
func (s *Sockets) listen(name string, typ, backlog int, owner *Broker, again bool) (fd int, end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again = again && s.restoring != nil
	if old := s.m[name]; again && old != nil && old.kept >= 0 && old.typ == typ {
		if fd, err = unix.FcntlInt(uintptr(old.kept), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return -1, nil, err
		}
		old.users++
		return fd, func() { s.drop(name, old) }, nil
	}
	if old := s.m[name]; old != nil && old.owner != owner {
		return -1, nil, unix.EADDRINUSE
	}
	if len(s.m) >= maxSocketNames {
		return -1, nil, unix.ENFILE
	}
	fd, at, err := hiddenListener(typ, backlog)
	if err != nil {
		return -1, nil, err
	}
	if s.m == nil {
		s.m = make(map[string]*socketName)
	}
	n := &socketName{at: at, typ: typ, owner: owner, kept: -1, users: 1}
	if again {
		if n.kept, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			n.kept = -1
		}
	}
	if old := s.m[name]; old != nil {
		old.letGo()
	}
	s.m[name] = n
	return fd, func() { s.drop(name, n) }, nil
}

// drop is called when a handle that stands for n is gone.
func (s *Sockets) drop(name string, n *socketName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.users--; n.users > 0 {
		return
	}
	if s.m[name] == n {
		delete(s.m, name)
	}
	n.letGo()
	unix.Close(n.at)
}

// hiddenListener makes a socket that listens, or gets datagrams, and has no name in any file system, and the
// inode to connect to.
func hiddenListener(typ, backlog int) (fd, at int, err error) {
	dir, err := os.MkdirTemp("", "noyau-socket-") // mode 0700
	if err != nil {
		return -1, -1, err
	}
	defer os.Remove(dir)
	dirfd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, err
	}
	defer unix.Close(dirfd)
	if fd, err = unix.Socket(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, -1, err
	}
	const file = "s"
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: fdPath(dirfd) + "/" + file}); err != nil {
		unix.Close(fd)
		return -1, -1, err
	}
	at, err = unix.Openat(dirfd, file, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if e := unix.Unlinkat(dirfd, file, 0); err == nil {
		err = e
	}
	if err == nil && typ != unix.SOCK_DGRAM {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		unix.Close(at)
		return -1, -1, err
	}
	return fd, at, nil
}

// fdPath names what a descriptor stands for, for calls that take names only. It is
// shorter than a sockaddr_un has room for.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func doNameDial(r *request) (reply, error) {
	rep, err := nameDial(r)
	if err == unix.ECONNREFUSED && len(r.payload) <= maxWaitPayload && r.b.c.Sockets.restored() != nil {
		err = errLater // who listens there may not have said so yet
	}
	return rep, err
}

// waitNameDial dials when all members of a restored family have the listeners that they had.
func waitNameDial(r *request) (reply, error) {
	if c := r.b.c.Sockets.restored(); c != nil {
		select {
		case <-c:
		case <-r.ctx.Done():
			return reply{}, unix.EINTR
		}
	}
	return nameDial(r)
}

// restored is closed when a family that is being restored has been; nil: there is none.
func (s *Sockets) restored() <-chan struct{} {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restoring
}

func nameDial(r *request) (reply, error) {
	s := r.b.c.Sockets
	if s == nil {
		return reply{}, unix.ECONNREFUSED
	}
	name, typ, err := socketRequest(r)
	if err != nil {
		return reply{}, err
	}
	var fd int
	if channel, ok := strings.CutPrefix(name, abi.ChannelPrefix); ok {
		fd, err = s.Channels.dial(channel, typ)
	} else {
		fd, err = s.dial(name, typ)
	}
	if err != nil {
		return reply{}, err
	}
	return give(fd), nil
}

func (s *Sockets) dial(name string, typ int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.m[name]
	switch {
	case n == nil:
		return -1, unix.ECONNREFUSED
	case n.typ != typ:
		return -1, unix.EPROTOTYPE
	}
	return dialUnix(fdPath(n.at), typ)
}

// dialUnix connects, or says at once why not: EAGAIN if the listener's queue is full.
func dialUnix(path string, typ int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
