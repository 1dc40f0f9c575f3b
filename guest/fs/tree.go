// Package fs answers the file system calls: one name space made of an in-memory
// tree (the root, /dev, /proc, /tmp) in which other file systems, the volumes,
// are mounted at directories.
//
// Locking: one mutex guards the in-memory tree, names, attributes and content
// alike. There is one host thread, so finer locks would buy nothing. It is never
// held while a goroutine waits: calls to a mounted file system are made without.
package fs

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Mounted is a file system mounted in the tree. Paths are relative to its root:
// "" is the root, no component is empty, "." or "..". It resolves symbolic links
// itself; for those that leave it, it returns EXDEV, and is then asked again with
// a path free of links. Calls may park the caller.
type Mounted interface {
	// Open opens or creates a file; mode has the umask applied.
	Open(path string, flags int, mode uint32) (kernel.File, linux.Errno)
	Stat(path string, follow bool, st *linux.Stat) linux.Errno
	Access(path string, mode uint32) linux.Errno
	Mkdir(path string, mode uint32) linux.Errno
	Mknod(path string, mode uint32) linux.Errno
	Unlink(path string, dir bool) linux.Errno
	Rename(from, to string, flags uint32) linux.Errno
	Link(from, to string) linux.Errno
	Symlink(target, path string) linux.Errno
	// Readlink returns EINVAL for what is no symbolic link.
	Readlink(path string) (string, linux.Errno)
	Chmod(path string, mode uint32) linux.Errno
	Chown(path string, uid, gid uint32, follow bool) linux.Errno
	// Times sets times in ns since the epoch; abi.TimeOmit leaves one as it is.
	Times(path string, atime, mtime uint64, follow bool) linux.Errno
	Truncate(path string, size int64) linux.Errno
	Statfs(st *linux.Statfs) linux.Errno
}

// A mount is where a Mounted is in the tree.
type mount struct {
	fs   Mounted
	name string // as the user knows it: for /proc/mounts
	path string // absolute
	ro   bool
	at   *inode            // the directory of the in-memory tree it covers; nil if it lies in another mount
	in   *mount            // the other mount
	rel  string            // and where there
	subs map[string]*mount // mounts within this one, by path
	id   int
	tree *Tree
	dirs map[*Location]struct{} // open directories in it: renames move them
}

// Tree is a name space and the state that system calls have in it.
type Tree struct {
	mu      sync.Mutex
	root    *inode
	quota   quota
	inodes  int64
	lastIno uint64
	lastSeq int64
	cookie  uint32 // of inotify
	watched int    // watches in existence: 0 makes events free
	mounts  []*mount

	// Of the process.
	cwd  place
	cred cred

	mayExecSelf bool
}

// NewTree returns a name space with an empty root directory. limit bounds the
// memory for content and names, in bytes: beyond it calls fail with ENOSPC.
func NewTree(limit int64) *Tree {
	t := &Tree{quota: quota{limit: limit}, lastSeq: firstSeq - 1}
	t.root = t.newInode(linux.S_IFDIR|0o755, 0, 0)
	t.cwd = t.rootPlace()
	return t
}

func (t *Tree) rootPlace() place { return place{ino: t.root, kind: lastRoot} }

// Mount mounts fs on the directory at path, which is made if it is missing.
// name is what /proc/mounts shows as its source.
func (t *Tree) Mount(path, name string, fs Mounted, readOnly bool) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, e := t.walk(t.rootPlace(), path, follow|create)
	if e == linux.ENOENT {
		t.mkdirs(path)
		p, e = t.walk(t.rootPlace(), path, follow)
	}
	if e != 0 {
		return e
	}
	m := &mount{tree: t, dirs: make(map[*Location]struct{}), fs: fs, name: name, path: path, ro: readOnly, id: 40 + len(t.mounts)}
	switch {
	case p.mnt != nil:
		if p.rel == "" {
			return linux.EBUSY
		}
		m.in, m.rel = p.mnt, p.rel
		if p.mnt.subs == nil {
			p.mnt.subs = make(map[string]*mount)
		}
		p.mnt.subs[p.rel] = m
	case p.ino == t.root:
		return linux.EBUSY
	case p.ino == nil:
		n := t.newInode(linux.S_IFDIR|0o755, 0, 0)
		if n == nil {
			return linux.ENOSPC
		}
		t.enter(p.dir, p.name, n)
		p.ino = n
		fallthrough
	default:
		if !p.ino.isDir() {
			return linux.ENOTDIR
		}
		p.ino.mnt, m.at = m, p.ino
	}
	t.mounts = append(t.mounts, m)
	return 0
}
