package broker

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Channels are connections between families, by name. A name has to be granted in the
// configuration of both: to listen in that of one, to dial in that of the other. They meet
// in a directory that is the user's alone.
type Channels struct {
	Dir    string // made when it is first needed; mode 0700
	Listen map[string]bool
	Dial   map[string]bool
}

// ErrChannelDir says that the directory of channels cannot be trusted.
var ErrChannelDir = errors.New("the directory of channels must be a directory of this user with mode 0700")

// CheckChannel says whether a name is one for a channel: letters, digits, and - _ . not at
// the beginning; 64 at most.
func CheckChannel(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return false
		}
	}
	return name != "" && len(name) <= 64
}

// dir opens the directory.
func (c *Channels) dir() (int, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return -1, err
	}
	fd, err := unix.Open(c.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		unix.Close(fd)
		return -1, ErrChannelDir
	}
	return fd, nil
}

// listen makes the listener of a channel. A lock says whether somebody has it: what is
// left of a monitor that was killed is not in the way.
func (c *Channels) listen(name string, typ, backlog int) (fd int, end func(), err error) {
	if c == nil || !c.Listen[name] || !CheckChannel(name) {
		return -1, nil, unix.EACCES
	}
	dir, err := c.dir()
	if err != nil {
		return -1, nil, err
	}
	lock, err := unix.Openat(dir, name+".lock", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		unix.Close(dir)
		return -1, nil, err
	}
	fail := func(err error) (int, func(), error) {
		unix.Close(lock)
		unix.Close(dir)
		return -1, nil, err
	}
	if err := unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			err = unix.EADDRINUSE
		}
		return fail(err)
	}
	file := name + ".sock"
	unix.Unlinkat(dir, file, 0)
	if fd, err = unix.Socket(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return fail(err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: fdPath(dir) + "/" + file}); err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		unix.Unlinkat(dir, file, 0)
		return fail(err)
	}
	return fd, func() {
		unix.Unlinkat(dir, file, 0)
		unix.Close(lock)
		unix.Close(dir)
	}, nil
}

// dial connects to a channel that somebody of the same user listens at.
func (c *Channels) dial(name string, typ int) (int, error) {
	if c == nil || !c.Dial[name] || !CheckChannel(name) {
		return -1, unix.EACCES
	}
	dir, err := c.dir()
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	fd, err := dialUnix(fdPath(dir)+"/"+name+".sock", typ)
	if err == unix.ENOENT {
		err = unix.ECONNREFUSED
	}
	if err != nil {
		return -1, err
	}
	// Who listens is the kernel's word, from the time of its listen.
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(cred.Uid) != os.Geteuid() {
		unix.Close(fd)
		return -1, unix.EACCES
	}
	return fd, nil
}
