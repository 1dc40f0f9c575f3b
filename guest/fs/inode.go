package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// An inode is a file of the in-memory tree, whatever its kind. All of it is
// guarded by the tree's mutex.
type inode struct {
	num      uint64
	mode     uint32 // S_IF… and permission bits
	nlink    uint32
	uid, gid uint32
	opens    int32 // open file descriptions; with nlink it keeps the content
	proc     bool  // belongs to /proc: not counted, not changeable
	tmpfile  bool  // made by O_TMPFILE: may be linked although it has no name
	freed    bool
	rdev     uint64

	atime, mtime, ctime int64 // ns since the Unix epoch

	dir  *dirData     // directories
	data *content     // regular files with content of their own
	host *hostContent // regular files whose content is still behind a handle
	link string       // symbolic links
	fifo kernel.Fifo  // named pipes, once opened
	sock any          // names of unix sockets: what the sockets brick bound
	dyn  *dynamic     // files of /proc and devices
	exec *string      // the name of the image that it stands for

	mnt     *mount   // mounted on this directory
	watches []*watch // inotify
	locks   *Locks   // flock and record locks, once there was one
	seals   uint32   // memfd
}

// A dynamic is what makes a file of /proc or /dev what it is.
type dynamic struct {
	gen    func() []byte                                 // content, made at each open, without the mutex
	open   func(flags uint32) (kernel.File, linux.Errno) // a device; called without the mutex
	link   func() string                                 // target of a symbolic link
	magic  func() (place, linux.Errno)                   // a link that does not go by its text; has link too
	lookup func(name string) *inode                      // a directory whose entries come and go
	list   func() []string
	fill   func(dir *inode) // makes the entries of a directory when it is first looked into
}

func (n *inode) kind() uint32 { return n.mode & linux.S_IFMT }
func (n *inode) isDir() bool  { return n.mode&linux.S_IFMT == linux.S_IFDIR }
func (n *inode) isLink() bool { return n.mode&linux.S_IFMT == linux.S_IFLNK }
func (n *inode) isReg() bool  { return n.mode&linux.S_IFMT == linux.S_IFREG }
func (n *inode) target() string {
	if n.dyn != nil && n.dyn.link != nil {
		return n.dyn.link()
	}
	return n.link
}

// inodeCost is what an inode and its name are charged to the quota, in bytes.
const inodeCost = 512

// now is the time for stamps.
func now() int64 {
	s, ns := rt.Walltime()
	return s*1e9 + int64(ns)
}

// newInode makes an inode that is in no directory yet; nil if space is up.
func (t *Tree) newInode(mode, uid, gid uint32) *inode {
	if !t.quota.take(inodeCost) {
		return nil
	}
	t.lastIno++
	at := now()
	n := &inode{num: t.lastIno, mode: mode, uid: uid, gid: gid, nlink: 1, atime: at, mtime: at, ctime: at}
	switch n.kind() {
	case linux.S_IFDIR:
		n.nlink = 2
		n.dir = new(dirData)
	case linux.S_IFREG:
		n.data = new(content)
	}
	t.inodes++
	return n
}

// unref frees what n holds once no name and no description refers to it.
func (t *Tree) unref(n *inode) {
	if n.nlink > 0 || n.opens > 0 || n.proc || n.freed {
		return
	}
	t.watchGone(n)
	if n.data != nil {
		n.data.free(&t.quota)
	}
	if n.host != nil {
		n.host.close()
		n.host = nil
	}
	if t.inodes > 0 {
		t.inodes--
		t.quota.take(-inodeCost)
	}
	n.freed = true
}

func (n *inode) size() int64 {
	switch {
	case n.data != nil:
		return n.data.size
	case n.host != nil:
		return n.host.size
	case n.dir != nil:
		return int64(len(n.dir.byName)+2) * 20
	case n.isLink() && n.dyn == nil:
		return int64(len(n.link))
	}
	return 0
}

// device is st_dev of the in-memory tree: a minor of the unnamed devices.
const device = 0x15

func (n *inode) stat(st *linux.Stat) {
	*st = linux.Stat{}
	st.Dev = device
	st.Ino = n.num
	st.Nlink = uint64(n.nlink)
	st.Mode = n.mode
	st.UID, st.GID = n.uid, n.gid
	st.Rdev = n.rdev
	st.Size = n.size()
	st.Blksize = 4096
	if n.data != nil {
		st.Blocks = (n.data.alloc + 511) / 512
	} else if n.host != nil {
		st.Blocks = (n.host.size + 511) / 512
	}
	st.Atim = linux.NsecToTimespec(n.atime)
	st.Mtim = linux.NsecToTimespec(n.mtime)
	st.Ctim = linux.NsecToTimespec(n.ctime)
}

// accessed updates atime as the relatime mount option does, but without the
// rule of once a day, which would need a look at the clock at each read.
func (n *inode) accessed() {
	if n.atime <= n.mtime || n.atime <= n.ctime {
		n.atime = now()
	}
}

func (n *inode) changed()  { n.ctime = now() }
func (n *inode) modified() { n.ctime = now(); n.mtime = n.ctime }

// cred is who asks. The pVM is one process, so it is the same for every call.
type cred struct {
	uid, gid uint32
	groups   []uint32
}

func (c *cred) inGroup(gid uint32) bool {
	if c.gid == gid {
		return true
	}
	for _, g := range c.groups {
		if g == gid {
			return true
		}
	}
	return false
}

// Bits for may.
const (
	mayExec  = 1
	mayWrite = 2
	mayRead  = 4
)

// may checks permission bits; user 0 may do all but execute what nobody may.
func (c *cred) may(n *inode, want uint32) linux.Errno {
	if c.uid == 0 {
		if want&mayExec != 0 && !n.isDir() && n.mode&0o111 == 0 {
			return linux.EACCES
		}
		return 0
	}
	m := n.mode
	switch {
	case n.uid == c.uid:
		m >>= 6
	case c.inGroup(n.gid):
		m >>= 3
	}
	if m&want != want {
		return linux.EACCES
	}
	return 0
}

func (c *cred) owns(n *inode) bool { return c.uid == 0 || c.uid == n.uid }
