package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// tmpfileBit is what O_TMPFILE has beyond O_DIRECTORY.
const tmpfileBit = linux.O_TMPFILE &^ linux.O_DIRECTORY

// validOpen reports whether flags make sense together.
func validOpen(flags uint32) bool {
	creat := flags&linux.O_CREAT != 0
	switch {
	case flags&linux.O_PATH != 0:
		return true
	case flags&tmpfileBit != 0:
		return flags&linux.O_TMPFILE == linux.O_TMPFILE && !creat && flags&linux.O_ACCMODE != linux.O_RDONLY
	}
	return !creat || flags&linux.O_DIRECTORY == 0
}

// Open opens or creates the file at path. It may park: for the other end of a
// FIFO, for a mounted file system. extra are the restrictions of openat2.
func (t *Tree) Open(base place, path string, flags, mode uint32, extra how) (kernel.File, linux.Errno) {
	if flags&linux.O_PATH != 0 {
		flags &= linux.O_PATH | linux.O_DIRECTORY | linux.O_NOFOLLOW | linux.O_CLOEXEC
	}
	if !validOpen(flags) {
		return nil, linux.EINVAL
	}
	creat := flags&linux.O_CREAT != 0
	t.mu.Lock()
	defer t.mu.Unlock()
	mode = mode & 0o7777 &^ kernel.Umask()
	w := extra
	if flags&linux.O_NOFOLLOW == 0 && flags&(linux.O_CREAT|linux.O_EXCL) != linux.O_CREAT|linux.O_EXCL {
		w |= follow
	}
	if creat {
		w |= create
		if path != "" && path[len(path)-1] == '/' {
			w |= parent // only to find what else is wrong
		}
	}
	for ; ; w |= slow {
		p, e := t.walk(base, path, w)
		if e != 0 {
			return nil, e
		}
		if creat && p.slash && p.kind == lastName {
			return nil, linux.EISDIR
		}
		if p.mnt == nil {
			return t.openAt(p, flags, mode)
		}
		t.mu.Unlock()
		f, e := openMounted(t, p, flags, mode)
		t.mu.Lock()
		if !p.again(e) {
			return f, e
		}
	}
}

func openMounted(t *Tree, p place, flags, mode uint32) (kernel.File, linux.Errno) {
	if p.slash {
		flags |= linux.O_DIRECTORY
	}
	if p.kind != lastName && flags&linux.O_CREAT != 0 {
		if flags&linux.O_EXCL != 0 {
			return nil, linux.EEXIST
		}
		return nil, linux.EISDIR
	}
	if flags&linux.O_PATH != 0 {
		var st linux.Stat
		if e := p.mnt.fs.Stat(p.rel, flags&linux.O_NOFOLLOW == 0 || p.slash, &st); e != 0 {
			return nil, e
		}
		if flags&linux.O_DIRECTORY != 0 && st.Mode&linux.S_IFMT != linux.S_IFDIR {
			return nil, linux.ENOTDIR
		}
		p.nofollow = flags&linux.O_NOFOLLOW != 0
		f := &pathFile{anyFile: anyFile{Location{p}, t}}
		t.mu.Lock()
		f.keep()
		t.mu.Unlock()
		return f, 0
	}
	if p.mnt.ro && (flags&linux.O_ACCMODE != linux.O_RDONLY || flags&(linux.O_TRUNC|tmpfileBit) != 0) {
		var st linux.Stat
		e := p.mnt.fs.Stat(p.rel, flags&linux.O_NOFOLLOW == 0, &st)
		switch {
		case e == linux.ENOENT && flags&linux.O_CREAT != 0, e == 0 && st.Mode&linux.S_IFMT != linux.S_IFDIR:
			e = linux.EROFS
		case e == 0:
			e = linux.EISDIR
		}
		return nil, e
	}
	f, e := p.mnt.fs.Open(p.rel, int(flags), mode)
	if e != 0 {
		return nil, e
	}
	if l, ok := f.(located); ok {
		l.location().p = p
		if _, ok := f.(kernel.DirReader); ok {
			t.mu.Lock()
			l.location().keep()
			t.mu.Unlock()
		}
	}
	return f, 0
}

