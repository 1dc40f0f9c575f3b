// Package volume makes host directories appear in the pVM's name space. What
// names a file is a message to the monitor; data is read and written by host
// calls on the handle that came with the answer.
package volume

import (
	"noyau.dev/abi"
	"noyau.dev/guest/fs"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func init() { fs.NewVolume = New }

// A volume is one directory of the host.
type volume struct {
	number uint64
	ro     bool
}

// New returns the file system of v.
func New(v host.Volume) fs.Mounted { return &volume{number: uint64(v.Number), ro: v.ReadOnly} }

// ask sends a request about paths (or other strings) of this volume.
func (v *volume) ask(m abi.Msg, paths ...string) (host.Reply, linux.Errno) {
	m.A = v.number
	n := 0
	for _, p := range paths {
		if len(p) >= linux.PATH_MAX {
			return host.Reply{FD: -1}, linux.ENAMETOOLONG
		}
		n += 2 + len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range paths {
		b = abi.AppendString(b, p)
	}
	return host.Request(m, b)
}

// change is ask for what has no answer but the error. A read-only volume says
// EROFS by itself.
func (v *volume) change(m abi.Msg, paths ...string) linux.Errno {
	changes.Add(1)
	_, e := v.ask(m, paths...)
	changes.Add(1)
	return e
}

func nofollow(follow bool) uint64 {
	if follow {
		return 0
	}
	return linux.AT_SYMLINK_NOFOLLOW
}

func (v *volume) Stat(path string, follow bool, st *linux.Stat) linux.Errno {
	r, e := v.ask(abi.Msg{Op: abi.OpStat, B: nofollow(follow)}, path)
	if e != 0 {
		return e
	}
	return takeStat(r.Payload, st)
}

// takeStat decodes an answer; EIO if it is no Stat.
func takeStat(b []byte, st *linux.Stat) linux.Errno {
	s, _, ok := abi.TakeStat(b)
	if !ok {
		return linux.EIO
	}
	*st = linux.Stat{
		Dev: deviceBase + s.Dev, Ino: s.Ino, Nlink: s.Nlink, Mode: s.Mode, UID: s.UID, GID: s.GID, Rdev: s.Rdev,
		Size: s.Size, Blksize: s.Blksize, Blocks: s.Blocks,
		Atim: linux.NsecToTimespec(s.Atime), Mtim: linux.NsecToTimespec(s.Mtime), Ctim: linux.NsecToTimespec(s.Ctime),
	}
	return 0
}

// deviceBase is where st_dev of volumes begins, above that of the in-memory
// tree.
const deviceBase = 0x28

func (v *volume) Access(path string, mode uint32) linux.Errno {
	_, e := v.ask(abi.Msg{Op: abi.OpAccess, B: uint64(mode)}, path)
	return e
}

func (v *volume) Mkdir(path string, mode uint32) linux.Errno {
	return v.change(abi.Msg{Op: abi.OpMkdir, C: uint64(mode)}, path)
}

func (v *volume) Mknod(path string, mode uint32) linux.Errno {
	return v.change(abi.Msg{Op: abi.OpMknod, C: uint64(mode)}, path)
}

func (v *volume) Unlink(path string, dir bool) linux.Errno {
	m := abi.Msg{Op: abi.OpUnlink}
	if dir {
		m.B = linux.AT_REMOVEDIR
	}
	return v.change(m, path)
}

func (v *volume) Rename(from, to string, flags uint32) linux.Errno {
	return v.change(abi.Msg{Op: abi.OpRename, B: uint64(flags)}, from, to)
}

func (v *volume) Link(from, to string) linux.Errno {
	return v.change(abi.Msg{Op: abi.OpLink}, from, to)
}

func (v *volume) Symlink(target, path string) linux.Errno {
	return v.change(abi.Msg{Op: abi.OpSymlink}, target, path)
}

func (v *volume) Readlink(path string) (string, linux.Errno) {
	r, e := v.ask(abi.Msg{Op: abi.OpReadlink}, path)
	if e != 0 {
		return "", e
	}
	s, _, ok := abi.TakeString(r.Payload)
	if !ok {
		return "", linux.EIO
	}
	return s, 0
}

func (v *volume) Chmod(path string, mode uint32) linux.Errno {
	return v.change(abi.Msg{Op: abi.OpChmod, C: uint64(mode)}, path)
}

func (v *volume) Chown(path string, uid, gid uint32, follow bool) linux.Errno {
	return v.change(abi.Msg{Op: abi.OpChown, B: uint64(uid), C: uint64(gid), D: nofollow(follow)}, path)
}

func (v *volume) Times(path string, atime, mtime uint64, follow bool) linux.Errno {
	return v.change(abi.Msg{Op: abi.OpTimes, B: nofollow(follow), C: atime, D: mtime}, path)
}

// Truncate opens the file for it: there is no request by path.
func (v *volume) Truncate(path string, size int64) linux.Errno {
	f, e := v.Open(path, linux.O_WRONLY, 0)
	if e != 0 {
		return e
	}
	defer f.Release()
	t, ok := f.(kernel.Truncater)
	if !ok {
		return linux.EISDIR
	}
	return t.Truncate(size)
}

func (v *volume) Statfs(st *linux.Statfs) linux.Errno {
	r, e := v.ask(abi.Msg{Op: abi.OpStatfs}, "")
	if e != 0 {
		return e
	}
	s, _, ok := abi.TakeStatfs(r.Payload)
	if !ok {
		return linux.EIO
	}
	*st = linux.Statfs{
		Type: int64(s.Type), Bsize: int64(s.Bsize), Frsize: int64(s.Bsize), Blocks: s.Blocks, Bfree: s.Bfree,
		Bavail: s.Bavail, Files: s.Files, Ffree: s.Ffree, Namelen: int64(s.Namelen),
	}
	if v.ro {
		st.Flags = 1 // ST_RDONLY
	}
	return 0
}

// Open opens or creates a file.
func (v *volume) Open(path string, flags int, mode uint32) (kernel.File, linux.Errno) {
	const passed = linux.O_ACCMODE | linux.O_CREAT | linux.O_EXCL | linux.O_TRUNC | linux.O_APPEND | linux.O_DIRECTORY |
		linux.O_NOFOLLOW | linux.O_SYNC | linux.O_TMPFILE
	as := changes.Load()
	if flags&(linux.O_TRUNC|linux.O_CREAT) != 0 {
		as = changes.Add(1)
	}
	asked := rt.Nanotime()
	gate.RLock() // a file is open for the monitor when it is for us
	defer gate.RUnlock()
	r, e := v.ask(abi.Msg{Op: abi.OpOpen, B: uint64(flags & passed), C: uint64(mode)}, path)
	if e != 0 {
		return nil, e
	}
	n := &node{name: r.Handle, fd: r.FD, v: v, as: as, until: asked + fresh}
	if e := takeStat(r.Payload, &n.opened); e != 0 || r.FD < 0 {
		n.giveBack()
		return nil, linux.EIO
	}
	st := &n.opened
	if st.Mode&linux.S_IFMT == linux.S_IFDIR {
		remember(n, nil)
		return &dir{node: n}, 0
	}
	f := &file{node: n, key: &key{st.Dev, st.Ino}, hostAppend: flags&linux.O_APPEND != 0}
	f.boxed = *f.key
	f.flags.Store(uint32(flags))
	remember(n, f)
	return f, 0
}
