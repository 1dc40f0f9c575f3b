package volume

import (
	"sync"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A File is an open file or directory of a volume. Its descriptor is shared
// with the guest if it is a regular file. Callers see to it that no method runs
// after Close.
type File struct {
	root *Root
	fd   int
	dir  bool
	path bool // opened with O_PATH
	held held
}

const (
	oTmpfile = 0o20000000 // O_TMPFILE without the O_DIRECTORY that it includes
	// openFlags are the flags that a guest may pass; others are ignored, as
	// open(2) ignores what it does not know.
	openFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_APPEND |
		unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_SYNC | unix.O_DSYNC | unix.O_DIRECT | unix.O_PATH
	// hostFlags are added to each: never wait for a device or a FIFO, and never
	// take a terminal.
	hostFlags = unix.O_NONBLOCK | unix.O_NOCTTY
	// modeBits leaves out set-user-ID and set-group-ID: no guest makes a program
	// that runs with the monitor's rights.
	modeBits = 0o1777
)

// Open opens path as open(2) does. Devices, FIFOs and sockets of the host are
// refused.
func (r *Root) Open(path string, flags uint64, mode uint32) (*File, abi.Stat, error) {
	if err := CheckPath(path); err != nil {
		return nil, abi.Stat{}, err
	}
	if flags&oTmpfile != 0 {
		return nil, abi.Stat{}, unix.EOPNOTSUPP
	}
	fl := int(flags & openFlags)
	if fl&unix.O_PATH != 0 {
		fd, err := r.openat2(path, fl&(unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW), 0)
		if err != nil {
			return nil, abi.Stat{}, err
		}
		return r.opened(fd, true)
	}
	if fl&unix.O_ACCMODE == unix.O_ACCMODE {
		return nil, abi.Stat{}, unix.EINVAL
	}
	if fl&unix.O_CREAT != 0 && fl&unix.O_DIRECTORY != 0 {
		return nil, abi.Stat{}, unix.EINVAL
	}
	// Another process may create or remove the file between two steps.
	for range maxRaces {
		f, st, err := r.openOnce(path, fl, mode&modeBits)
		if err == errRaced {
			continue
		}
		return f, st, err
	}
	return nil, abi.Stat{}, unix.EBUSY
}

// errRaced asks for another try. It never leaves this file.
const errRaced = unix.ERESTART

func (r *Root) openOnce(path string, fl int, mode uint32) (*File, abi.Stat, error) {
	if fl&unix.O_CREAT != 0 && !r.readOnly {
		f, st, err := r.create(path, fl, mode)
		if err != unix.EEXIST || fl&unix.O_EXCL != 0 {
			return f, st, err
		}
	}
	// Look first: opening a device can already do something.
	probe, err := r.openat2(path, unix.O_PATH|fl&unix.O_NOFOLLOW, 0)
	if err == unix.ENOENT && fl&unix.O_CREAT != 0 {
		return r.createThrough(path, fl, mode)
	}
	if err != nil {
		return nil, abi.Stat{}, err
	}
	var st unix.Stat_t
	err = retry(func() error { return unix.Fstat(probe, &st) })
	unix.Close(probe)
	if err != nil {
		return nil, abi.Stat{}, err
	}
	if r.readOnly && fl&unix.O_CREAT != 0 && fl&unix.O_EXCL != 0 {
		return nil, abi.Stat{}, unix.EEXIST
	}
	writes := fl&unix.O_ACCMODE != unix.O_RDONLY || fl&unix.O_TRUNC != 0
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		if writes || fl&unix.O_CREAT != 0 {
			return nil, abi.Stat{}, unix.EISDIR
		}
	case unix.S_IFLNK:
		return nil, abi.Stat{}, unix.ELOOP
	case unix.S_IFIFO, unix.S_IFSOCK:
		return nil, abi.Stat{}, unix.ENXIO
	default:
		return nil, abi.Stat{}, unix.EACCES
	}
	if writes && r.readOnly {
		return nil, abi.Stat{}, unix.EROFS
	}
	fd, err := r.openat2(path, fl&^(unix.O_CREAT|unix.O_EXCL)|hostFlags, 0)
	if err == unix.ENOENT && fl&unix.O_CREAT != 0 {
		return nil, abi.Stat{}, errRaced
	}
	if err != nil {
		return nil, abi.Stat{}, err
	}
	return r.opened(fd, false)
}

// create makes a new file with exactly mode: the guest applies its own umask,
// the monitor's has no say. EEXIST if something is there.
func (r *Root) create(path string, fl int, mode uint32) (*File, abi.Stat, error) {
	fd, err := r.openat2(path, fl|unix.O_EXCL|hostFlags, mode)
	if err != nil {
		return nil, abi.Stat{}, err
	}
	f, st, err := r.opened(fd, false)
	if err == nil && st.Mode&modeBits != mode {
		if unix.Fchmod(fd, mode) == nil {
			st.Mode = st.Mode&^modeBits | mode
		}
	}
	return f, st, err
}

// createThrough creates the file that a dangling symbolic link at path points to.
func (r *Root) createThrough(path string, fl int, mode uint32) (*File, abi.Stat, error) {
	if r.readOnly {
		return nil, abi.Stat{}, unix.EROFS
	}
	fd, err := r.openat2(path, fl|hostFlags, mode)
	if err != nil {
		return nil, abi.Stat{}, err
	}
	return r.opened(fd, false)
}

// opened wraps fd after looking at what it really is. It owns fd.
func (r *Root) opened(fd int, path bool) (*File, abi.Stat, error) {
	f := &File{root: r, fd: fd, path: path}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		unix.Close(fd)
		return nil, abi.Stat{}, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		f.dir = true
	default:
		if !path {
			unix.Close(fd)
			return nil, abi.Stat{}, unix.EACCES
		}
	}
	return f, r.stat(&st), nil
}

// Close closes the monitor's descriptor. Locks go when the guest's is closed too.
func (f *File) Close() {
	unix.Close(f.fd)
	f.fd = -1
}

// Guest returns the descriptor to hand to the guest, which stays f's. A
// directory's is never given away, nor one that can only name something: with
// them a guest that had got out of its filter could walk up from the volume.
// It gets an empty file in its place; all it does goes through messages.
func (f *File) Guest() (int, error) {
	if !f.dir && !f.path {
		return f.fd, nil
	}
	return placeholder()
}

var placeholder = sync.OnceValues(func() (int, error) {
	fd, err := unix.MemfdCreate("noyau-directory", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
})
