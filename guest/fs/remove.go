package fs

import "noyau.dev/guest/linux"

// deletable checks that the entry at p may be taken away.
func (t *Tree) deletable(p place) linux.Errno {
	if e := t.cred.may(p.dir, mayWrite|mayExec); e != 0 {
		return e
	}
	if p.dir.proc || p.ent == nil {
		return linux.EPERM
	}
	if p.dir.mode&linux.S_ISVTX != 0 && !t.cred.owns(p.ino) && t.cred.uid != p.dir.uid {
		return linux.EPERM
	}
	return 0
}

// Unlink removes a name that is not a directory's.
func (t *Tree) Unlink(base place, path string) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := parent; ; w |= slow {
		p, e := t.walk(base, path, w)
		if e != 0 {
			return e
		}
		if p.kind != lastName {
			return linux.EISDIR
		}
		if p.mnt == nil {
			return t.unlink(p)
		}
		t.mu.Unlock()
		if p.slash {
			e = mustBeDir(p)
			if e == 0 {
				e = linux.EISDIR
			}
		} else {
			e = p.mnt.fs.Unlink(p.rel, false)
		}
		t.mu.Lock()
		if !p.again(e) {
			return e
		}
	}
}

// mustBeDir checks a path in a mounted file system that ended in a slash.
func mustBeDir(p place) linux.Errno {
	var st linux.Stat
	if e := p.mnt.fs.Stat(p.rel, false, &st); e != 0 {
		return e
	}
	if st.Mode&linux.S_IFMT != linux.S_IFDIR {
		return linux.ENOTDIR
	}
	return 0
}

func (t *Tree) unlink(p place) linux.Errno {
	n := p.ino
	switch {
	case n == nil:
		return p.missing()
	case p.slash && n.isDir():
		return linux.EISDIR
	case p.slash:
		return linux.ENOTDIR
	}
	if e := t.deletable(p); e != 0 {
		return e
	}
	if n.isDir() {
		return linux.EISDIR
	}
	name := p.ent.name
	t.remove(p.ent)
	p.dir.modified()
	n.nlink--
	n.changed()
	t.eventOn(n, nil, inAttrib)
	t.event(p.dir, name, inDelete, 0)
	t.unref(n)
	return 0
}

// Rmdir removes an empty directory.
func (t *Tree) Rmdir(base place, path string) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := parent; ; w |= slow {
		p, e := t.walk(base, path, w)
		if e != 0 {
			return e
		}
		switch p.kind {
		case lastDot:
			return linux.EINVAL
		case lastDotDot:
			return linux.ENOTEMPTY
		case lastRoot:
			return linux.EBUSY
		}
		if p.mnt == nil {
			return t.rmdir(p)
		}
		t.mu.Unlock()
		if p.mnt.subs[p.rel] != nil {
			e = linux.EBUSY
		} else {
			e = p.mnt.fs.Unlink(p.rel, true)
		}
		t.mu.Lock()
		if !p.again(e) {
			return e
		}
	}
}

func (t *Tree) rmdir(p place) linux.Errno {
	n := p.ino
	if n == nil {
		return p.missing()
	}
	if e := t.deletable(p); e != 0 {
		return e
	}
	switch {
	case !n.isDir():
		return linux.ENOTDIR
	case n.mnt != nil:
		return linux.EBUSY
	case len(n.dir.byName) > 0:
		return linux.ENOTEMPTY
	}
	name := p.ent.name
	t.removeDir(p.ent)
	p.dir.modified()
	t.event(p.dir, name, inDelete|inIsDir, 0)
	t.unref(n)
	return 0
}

// removeDir takes away the entry of an empty directory.
func (t *Tree) removeDir(e *dirent) {
	n := e.ino
	t.remove(e)
	n.dir.gone = true
	n.nlink = 0
	n.changed()
}
