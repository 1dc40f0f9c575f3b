package volume

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"
)

// ReadDir fills buf with linux_dirent64 records from cookie on and returns how
// many bytes it wrote and the cookie that follows; 0 bytes at the end.
func (f *File) ReadDir(cookie uint64, buf []byte) (n int, next uint64, err error) {
	if !f.dir {
		return 0, 0, unix.ENOTDIR
	}
	if f.path {
		return 0, 0, unix.EBADF
	}
	if cookie > math.MaxInt64 {
		return 0, 0, unix.EINVAL
	}
	if _, err := unix.Seek(f.fd, int64(cookie), unix.SEEK_SET); err != nil {
		return 0, 0, err
	}
	err = retry(func() error { n, err = unix.Getdents(f.fd, buf); return err })
	if err != nil {
		return 0, 0, err
	}
	// A record is ino u64, off u64 (the next cookie), reclen u16, type u8, name.
	next = cookie
	for at := 0; at+19 <= n; {
		next = binary.NativeEndian.Uint64(buf[at+8:])
		size := int(binary.NativeEndian.Uint16(buf[at+16:]))
		if size < 19 {
			return 0, 0, unix.EIO
		}
		at += size
	}
	return n, next, nil
}

// Truncate sets the size in bytes.
func (f *File) Truncate(size uint64) error {
	if err := f.root.changeable(); err != nil {
		return err
	}
	if size > math.MaxInt64 {
		return unix.EINVAL
	}
	return retry(func() error { return unix.Ftruncate(f.fd, int64(size)) })
}

// Sync returns when the file is on the disk, its metadata too unless dataOnly.
// It may take long.
func (f *File) Sync(dataOnly bool) error {
	if dataOnly {
		return retry(func() error { return unix.Fdatasync(f.fd) })
	}
	return retry(func() error { return unix.Fsync(f.fd) })
}

const (
	fallocKeepSize  = 1
	fallocPunchHole = 2
	fallocZeroRange = 16
)

// Falloc is fallocate(2): plain, keep-size, punch-hole and zero-range.
func (f *File) Falloc(mode, off, length uint64) error {
	if err := f.root.changeable(); err != nil {
		return err
	}
	if mode&^(fallocKeepSize|fallocPunchHole|fallocZeroRange) != 0 {
		return unix.EOPNOTSUPP
	}
	if off > math.MaxInt64 || length > math.MaxInt64 {
		return unix.EINVAL
	}
	return retry(func() error { return unix.Fallocate(f.fd, uint32(mode), int64(off), int64(length)) })
}

// Flock is flock(2) without waiting: EAGAIN if another holds the lock. op is
// LOCK_SH, LOCK_EX or LOCK_UN.
func (f *File) Flock(op int) error {
	switch op {
	case unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN:
		err := retry(func() error { return unix.Flock(f.fd, op|unix.LOCK_NB) })
		if err == nil {
			f.held.setFlock(op)
		}
		return err
	}
	return unix.EINVAL
}

// Lock sets or releases (F_UNLCK) a record lock of this open file without
// waiting: EAGAIN if another holds one in the way. length 0 is to the end.
func (f *File) Lock(typ int16, start, length int64) error {
	lk, err := record(typ, start, length)
	if err != nil {
		return err
	}
	err = retry(func() error { return unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &lk) })
	if err == nil {
		f.held.set(typ, start, length)
	}
	return err
}

// Locked returns a lock that would be in the way of the given one; typ is
// F_UNLCK if there is none.
func (f *File) Locked(typ int16, start, length int64) (int16, int64, int64, error) {
	lk, err := record(typ, start, length)
	if err != nil {
		return 0, 0, 0, err
	}
	err = retry(func() error { return unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_GETLK, &lk) })
	return lk.Type, lk.Start, lk.Len, err
}

func record(typ int16, start, length int64) (unix.Flock_t, error) {
	switch typ {
	case unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK:
	default:
		return unix.Flock_t{}, unix.EINVAL
	}
	return unix.Flock_t{Type: typ, Whence: unix.SEEK_SET, Start: start, Len: length}, nil
}