// openAt opens what is at a place of the in-memory tree. The mutex is held, but
// given up while a FIFO waits.
func (t *Tree) openAt(p place, flags, mode uint32) (kernel.File, linux.Errno) {
	n := p.ino
	acc := flags & linux.O_ACCMODE
	switch {
	case n == nil:
		if e := t.vacant(p, false); e != 0 {
			return nil, e
		}
		ent, e := t.makeAt(p, linux.S_IFREG|mode)
		if e != 0 {
			return nil, e
		}
		p.ent, p.ino = ent, ent.ino
		return t.newMemFile(p, flags), 0
	case flags&linux.O_CREAT != 0 && flags&linux.O_EXCL != 0:
		return nil, linux.EEXIST
	case flags&linux.O_CREAT != 0 && n.isDir():
		return nil, linux.EISDIR
	case flags&linux.O_DIRECTORY != 0 && !n.isDir():
		return nil, linux.ENOTDIR
	case flags&linux.O_PATH != 0:
		n.opens++
		return &pathFile{anyFile: anyFile{Location{p}, t}}, 0
	case flags&tmpfileBit != 0:
		return t.openTmp(p, flags, mode)
	case n.isLink():
		return nil, linux.ELOOP
	case n.isDir() && (acc != linux.O_RDONLY || flags&linux.O_TRUNC != 0):
		return nil, linux.EISDIR
	case n.kind() == linux.S_IFSOCK:
		return nil, linux.ENXIO
	}
	want := uint32(mayRead)
	switch acc {
	case linux.O_WRONLY:
		want = mayWrite
	case linux.O_RDWR, linux.O_ACCMODE:
		want = mayRead | mayWrite
	}
	if n.isReg() && flags&linux.O_TRUNC != 0 {
		want |= mayWrite
	}
	if e := t.cred.may(n, want); e != 0 {
		return nil, e
	}
	if flags&linux.O_NOATIME != 0 && !t.cred.owns(n) {
		return nil, linux.EPERM
	}
	switch {
	case n.isDir():
		n.opens++
		t.eventOn(n, p.ent, inOpen)
		return &dirFile{anyFile: anyFile{Location{p}, t}}, 0
	case n.kind() == linux.S_IFIFO && n.dyn == nil:
		return t.openFifo(p, flags)
	case n.dyn != nil:
		t.mu.Unlock()
		defer t.mu.Lock()
		return t.openDynamic(p, flags)
	}
	f := t.newMemFile(p, flags)
	if flags&linux.O_TRUNC != 0 {
		if n.host != nil {
			n.host.close()
			n.host, n.data = nil, new(content)
		}
		if e := t.truncate(n, p.ent, 0); e != 0 {
			n.opens--
			return nil, e
		}
	}
	return f, 0
}

// openTmp makes a file without a name in the directory at p.
func (t *Tree) openTmp(p place, flags, mode uint32) (kernel.File, linux.Errno) {
	dir := p.ino
	switch {
	case dir.proc:
		return nil, linux.EOPNOTSUPP
	case dir.dir.gone:
		return nil, linux.ENOENT
	}
	if e := t.cred.may(dir, mayWrite|mayExec); e != 0 {
		return nil, e
	}
	n := t.newInode(t.owner(dir, linux.S_IFREG|mode))
	if n == nil {
		return nil, linux.ENOSPC
	}
	n.nlink = 0
	n.tmpfile = flags&linux.O_EXCL == 0
	return t.newMemFile(place{ino: n}, flags&^uint32(tmpfileBit)), 0
}

// Memfd makes a file that is in no directory.
func (t *Tree) Memfd(name string, sealable bool) (kernel.File, linux.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.newInode(linux.S_IFREG|0o777, t.cred.uid, t.cred.gid)
	if n == nil {
		return nil, linux.ENOSPC
	}
	n.nlink = 0
	if !sealable {
		n.seals = linux.F_SEAL_SEAL
	}
	ent := &dirent{name: "memfd:" + name, ino: n}
	return t.newMemFile(place{ino: n, ent: ent}, linux.O_RDWR), 0
}

// Seals and AddSeals are fcntl F_GET_SEALS and F_ADD_SEALS. What is no memfd
// cannot be sealed.
func (f *memFile) Seals() uint32 {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.n.nlink > 0 || f.n.tmpfile {
		return linux.F_SEAL_SEAL
	}
	return f.n.seals
}

func (f *memFile) AddSeals(seals uint32) linux.Errno {
	const known = linux.F_SEAL_SEAL | linux.F_SEAL_SHRINK | linux.F_SEAL_GROW | linux.F_SEAL_WRITE
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	switch {
	case seals&^known != 0:
		return linux.EINVAL
	case f.flags.Load()&linux.O_ACCMODE == linux.O_RDONLY, f.n.nlink > 0, f.n.tmpfile, f.n.seals&linux.F_SEAL_SEAL != 0:
		return linux.EPERM
	}
	f.n.seals |= seals
	return 0
}
