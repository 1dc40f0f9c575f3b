package fs

import (
	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// stamp turns a time argument into ns, or abi.TimeOmit.
func stamp(t linux.Timespec) uint64 {
	if t.Nsec == linux.UTIME_OMIT {
		return abi.TimeOmit
	}
	return uint64(t.Nano())
}

func (t *Tree) chmod(n *inode, ent *dirent, mode uint32) linux.Errno {
	switch {
	case n.isLink():
		return linux.EOPNOTSUPP
	case n.proc || !t.cred.owns(n):
		return linux.EPERM
	}
	mode &= 0o7777
	if t.cred.uid != 0 && !n.isDir() && !t.cred.inGroup(n.gid) {
		mode &^= linux.S_ISGID
	}
	n.mode = n.mode&linux.S_IFMT | mode
	n.changed()
	t.eventOn(n, ent, inAttrib)
	return 0
}

// chown changes the owner; an id of ^0 stays. Set-id bits go, as Linux does it.
func (t *Tree) chown(n *inode, ent *dirent, uid, gid uint32) linux.Errno {
	if c := &t.cred; c.uid != 0 {
		if uid != ^uint32(0) && (uid != n.uid || n.uid != c.uid) {
			return linux.EPERM
		}
		if gid != ^uint32(0) && (n.uid != c.uid || gid != n.gid && !c.inGroup(gid)) {
			return linux.EPERM
		}
	}
	if uid != ^uint32(0) {
		n.uid = uid
	}
	if gid != ^uint32(0) {
		n.gid = gid
	}
	if !n.isDir() {
		n.mode &^= linux.S_ISUID
		if n.mode&0o010 != 0 {
			n.mode &^= linux.S_ISGID
		}
	}
	n.changed()
	t.eventOn(n, ent, inAttrib)
	return 0
}

// setTimes sets times in ns, or leaves those that are abi.TimeOmit. toNow says
// that both are the time now, which whoever may write may set too.
func (t *Tree) setTimes(n *inode, ent *dirent, atime, mtime uint64, toNow bool) linux.Errno {
	if atime == abi.TimeOmit && mtime == abi.TimeOmit {
		return 0
	}
	if !t.cred.owns(n) {
		if !toNow {
			return linux.EPERM
		}
		if e := t.cred.may(n, mayWrite); e != 0 {
			return e
		}
	}
	mask := uint32(inAttrib)
	if atime == abi.TimeOmit {
		mask = inModify
	} else {
		n.atime = int64(atime)
	}
	if mtime == abi.TimeOmit {
		mask = inAccess
	} else {
		n.mtime = int64(mtime)
	}
	n.changed()
	t.eventOn(n, ent, mask)
	return 0
}

func (t *Tree) statfs(n *inode, st *linux.Statfs) {
	*st = linux.Statfs{Type: linux.TMPFS_MAGIC, Bsize: 4096, Frsize: 4096, Namelen: linux.NAME_MAX}
	if n.proc {
		st.Type = linux.PROC_SUPER_MAGIC
		return
	}
	st.Blocks = uint64(t.quota.limit / 4096)
	st.Bfree = uint64(max(t.quota.limit-t.quota.used, 0) / 4096)
	st.Bavail = st.Bfree
	st.Files = uint64(t.quota.limit / inodeCost)
	st.Ffree = uint64(max(t.quota.limit-t.quota.used, 0) / inodeCost)
}

// on walks to path and runs mem on what is there, or vol if that is in a mounted
// file system, without the mutex.
func (t *Tree) on(base place, path string, w how, mem func(p place) linux.Errno, vol func(p place) linux.Errno) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; ; w |= slow {
		p, e := t.walkOrSelf(base, path, w)
		if e != 0 {
			return e
		}
		if p.mnt == nil {
			return mem(p)
		}
		t.mu.Unlock()
		if p.slash && p.rel != "" {
			var st linux.Stat
			if e = p.mnt.fs.Stat(p.rel, true, &st); e == 0 && st.Mode&linux.S_IFMT != linux.S_IFDIR {
				e = linux.ENOTDIR
			}
		}
		if e == 0 {
			e = vol(p)
		}
		t.mu.Lock()
		if !p.again(e) {
			return e
		}
	}
}

// walkOrSelf is walk, in which the empty path means base itself: callers have
// checked that AT_EMPTY_PATH allows it.
func (t *Tree) walkOrSelf(base place, path string, w how) (place, linux.Errno) {
	if path == "" {
		base.slow = true
		return base, base.bad
	}
	return t.walk(base, path, w)
}

