package fs

import "noyau.dev/guest/linux"

// Chdir makes the directory at path the working directory.
func (t *Tree) Chdir(base place, path string) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := follow; ; w |= slow {
		p, e := t.walkOrSelf(base, path, w)
		if e != 0 {
			return e
		}
		if p.mnt == nil {
			if !p.ino.isDir() {
				return linux.ENOTDIR
			}
			if e := t.cred.may(p.ino, mayExec); e != 0 {
				return e
			}
			t.cwd = p
			return 0
		}
		var st linux.Stat
		t.mu.Unlock()
		e = p.mnt.fs.Stat(p.rel, true, &st)
		t.mu.Lock()
		if e == 0 && st.Mode&linux.S_IFMT != linux.S_IFDIR {
			e = linux.ENOTDIR
		}
		if e == 0 {
			t.cwd = p
		}
		if !p.again(e) {
			return e
		}
	}
}

// Getcwd returns the working directory's path; ENOENT if it was removed.
func (t *Tree) Getcwd() (string, linux.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cwd.mnt == nil && t.cwd.ino.dir.gone {
		return "", linux.ENOENT
	}
	p := t.cwd
	if p.mnt == nil {
		p.ent = p.ino.dir.self
	}
	return t.placePath(p), 0
}

// SetCred says as whom permissions are checked from now on.
func (t *Tree) SetCred(uid, gid uint32, groups []uint32) {
	t.mu.Lock()
	t.cred = cred{uid, gid, groups}
	t.mu.Unlock()
}
