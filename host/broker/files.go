package broker

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/volume"
)

func doOpen(r *request) (reply, error) {
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	mode, err := small(r.msg.C)
	if err != nil {
		return reply{}, err
	}
	if r.b.table.full() {
		return reply{}, unix.EMFILE // before a file is created
	}
	f, st, err := root.Open(path, r.msg.B, mode)
	if err != nil {
		return reply{}, err
	}
	h := &handle{kind: kindFile, file: f, fd: -1}
	give, err := f.Guest()
	if err != nil {
		f.Close()
		return reply{}, err
	}
	if err := r.b.table.add(h); err != nil {
		return reply{}, err
	}
	return reply{handle: h, give: give, payload: abi.AppendStat(nil, &st)}, nil
}

// follow decodes a field that is AT_SYMLINK_NOFOLLOW or 0.
func follow(flags uint64) (bool, error) {
	if flags&^unix.AT_SYMLINK_NOFOLLOW != 0 {
		return false, unix.EINVAL
	}
	return flags == 0, nil
}

func doStat(r *request) (reply, error) {
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	fol, err := follow(r.msg.B)
	if err != nil {
		return reply{}, err
	}
	st, err := root.Stat(path, fol)
	return reply{payload: abi.AppendStat(nil, &st)}, err
}

// file calls use with the file of field Handle.
func (r *request) file(use func(*volume.File) error) error {
	h, err := r.b.table.get(r.msg.Handle, kindFile)
	if err != nil {
		return err
	}
	defer h.put()
	return use(h.file)
}

func doFstat(r *request) (reply, error) {
	var st abi.Stat
	err := r.file(func(f *volume.File) (err error) { st, err = f.Stat(); return err })
	return reply{payload: abi.AppendStat(nil, &st)}, err
}

func doReadDir(r *request) (rep reply, err error) {
	buf := buffers.Get().(*[]byte)
	rep.free = func() { buffers.Put(buf) }
	max := min(r.msg.B, abi.MaxPayload)
	err = r.file(func(f *volume.File) error {
		n, next, err := f.ReadDir(r.msg.A, (*buf)[:max])
		rep.payload, rep.a = (*buf)[:n], next
		return err
	})
	return rep, err
}

func doMkdir(r *request) (reply, error) {
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	mode, err := small(r.msg.C)
	if err != nil {
		return reply{}, err
	}
	return reply{}, root.Mkdir(path, mode)
}

func doMknod(r *request) (reply, error) {
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	mode, err := small(r.msg.C)
	if err != nil {
		return reply{}, err
	}
	return reply{}, root.Mknod(path, mode)
}

func doUnlink(r *request) (reply, error) {
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	if r.msg.B&^unix.AT_REMOVEDIR != 0 {
		return reply{}, unix.EINVAL
	}
	return reply{}, root.Unlink(path, r.msg.B != 0)
}

func doRename(r *request) (reply, error) {
	root, err := r.root()
	if err != nil {
		return reply{}, err
	}
	s, err := r.paths(2)
	if err != nil {
		return reply{}, err
	}
	return reply{}, root.Rename(s[0], s[1], r.msg.B)
}

func doLink(r *request) (reply, error) {
	root, err := r.root()
	if err != nil {
		return reply{}, err
	}
	s, err := r.paths(2)
	if err != nil {
		return reply{}, err
	}
	return reply{}, root.Link(s[0], s[1])
}

func doSymlink(r *request) (reply, error) {
	root, err := r.root()
	if err != nil {
		return reply{}, err
	}
	s, err := r.paths(2)
	if err != nil {
		return reply{}, err
	}
	if len(s[0]) == 0 {
		return reply{}, unix.ENOENT
	}
	if len(s[0]) >= abi.MaxPath {
		return reply{}, unix.ENAMETOOLONG
	}
	return reply{}, root.Symlink(s[0], s[1])
}

func doReadlink(r *request) (reply, error) {
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	target, err := root.Readlink(path)
	return reply{payload: abi.AppendString(nil, target)}, err
}

func doChmod(r *request) (reply, error) {
	mode, err := small(r.msg.C)
	if err != nil {
		return reply{}, err
	}
	if r.byHandle() {
		return reply{}, r.file(func(f *volume.File) error { return f.Chmod(mode) })
	}
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	return reply{}, root.Chmod(path, mode)
}

func doChown(r *request) (reply, error) {
	uid, gid := uint32(r.msg.B), uint32(r.msg.C) // -1 in any width
	if r.byHandle() {
		return reply{}, r.file(func(f *volume.File) error { return f.Chown(uid, gid) })
	}
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	fol, err := follow(r.msg.D)
	if err != nil {
		return reply{}, err
	}
	return reply{}, root.Chown(path, uid, gid, fol)
}

func doTimes(r *request) (reply, error) {
	if r.byHandle() {
		return reply{}, r.file(func(f *volume.File) error { return f.Times(r.msg.C, r.msg.D) })
	}
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	fol, err := follow(r.msg.B)
	if err != nil {
		return reply{}, err
	}
	return reply{}, root.Times(path, fol, r.msg.C, r.msg.D)
}

func doTruncate(r *request) (reply, error) {
	return reply{}, r.file(func(f *volume.File) error { return f.Truncate(r.msg.A) })
}

func doSync(r *request) (reply, error) {
	return reply{}, r.file(func(f *volume.File) error {
		return r.slow(func() error { return f.Sync(r.msg.A != 0) })
	})
}

func doFalloc(r *request) (reply, error) {
	return reply{}, r.file(func(f *volume.File) error {
		return r.slow(func() error { return f.Falloc(r.msg.A, r.msg.B, r.msg.C) })
	})
}

func doStatfs(r *request) (reply, error) {
	root, err := r.root()
	if err != nil {
		return reply{}, err
	}
	st, err := root.Statfs()
	return reply{payload: abi.AppendStatfs(nil, &st)}, err
}

func doAccess(r *request) (reply, error) {
	root, path, err := r.rootPath()
	if err != nil {
		return reply{}, err
	}
	mode, err := small(r.msg.B)
	if err != nil {
		return reply{}, err
	}
	return reply{}, root.Access(path, mode)
}
