package volume

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// IDs maps the one user that a pVM is to the host's user that the monitor runs
// as: files of the monitor's user look like the guest's own.
type IDs struct {
	HostUID, HostGID   uint32
	GuestUID, GuestGID uint32
}

const nobody = 65534

// uid is how the guest sees a host user. A stranger that has the guest's own
// number is shown as nobody, lest the app think that it owns the file.
func (m IDs) uid(host uint32) uint32 { return seen(host, m.HostUID, m.GuestUID) }
func (m IDs) gid(host uint32) uint32 { return seen(host, m.HostGID, m.GuestGID) }

func seen(id, host, guest uint32) uint32 {
	switch id {
	case host:
		return guest
	case guest:
		return nobody
	}
	return id
}

// A Root is one volume of one pVM: a host directory that was opened once. It
// must not be used after Close; callers see to that.
type Root struct {
	fd       int // O_PATH
	readOnly bool
	number   uint32
	ids      IDs
}

// resolve is how every path is walked: the kernel itself refuses to leave the
// root, whatever symbolic links do meanwhile, and to follow /proc's links.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS

// Open opens the host directory of s as volume number n.
func Open(s Spec, n uint32, ids IDs) (*Root, error) {
	fd, err := unix.Open(s.Host, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("volume %s: cannot open the host directory: %w", s, err)
	}
	r := &Root{fd: fd, readOnly: s.ReadOnly, number: n, ids: ids}
	probe, err := r.openat2(".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("volume %s: this kernel does not offer openat2 (Linux 5.6 or later is needed to keep a pVM beneath its volume): %w", s, err)
		}
		return nil, fmt.Errorf("volume %s: %w", s, err)
	}
	unix.Close(probe)
	return r, nil
}

// Close closes the directory.
func (r *Root) Close() {
	if r == nil {
		return
	}
	unix.Close(r.fd)
	r.fd = -1
}

// ReadOnly says whether every change is refused.
func (r *Root) ReadOnly() bool { return r.readOnly }

// CheckPath accepts the paths that a guest may name: relative to the root,
// without empty, "." and ".." components; "" and "." are the root itself.
func CheckPath(p string) error {
	if p == "" || p == "." {
		return nil
	}
	if len(p) > abi.MaxPath {
		return unix.ENAMETOOLONG
	}
	if strings.IndexByte(p, 0) >= 0 {
		return unix.EINVAL
	}
	for c := range strings.SplitSeq(p, "/") {
		if c == "" || c == "." || c == ".." {
			return unix.EINVAL
		}
		if len(c) > 255 {
			return unix.ENAMETOOLONG
		}
	}
	return nil
}

// maxRaces bounds how often a walk is repeated that lost a race with a rename.
const maxRaces = 64

func (r *Root) openat2(path string, flags int, mode uint32) (int, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Mode:    uint64(mode),
		Resolve: resolve,
	}
	for range maxRaces {
		fd, err := unix.Openat2(r.fd, path, &how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		return fd, err
	}
	return -1, unix.EBUSY
}

// path opens what is at path for looking only.
func (r *Root) path(path string, follow bool) (int, error) {
	if err := CheckPath(path); err != nil {
		return -1, err
	}
	flags := unix.O_PATH
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	return r.openat2(path, flags, 0)
}

// parent opens the directory that holds path's last component. The root itself
// has no parent here: EBUSY, as for a mount point.
func (r *Root) parent(path string) (dir int, base string, err error) {
	if err := CheckPath(path); err != nil {
		return -1, "", err
	}
	if path == "" || path == "." {
		return -1, "", unix.EBUSY
	}
	at := strings.LastIndexByte(path, '/')
	head := "."
	if at >= 0 {
		head = path[:at]
	}
	dir, err = r.openat2(head, unix.O_PATH|unix.O_DIRECTORY, 0)
	return dir, path[at+1:], err
}

// changeable returns EROFS on a read-only volume.
func (r *Root) changeable() error {
	if r.readOnly {
		return unix.EROFS
	}
	return nil
}

// retry calls f again while it is interrupted by a signal of the Go runtime.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
