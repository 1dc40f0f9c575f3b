package fs

import (
	"noyau.dev/guest/linux"
)

// The calls on open files that need no path, the same for regular files,
// directories and descriptors opened with O_PATH.

// An anyFile is a description of an inode of the in-memory tree.
type anyFile struct {
	Location
	t *Tree
}

func (f *anyFile) Stat(st *linux.Stat) linux.Errno {
	f.t.mu.Lock()
	f.p.ino.stat(st)
	f.t.mu.Unlock()
	return 0
}

func (f *anyFile) Chmod(mode uint32) linux.Errno {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return f.t.chmod(f.p.ino, f.p.ent, mode)
}

func (f *anyFile) Chown(uid, gid uint32) linux.Errno {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return f.t.chown(f.p.ino, f.p.ent, uid, gid)
}

func (f *anyFile) SetTimes(atime, mtime linux.Timespec) linux.Errno {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return f.t.setTimes(f.p.ino, f.p.ent, stamp(atime), stamp(mtime), false)
}

func (f *anyFile) Statfs(st *linux.Statfs) linux.Errno {
	f.t.mu.Lock()
	f.t.statfs(f.p.ino, st)
	f.t.mu.Unlock()
	return 0
}

// Sync has nothing to do: the tree lives and dies with the pVM.
func (f *anyFile) Sync(bool) linux.Errno { return 0 }