// Stat fills st; with w == 0 a link in the last place is not followed.
func (t *Tree) Stat(base place, path string, w how, st *linux.Stat) linux.Errno {
	t.mu.Lock()
	for ; ; w |= slow {
		p, e := t.walkOrSelf(base, path, w)
		if e == 0 && p.mnt == nil {
			p.ino.stat(st)
		}
		t.mu.Unlock()
		if e != 0 || p.mnt == nil {
			return e
		}
		e = p.mnt.fs.Stat(p.rel, w&follow != 0 || p.slash, st)
		if e == 0 && p.slash && st.Mode&linux.S_IFMT != linux.S_IFDIR {
			e = linux.ENOTDIR
		}
		if !p.again(e) {
			return e
		}
		t.mu.Lock()
	}
}

// Access checks permissions, which for user 0 is mostly that the file is there.
func (t *Tree) Access(base place, path string, mode uint32, w how) linux.Errno {
	return t.on(base, path, w, func(p place) linux.Errno {
		return t.cred.may(p.ino, mode)
	}, func(p place) linux.Errno {
		if mode&linux.W_OK != 0 && p.mnt.ro {
			return linux.EROFS
		}
		if w&follow == 0 {
			var st linux.Stat
			return p.mnt.fs.Stat(p.rel, false, &st)
		}
		return p.mnt.fs.Access(p.rel, mode)
	})
}

// Chmod changes permission bits.
func (t *Tree) Chmod(base place, path string, mode uint32, w how) linux.Errno {
	return t.on(base, path, w, func(p place) linux.Errno {
		return t.chmod(p.ino, p.ent, mode)
	}, func(p place) linux.Errno {
		if w&follow == 0 {
			var st linux.Stat
			if e := p.mnt.fs.Stat(p.rel, false, &st); e != 0 {
				return e
			}
			if st.Mode&linux.S_IFMT == linux.S_IFLNK {
				return linux.EOPNOTSUPP
			}
		}
		return p.mnt.fs.Chmod(p.rel, mode&0o7777)
	})
}

// Chown changes the owner.
func (t *Tree) Chown(base place, path string, uid, gid uint32, w how) linux.Errno {
	return t.on(base, path, w, func(p place) linux.Errno {
		return t.chown(p.ino, p.ent, uid, gid)
	}, func(p place) linux.Errno {
		return p.mnt.fs.Chown(p.rel, uid, gid, w&follow != 0)
	})
}

// Times sets access and modification times, as stamp gives them.
func (t *Tree) Times(base place, path string, atime, mtime uint64, toNow bool, w how) linux.Errno {
	return t.on(base, path, w, func(p place) linux.Errno {
		return t.setTimes(p.ino, p.ent, atime, mtime, toNow)
	}, func(p place) linux.Errno {
		return p.mnt.fs.Times(p.rel, atime, mtime, w&follow != 0)
	})
}

// Truncate sets the size of the file at path.
func (t *Tree) Truncate(base place, path string, size int64) linux.Errno {
	if size < 0 {
		return linux.EINVAL
	}
	var n *inode
	e := t.on(base, path, follow, func(p place) linux.Errno {
		switch {
		case p.ino.isDir():
			return linux.EISDIR
		case !p.ino.isReg():
			return linux.EINVAL
		}
		if e := t.cred.may(p.ino, mayWrite); e != 0 {
			return e
		}
		n = p.ino
		return t.truncate(n, p.ent, size)
	}, func(p place) linux.Errno {
		return p.mnt.fs.Truncate(p.rel, size)
	})
	if e == 0 && n != nil {
		kernel.FileWritten(n, size, -1)
	}
	return e
}

// Statfs describes the file system that holds path.
func (t *Tree) Statfs(base place, path string, st *linux.Statfs) linux.Errno {
	return t.on(base, path, follow, func(p place) linux.Errno {
		t.statfs(p.ino, st)
		return 0
	}, func(p place) linux.Errno {
		return p.mnt.fs.Statfs(st)
	})
}

// Readlink returns the text of the symbolic link at path.
func (t *Tree) Readlink(base place, path string) (string, linux.Errno) {
	var s string
	e := t.on(base, path, 0, func(p place) linux.Errno {
		if !p.ino.isLink() {
			if path == "" {
				return linux.ENOENT
			}
			return linux.EINVAL
		}
		p.ino.accessed()
		s = p.ino.target()
		return 0
	}, func(p place) (e linux.Errno) {
		if p.rel == "" {
			return linux.EINVAL
		}
		s, e = p.mnt.fs.Readlink(p.rel)
		return e
	})
	return s, e
}
