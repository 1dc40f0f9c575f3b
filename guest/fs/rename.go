package fs

import (
	"strings"

	"noyau.dev/guest/linux"
)

func validRename(flags uint32) bool {
	const known = linux.RENAME_NOREPLACE | linux.RENAME_EXCHANGE
	return flags&^uint32(known) == 0 && flags != known
}

// Rename moves a name, as renameat2(2) does.
func (t *Tree) Rename(fbase place, from string, tbase place, to string, flags uint32) linux.Errno {
	if !validRename(flags) {
		return linux.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := parent; ; w |= slow {
		p, e := t.walk(fbase, from, w)
		if e != 0 {
			return e
		}
		q, e := t.walk(tbase, to, w)
		if e != 0 {
			return e
		}
		if p.mnt != q.mnt || p.mnt == nil && p.dir != nil && q.dir != nil && p.dir.proc != q.dir.proc {
			return linux.EXDEV
		}
		switch {
		case p.kind != lastName:
			return linux.EBUSY
		case q.kind != lastName && flags&linux.RENAME_NOREPLACE != 0:
			return linux.EEXIST
		case q.kind != lastName:
			return linux.EBUSY
		}
		if p.mnt == nil {
			return t.rename(p, q, flags)
		}
		t.mu.Unlock()
		e = renameMounted(p, q, flags)
		t.mu.Lock()
		if e == 0 {
			p.mnt.moved(p.rel, q.rel, flags&linux.RENAME_EXCHANGE != 0)
		}
		if !p.again(e) && !q.again(e) {
			return e
		}
	}
}

func renameMounted(p, q place, flags uint32) linux.Errno {
	if p.mnt.subs[p.rel] != nil || p.mnt.subs[q.rel] != nil {
		return linux.EBUSY
	}
	if p.slash || q.slash {
		if e := mustBeDir(p); e != 0 {
			return e
		}
	}
	return p.mnt.fs.Rename(p.rel, q.rel, flags)
}

// rename checks in the order of Linux, so that of two reasons to refuse the
// same is reported.
func (t *Tree) rename(p, q place, flags uint32) linux.Errno {
	n, old := p.ino, q.ino
	exchange := flags&linux.RENAME_EXCHANGE != 0
	switch {
	case n == nil:
		return p.missing()
	case len(q.name) > linux.NAME_MAX:
		return linux.ENAMETOOLONG
	case old != nil && flags&linux.RENAME_NOREPLACE != 0:
		return linux.EEXIST
	case exchange && old == nil:
		return linux.ENOENT
	case exchange && !old.isDir() && q.slash:
		return linux.ENOTDIR
	case !n.isDir() && (p.slash || !exchange && q.slash):
		return linux.ENOTDIR
	case n.isDir() && t.within(q.dir, n):
		return linux.EINVAL
	case old != nil && old.isDir() && t.within(p.dir, old):
		if exchange {
			return linux.EINVAL
		}
		return linux.ENOTEMPTY
	case n == old:
		return 0
	}
	if e := t.deletable(p); e != 0 {
		return e
	}
	if old != nil {
		if e := t.deletable(q); e != 0 {
			return e
		}
		switch {
		case exchange:
		case n.isDir() && !old.isDir():
			return linux.ENOTDIR
		case !n.isDir() && old.isDir():
			return linux.EISDIR
		}
	} else {
		if q.dir.dir.gone {
			return linux.ENOENT
		}
		if e := t.cred.may(q.dir, mayWrite|mayExec); e != 0 {
			return e
		}
	}
	if n.mnt != nil || old != nil && old.mnt != nil {
		return linux.EBUSY
	}
	if old != nil && !exchange && old.isDir() && len(old.dir.byName) > 0 {
		return linux.ENOTEMPTY
	}
	oldName, newName := p.ent.name, strings.Clone(q.name)
	if exchange {
		t.remove(p.ent)
		t.remove(q.ent)
		p.ent.name, q.ent.name = newName, oldName
		t.add(q.dir, p.ent)
		t.add(p.dir, q.ent)
		old.changed()
	} else {
		if old != nil {
			if old.isDir() {
				t.removeDir(q.ent)
			} else {
				t.remove(q.ent)
				old.nlink--
				old.changed()
			}
		}
		t.remove(p.ent)
		p.ent.name = newName
		t.add(q.dir, p.ent)
	}
	n.changed()
	p.dir.modified()
	q.dir.modified()
	t.moved(n, p.dir, oldName, q.dir, newName)
	switch {
	case exchange:
		t.moved(old, q.dir, newName, p.dir, oldName)
	case old != nil:
		t.eventOn(old, nil, inAttrib)
		t.unref(old)
	}
	return 0
}

// within reports whether dir is n or lies beneath it.
func (t *Tree) within(dir, n *inode) bool {
	for ; dir != nil; dir = dir.dir.up {
		if dir == n {
			return true
		}
	}
	return false
}
