package fs

import "noyau.dev/guest/linux"

// Events of inotify(7).
const (
	inAccess       = 0x1
	inModify       = 0x2
	inAttrib       = 0x4
	inCloseWrite   = 0x8
	inCloseNowrite = 0x10
	inOpen         = 0x20
	inMovedFrom    = 0x40
	inMovedTo      = 0x80
	inCreate       = 0x100
	inDelete       = 0x200
	inDeleteSelf   = 0x400
	inMoveSelf     = 0x800
	inAllEvents    = 0xfff
	inUnmount      = 0x2000
	inQOverflow    = 0x4000
	inIgnored      = 0x8000
	inOnlyDir      = 0x1000000
	inDontFollow   = 0x2000000
	inExclUnlink   = 0x4000000
	inMaskCreate   = 0x10000000
	inMaskAdd      = 0x20000000
	inIsDir        = 0x40000000
	inOneshot      = 0x80000000
)

func isDir(n *inode) uint32 {
	if n.isDir() {
		return inIsDir
	}
	return 0
}

// event tells the watches of directory dir about its entry name.
func (t *Tree) event(dir *inode, name string, mask, cookie uint32) {
	if t.watched > 0 {
		t.tell(dir, name, mask, cookie)
	}
}

// eventOn tells the watches of n, and those of the directory that ent is in.
func (t *Tree) eventOn(n *inode, ent *dirent, mask uint32) {
	if t.watched == 0 {
		return
	}
	mask |= isDir(n)
	if ent != nil && ent.parent != nil {
		t.tell(ent.parent, ent.name, mask, 0)
	}
	t.tell(n, "", mask, 0)
}

func (t *Tree) tell(n *inode, name string, mask, cookie uint32) {
	for i := 0; i < len(n.watches); i++ {
		w := n.watches[i]
		if w.mask&mask&inAllEvents == 0 {
			continue
		}
		w.in.post(w.wd, mask, cookie, name)
		if w.mask&inOneshot != 0 {
			t.removeWatch(w)
			i--
		}
	}
}

// moved tells about a rename, which links its two halves by a cookie.
func (t *Tree) moved(n, from *inode, oldName string, to *inode, newName string) {
	if t.watched == 0 {
		return
	}
	t.cookie++
	t.tell(from, oldName, inMovedFrom|isDir(n), t.cookie)
	t.tell(to, newName, inMovedTo|isDir(n), t.cookie)
	t.tell(n, "", inMoveSelf, 0)
}

// watchGone ends the watches of an inode that is no more.
func (t *Tree) watchGone(n *inode) {
	for len(n.watches) > 0 {
		w := n.watches[len(n.watches)-1]
		if w.mask&inDeleteSelf != 0 {
			w.in.post(w.wd, inDeleteSelf, 0, "")
		}
		t.removeWatch(w)
	}
}

// removeWatch ends a watch, which its instance learns by IN_IGNORED.
func (t *Tree) removeWatch(w *watch) {
	t.dropWatch(w)
	delete(w.in.watches, w.wd)
	w.in.post(w.wd, inIgnored, 0, "")
}

func (t *Tree) dropWatch(w *watch) {
	ws := w.n.watches
	for i := range ws {
		if ws[i] == w {
			w.n.watches = append(ws[:i], ws[i+1:]...)
			t.watched--
			return
		}
	}
}

// AddWatch is inotify_add_watch. Mounted file systems cannot be watched: their
// changes come from outside too, and half of the events would be a lie.
func (t *Tree) AddWatch(in *inotify, base place, path string, mask uint32) (int32, linux.Errno) {
	if mask&inAllEvents == 0 || mask&inMaskAdd != 0 && mask&inMaskCreate != 0 {
		return 0, linux.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := follow
	if mask&inDontFollow != 0 {
		w = 0
	}
	p, e := t.walk(base, path, w)
	switch {
	case e != 0:
		return 0, e
	case p.mnt != nil:
		return 0, linux.ENOSYS
	case mask&inOnlyDir != 0 && !p.ino.isDir():
		return 0, linux.ENOTDIR
	}
	if e := t.cred.may(p.ino, mayRead); e != 0 {
		return 0, e
	}
	keep := mask & (inAllEvents | inOneshot | inExclUnlink)
	for _, old := range p.ino.watches {
		if old.in != in {
			continue
		}
		if mask&inMaskCreate != 0 {
			return 0, linux.EEXIST
		}
		if mask&inMaskAdd != 0 {
			keep |= old.mask
		}
		old.mask = keep
		return old.wd, 0
	}
	if len(in.watches) >= maxWatches {
		return 0, linux.ENOSPC
	}
	in.lastWD++
	nw := &watch{in: in, n: p.ino, wd: in.lastWD, mask: keep}
	in.watches[nw.wd] = nw
	p.ino.watches = append(p.ino.watches, nw)
	t.watched++
	return nw.wd, 0
}

// RemoveWatch is inotify_rm_watch.
func (t *Tree) RemoveWatch(in *inotify, wd int32) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := in.watches[wd]
	if w == nil {
		return linux.EINVAL
	}
	t.removeWatch(w)
	return 0
}
