package fs

import (
	"strings"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// The calls that make names. Each walks to the place; if that is in a mounted
// file system the call is its own, and EXDEV from there means a symbolic link
// that leaves it: then the walk is done again, one component at a time.

// again reports whether e asks for another, slower walk.
func (p *place) again(e linux.Errno) bool { return e == linux.EXDEV && !p.slow }

// vacant checks that a name can be made at p, a place of the in-memory tree.
// slash says whether a path that ends in a slash is allowed: for directories.
func (t *Tree) vacant(p place, slash bool) linux.Errno {
	switch {
	case p.kind != lastName || p.ino != nil:
		return linux.EEXIST
	case len(p.name) > linux.NAME_MAX:
		return linux.ENAMETOOLONG
	case p.slash && !slash || p.dir.dir.gone:
		return linux.ENOENT
	case p.dir.proc:
		return linux.EACCES
	}
	return t.cred.may(p.dir, mayWrite|mayExec)
}

// vacantMounted is vacant for a mounted file system, which checks the rest.
func (t *Tree) vacantMounted(p place, slash bool) linux.Errno {
	switch {
	case p.kind != lastName || p.rel == "":
		if e := mustBeDir(p); e != 0 {
			return e
		}
		return linux.EEXIST
	case p.slash && !slash:
		var st linux.Stat
		if e := p.mnt.fs.Stat(p.rel, false, &st); e != 0 {
			return e
		}
		return linux.EEXIST
	}
	return 0
}

// owner returns the ids and mode that something new in dir gets: a directory
// with the set-group-id bit hands down its group.
func (t *Tree) owner(dir *inode, mode uint32) (m, uid, gid uint32) {
	gid = t.cred.gid
	if dir.mode&linux.S_ISGID != 0 {
		gid = dir.gid
		if mode&linux.S_IFMT == linux.S_IFDIR {
			mode |= linux.S_ISGID
		}
	}
	return mode, t.cred.uid, gid
}

// makeAt makes an inode of the given mode at p.
func (t *Tree) makeAt(p place, mode uint32) (*dirent, linux.Errno) {
	n := t.newInode(t.owner(p.dir, mode))
	if n == nil {
		return nil, linux.ENOSPC
	}
	ent := t.enter(p.dir, p.name, n)
	t.event(p.dir, ent.name, inCreate|isDir(n), 0)
	return ent, 0
}

// Mkdir makes a directory.
func (t *Tree) Mkdir(base place, path string, mode uint32) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	mode &^= kernel.Umask()
	mode &= 0o1777
	for w := parent; ; w |= slow {
		p, e := t.walk(base, path, w)
		if e != 0 {
			return e
		}
		if p.mnt == nil {
			if e = t.vacant(p, true); e == 0 {
				_, e = t.makeAt(p, linux.S_IFDIR|mode)
			}
			return e
		}
		t.mu.Unlock()
		if e = t.vacantMounted(p, true); e == 0 {
			e = p.mnt.fs.Mkdir(p.rel, mode)
		}
		t.mu.Lock()
		if !p.again(e) {
			return e
		}
	}
}

func validMknod(mode uint32) linux.Errno {
	switch mode & linux.S_IFMT {
	case 0, linux.S_IFREG, linux.S_IFIFO, linux.S_IFSOCK:
		return 0
	case linux.S_IFDIR, linux.S_IFCHR, linux.S_IFBLK:
		return linux.EPERM
	}
	return linux.EINVAL
}

// Mknod makes a FIFO, a regular file or the name of a socket. Devices are EPERM.
func (t *Tree) Mknod(base place, path string, mode uint32, dev uint64) linux.Errno {
	if e := validMknod(mode); e != 0 {
		return e
	}
	if mode&linux.S_IFMT == 0 {
		mode |= linux.S_IFREG
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	mode &^= kernel.Umask()
	for w := parent; ; w |= slow {
		p, e := t.walk(base, path, w)
		if e != 0 {
			return e
		}
		if p.mnt == nil {
			if e = t.vacant(p, false); e == 0 {
				_, e = t.makeAt(p, mode)
			}
			return e
		}
		t.mu.Unlock()
		if e = t.vacantMounted(p, false); e == 0 {
			e = p.mnt.fs.Mknod(p.rel, mode)
		}
		t.mu.Lock()
		if !p.again(e) {
			return e
		}
	}
}

// Symlink makes a symbolic link that holds target.
func (t *Tree) Symlink(target string, base place, path string) linux.Errno {
	switch {
	case target == "":
		return linux.ENOENT
	case len(target) >= linux.PATH_MAX:
		return linux.ENAMETOOLONG
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := parent; ; w |= slow {
		p, e := t.walk(base, path, w)
		if e != 0 {
			return e
		}
		if p.mnt == nil {
			if e = t.vacant(p, false); e != 0 {
				return e
			}
			if !t.quota.take(int64(len(target))) {
				return linux.ENOSPC
			}
			ent, e := t.makeAt(p, linux.S_IFLNK|0o777)
			if e != 0 {
				t.quota.take(-int64(len(target)))
				return e
			}
			ent.ino.link = strings.Clone(target)
			return 0
		}
		t.mu.Unlock()
		if e = t.vacantMounted(p, false); e == 0 {
			e = p.mnt.fs.Symlink(target, p.rel)
		}
		t.mu.Lock()
		if !p.again(e) {
			return e
		}
	}
}

// Link makes a second name for the file at from; a link there is followed if
// so asked. With from == "" it is the file of the place itself (AT_EMPTY_PATH).
func (t *Tree) Link(fbase place, from string, tbase place, to string, followFrom bool) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	fw := how(0)
	if followFrom {
		fw = follow
	}
	for w := how(0); ; w |= slow {
		p, e := fbase, linux.Errno(0)
		if from != "" {
			p, e = t.walk(fbase, from, fw|w)
		}
		if e != 0 {
			return e
		}
		q, e := t.walk(tbase, to, parent|w)
		if e != 0 {
			return e
		}
		if q.mnt == nil {
			if q.kind != lastName || q.ino != nil {
				return linux.EEXIST
			}
			if q.slash {
				return q.missing()
			}
		}
		if p.mnt != q.mnt {
			return linux.EXDEV
		}
		if p.mnt == nil {
			return t.link(p, q)
		}
		if followFrom && !p.slow {
			continue // the file system links what is at the path, link or not
		}
		t.mu.Unlock()
		e = t.vacantMounted(q, false)
		if e == 0 && p.slash {
			if e = mustBeDir(p); e == 0 {
				e = linux.EPERM
			}
		}
		if e == 0 {
			e = p.mnt.fs.Link(p.rel, q.rel)
		}
		t.mu.Lock()
		if !p.again(e) && !q.again(e) {
			return e
		}
	}
}

func (t *Tree) link(p, q place) linux.Errno {
	n := p.ino
	if e := t.vacant(q, false); e != 0 {
		return e
	}
	switch {
	case n.proc != q.dir.proc:
		return linux.EXDEV
	case n.isDir():
		return linux.EPERM
	case n.nlink == 0 && !n.tmpfile:
		return linux.ENOENT
	}
	n.tmpfile = false
	n.nlink++
	n.changed()
	t.eventOn(n, nil, inAttrib)
	ent := t.enter(q.dir, q.name, n)
	t.event(q.dir, ent.name, inCreate, 0)
	return 0
}
