package volume

import (
	"golang.org/x/sys/unix"
)

// Mkdir makes a directory with exactly mode.
func (r *Root) Mkdir(path string, mode uint32) error {
	return r.inParent(path, unix.EEXIST, func(dir int, base string) error {
		mode &= modeBits
		if err := unix.Mkdirat(dir, base, mode); err != nil {
			return err
		}
		// The monitor's umask may have taken bits away.
		fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil // not readable: that is what mode says
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&modeBits != mode && st.Uid == r.ids.HostUID {
			unix.Fchmod(fd, mode)
		}
		return nil
	})
}

// Mknod makes a regular file or a FIFO; EPERM for all else.
func (r *Root) Mknod(path string, mode uint32) error {
	switch mode & unix.S_IFMT {
	case 0, unix.S_IFREG, unix.S_IFIFO:
	default:
		return unix.EPERM
	}
	return r.inParent(path, unix.EEXIST, func(dir int, base string) error {
		return unix.Mknodat(dir, base, mode&(unix.S_IFMT|modeBits), 0)
	})
}

// Unlink removes a file, or an empty directory if dir is set.
func (r *Root) Unlink(path string, dir bool) error {
	flags := 0
	if dir {
		flags = unix.AT_REMOVEDIR
	}
	return r.inParent(path, unix.EBUSY, func(parent int, base string) error {
		return unix.Unlinkat(parent, base, flags)
	})
}

// Symlink makes a symbolic link. Its target may be anything: nobody follows it
// out of the volume by way of the monitor.
func (r *Root) Symlink(target, path string) error {
	return r.inParent(path, unix.EEXIST, func(dir int, base string) error {
		return unix.Symlinkat(target, dir, base)
	})
}

// Readlink returns the target of the symbolic link at path.
func (r *Root) Readlink(path string) (string, error) {
	dir, base, err := r.parent(path)
	if err == unix.EBUSY {
		err = unix.EINVAL // the root is a directory
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Rename moves a file within the volume; flags are those of renameat2 but for
// whiteouts.
func (r *Root) Rename(from, to string, flags uint64) error {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return unix.EINVAL
	}
	return r.two(from, to, func(d1 int, b1 string, d2 int, b2 string) error {
		return unix.Renameat2(d1, b1, d2, b2, uint(flags))
	})
}

// Link makes a second name for a file; a symbolic link is not followed.
func (r *Root) Link(from, to string) error {
	return r.two(from, to, func(d1 int, b1 string, d2 int, b2 string) error {
		return unix.Linkat(d1, b1, d2, b2, 0)
	})
}

func (r *Root) two(from, to string, change func(d1 int, b1 string, d2 int, b2 string) error) error {
	d1, b1, err := r.parent(from)
	if err != nil {
		return err
	}
	defer unix.Close(d1)
	return r.inParent(to, unix.EBUSY, func(d2 int, b2 string) error { return change(d1, b1, d2, b2) })
}

// inParent calls change with path's directory open. isRoot is the error if path
// is the root itself.
func (r *Root) inParent(path string, isRoot error, change func(dir int, base string) error) error {
	dir, base, err := r.parent(path)
	if err == unix.EBUSY {
		err = isRoot
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := r.changeable(); err != nil {
		return err
	}
	return retry(func() error { return change(dir, base) })
}
