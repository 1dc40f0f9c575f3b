package volume

import (
	"strconv"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// stat is st as the guest sees it.
func (r *Root) stat(st *unix.Stat_t) abi.Stat {
	return abi.Stat{
		Dev: uint64(r.number) + 1, Ino: st.Ino, Nlink: uint64(st.Nlink),
		Mode: st.Mode, UID: r.ids.uid(st.Uid), GID: r.ids.gid(st.Gid),
		Size: st.Size, Blksize: int64(st.Blksize), Blocks: st.Blocks,
		Atime: st.Atim.Nano(), Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}
}

func (r *Root) fstat(fd int) (abi.Stat, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return abi.Stat{}, err
	}
	return r.stat(&st), nil
}

// Stat describes what is at path.
func (r *Root) Stat(path string, follow bool) (abi.Stat, error) {
	fd, err := r.path(path, follow)
	if err != nil {
		return abi.Stat{}, err
	}
	defer unix.Close(fd)
	return r.fstat(fd)
}

// Stat describes f.
func (f *File) Stat() (abi.Stat, error) { return f.root.fstat(f.fd) }

// Access answers access(2) with mode R_OK|W_OK|X_OK for the monitor's user.
func (r *Root) Access(path string, mode uint32) error {
	if mode&^7 != 0 {
		return unix.EINVAL
	}
	fd, err := r.path(path, true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if mode&unix.W_OK != 0 && r.readOnly {
		return unix.EROFS
	}
	return retry(func() error { return unix.Faccessat2(fd, "", mode, unix.AT_EMPTY_PATH|unix.AT_EACCESS) })
}

// at applies change to what is at path, on a read-write volume.
func (r *Root) at(path string, follow bool, change func(fd int) error) error {
	fd, err := r.path(path, follow)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := r.changeable(); err != nil {
		return err
	}
	return change(fd)
}

// checkMode refuses set-user-ID and set-group-ID, see modeBits.
func checkMode(mode uint32) error {
	if mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		return unix.EPERM
	}
	return nil
}

// Chmod changes permission bits, through a symbolic link.
func (r *Root) Chmod(path string, mode uint32) error {
	return r.at(path, true, func(fd int) error {
		if err := checkMode(mode); err != nil {
			return err
		}
		// fchmod refuses an O_PATH descriptor, and fchmodat2 is young.
		err := retry(func() error { return fchmodat2(fd, mode&modeBits) })
		if err == unix.ENOSYS || err == unix.EOPNOTSUPP {
			err = retry(func() error { return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode&modeBits) })
		}
		return err
	})
}

// Chmod changes f's permission bits.
func (f *File) Chmod(mode uint32) error {
	if err := f.root.changeable(); err != nil {
		return err
	}
	if err := checkMode(mode); err != nil {
		return err
	}
	return retry(func() error { return unix.Fchmod(f.fd, mode&modeBits) })
}

// Chown changes nothing really: a guest is one user. It may "give" a file to
// itself and leave owners as they are (0xffffffff or what Stat shows).
func (r *Root) Chown(path string, uid, gid uint32, follow bool) error {
	return r.at(path, follow, func(fd int) error { return r.chown(fd, uid, gid) })
}

// Chown is Root.Chown for f.
func (f *File) Chown(uid, gid uint32) error {
	if f.path {
		return unix.EBADF
	}
	if err := f.root.changeable(); err != nil {
		return err
	}
	return f.root.chown(f.fd, uid, gid)
}

func (r *Root) chown(fd int, uid, gid uint32) error {
	st, err := r.fstat(fd)
	if err != nil {
		return err
	}
	u, ok := owner(uid, st.UID, r.ids.GuestUID, r.ids.HostUID)
	if !ok {
		return unix.EPERM
	}
	g, ok := owner(gid, st.GID, r.ids.GuestGID, r.ids.HostGID)
	if !ok {
		return unix.EPERM
	}
	if u == -1 && g == -1 {
		return nil
	}
	return retry(func() error { return unix.Fchownat(fd, "", u, g, unix.AT_EMPTY_PATH) })
}

func owner(want, is, guest, host uint32) (id int, ok bool) {
	switch want {
	case ^uint32(0), is:
		return -1, true
	case guest:
		return int(host), true
	}
	return 0, false
}

// Times sets access and modification time, in nanoseconds since the Unix epoch
// or abi.TimeOmit.
func (r *Root) Times(path string, follow bool, atime, mtime uint64) error {
	return r.at(path, follow, func(fd int) error { return times(fd, atime, mtime) })
}

// Times is Root.Times for f.
func (f *File) Times(atime, mtime uint64) error {
	if f.path {
		return unix.EBADF
	}
	if err := f.root.changeable(); err != nil {
		return err
	}
	return times(f.fd, atime, mtime)
}

func times(fd int, atime, mtime uint64) error {
	ts := []unix.Timespec{timespec(atime), timespec(mtime)}
	return retry(func() error { return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH) })
}

func timespec(ns uint64) unix.Timespec {
	if ns == abi.TimeOmit {
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	sec, rest := int64(ns)/1e9, int64(ns)%1e9
	if rest < 0 {
		sec, rest = sec-1, rest+1e9
	}
	return unix.Timespec{Sec: sec, Nsec: rest}
}

// Statfs describes the file system behind the volume.
func (r *Root) Statfs() (abi.Statfs, error) {
	var s unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(r.fd, &s) }); err != nil {
		return abi.Statfs{}, err
	}
	return abi.Statfs{
		Type: uint64(s.Type), Bsize: uint64(s.Bsize), Blocks: s.Blocks, Bfree: s.Bfree,
		Bavail: s.Bavail, Files: s.Files, Ffree: s.Ffree, Namelen: uint64(s.Namelen),
	}, nil
}
