package kernel

import "noyau.dev/guest/linux"

func init() {
	// on registers a call whose first argument is a descriptor.
	on := func(nr int, f func(d *Desc, a Args) linux.Errno) {
		Register(nr, func(a Args) (uintptr, linux.Errno) {
			d, e := Get(a.A1)
			if e != 0 {
				return 0, e
			}
			defer d.Put()
			return 0, f(d, a)
		})
	}
	on(linux.SYS_FSTAT, func(d *Desc, a Args) linux.Errno {
		st, e := Ptr[linux.Stat](a.A2)
		if e != 0 {
			return e
		}
		return d.Stat(st)
	})
	on(linux.SYS_FTRUNCATE, func(d *Desc, a Args) linux.Errno {
		t, ok := d.File.(Truncater)
		if !ok || !d.Writable() || int64(a.A2) < 0 {
			return linux.EINVAL
		}
		return t.Truncate(int64(a.A2))
	})
	on(linux.SYS_FSYNC, func(d *Desc, a Args) linux.Errno { return fsync(d, false) })
	on(linux.SYS_FDATASYNC, func(d *Desc, a Args) linux.Errno { return fsync(d, true) })
	on(linux.SYS_SYNC_FILE_RANGE, func(d *Desc, a Args) linux.Errno { return fsync(d, true) })
	on(linux.SYS_SYNCFS, func(d *Desc, a Args) linux.Errno {
		if s, ok := d.File.(Syncer); ok {
			return s.Sync(false)
		}
		return 0
	})
	on(linux.SYS_FALLOCATE, fallocate)
	on(linux.SYS_FLOCK, func(d *Desc, a Args) linux.Errno {
		op := int(int32(a.A2))
		if k := op &^ linux.LOCK_NB; k != linux.LOCK_SH && k != linux.LOCK_EX && k != linux.LOCK_UN {
			return linux.EINVAL
		}
		f, ok := d.File.(Flocker)
		if !ok || d.Flags()&linux.O_PATH != 0 {
			return linux.EBADF
		}
		return f.Flock(op)
	})
	on(linux.SYS_FCHMOD, func(d *Desc, a Args) linux.Errno {
		if d.Flags()&linux.O_PATH != 0 {
			return linux.EBADF
		}
		if c, ok := d.File.(Chmoder); ok {
			return c.Chmod(uint32(a.A2) & 07777)
		}
		return linux.EPERM
	})
	on(linux.SYS_FCHOWN, func(d *Desc, a Args) linux.Errno {
		if d.Flags()&linux.O_PATH != 0 {
			return linux.EBADF
		}
		if c, ok := d.File.(Chowner); ok {
			return c.Chown(uint32(a.A2), uint32(a.A3))
		}
		return linux.EPERM
	})
	on(linux.SYS_FSTATFS, func(d *Desc, a Args) linux.Errno {
		st, e := Ptr[linux.Statfs](a.A2)
		if e != 0 {
			return e
		}
		if s, ok := d.File.(Statfser); ok {
			return s.Statfs(st)
		}
		*st = linux.Statfs{Type: linux.ANON_INODE_FS_MAGIC, Bsize: 4096, Frsize: 4096, Namelen: linux.NAME_MAX}
		return 0
	})
	Register(linux.SYS_GETDENTS64, func(a Args) (uintptr, linux.Errno) {
		d, e := GetReadable(a.A1)
		if e != 0 {
			return 0, e
		}
		defer d.Put()
		r, ok := d.File.(DirReader)
		if !ok {
			return 0, linux.ENOTDIR
		}
		p, e := Bytes(a.A2, a.A3&0xffffffff)
		if e != 0 {
			return 0, e
		}
		n, e := r.Getdents(p)
		return uintptr(n), e
	})
}

func fsync(d *Desc, dataOnly bool) linux.Errno {
	if d.Flags()&linux.O_PATH != 0 {
		return linux.EBADF
	}
	if s, ok := d.File.(Syncer); ok {
		return s.Sync(dataOnly)
	}
	return linux.EINVAL
}

func fallocate(d *Desc, a Args) linux.Errno {
	off, n := int64(a.A3), int64(a.A4)
	switch {
	case !d.Writable():
		return linux.EBADF
	case off < 0 || n <= 0:
		return linux.EINVAL
	case off+n < 0:
		return linux.EFBIG
	}
	if f, ok := d.File.(Allocator); ok {
		return f.Allocate(uint32(a.A2), off, n)
	}
	if d.Queue() != nil {
		return linux.ESPIPE
	}
	return linux.ENODEV
}
