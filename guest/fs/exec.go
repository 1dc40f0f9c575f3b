package fs

import (
	"strings"

	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// imageText is what a file has in it that stands for an image: the image itself is the
// host's.
const imageText = "#!noyau: an image that this pVM may start\n"

// addImages makes the files that stand for images. The program itself has one where its
// executable would be, unless there is a file already.
func (t *Tree) addImages(list []host.Exec) {
	for _, x := range list {
		path, name := x.Path, x.Name
		if path == "" {
			path = exePath()
			t.mayExecSelf = true
		}
		t.mu.Lock()
		// What a volume has there stays.
		if p, e := t.walk(t.rootPlace(), path, follow); e == linux.ENOENT || e == 0 && p.mnt == nil {
			t.addFile(&host.File{Path: path, Mode: 0o755, Content: []byte(imageText), Handle: -1, Size: int64(len(imageText))})
			if p, e := t.walk(t.rootPlace(), path, follow); e == 0 && p.mnt == nil && p.ino.isReg() {
				p.ino.exec = &name
			}
		}
		t.mu.Unlock()
	}
}

// Executable returns the name of the image that the file at path stands for, "" for the
// program itself, and where the file is: ENOENT if there is none, EACCES if it is no
// image that may be started.
func Executable(path string) (name, where string, errno linux.Errno) {
	t := Root
	t.mu.Lock()
	defer t.mu.Unlock()
	p, e := t.walk(t.cwd, path, follow)
	if e != 0 {
		return "", "", e
	}
	if p.mnt != nil {
		// The program's own file may be in a volume.
		q, e := t.walk(t.rootPlace(), exePath(), follow)
		if e == 0 && t.mayExecSelf && q.mnt == p.mnt && q.rel == p.rel {
			return "", t.placePath(q), 0
		}
		if e = p.mounted(t, nil); e == 0 {
			e = linux.EACCES
		}
		return "", "", e
	}
	if e := t.cred.may(p.ino, mayExec); e != 0 {
		return "", "", e
	}
	if p.ino.exec == nil {
		return "", "", linux.EACCES
	}
	return *p.ino.exec, t.placePath(p), 0
}

// Workdir returns the absolute path of a directory to start a program in, the working
// directory if path is "".
func Workdir(path string) (string, linux.Errno) {
	t := Root
	if path == "" {
		return t.Getcwd()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p, e := t.walkOrSelf(t.cwd, path, follow)
	switch {
	case e != 0:
		return "", e
	case p.mnt == nil && !p.ino.isDir():
		return "", linux.ENOTDIR
	case p.mnt == nil:
		if e := t.cred.may(p.ino, mayExec); e != 0 {
			return "", e
		}
		p.ent = p.ino.dir.self
		return t.placePath(p), 0
	}
	whole := t.placePath(p)
	var st linux.Stat
	if e = p.mounted(t, &st); e == 0 && st.Mode&linux.S_IFMT != linux.S_IFDIR {
		e = linux.ENOTDIR
	}
	return whole, e
}

// mounted asks the mounted file system about p. The mutex is let go meanwhile.
func (p *place) mounted(t *Tree, st *linux.Stat) linux.Errno {
	if st == nil {
		st = new(linux.Stat)
	}
	t.mu.Unlock()
	defer t.mu.Lock()
	return p.mnt.fs.Stat(p.rel, true, st)
}

// AbsPath makes one name of the paths of a file, as far as directories go: absolute,
// without links before the last component.
func AbsPath(path string) (string, linux.Errno) {
	t := Root
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i+1], path[i+1:]
	}
	p, e := t.walkOrSelf(t.cwd, dir, follow)
	if e != 0 {
		return "", e
	}
	if p.mnt == nil {
		if !p.ino.isDir() {
			return "", linux.ENOTDIR
		}
		p.ent = p.ino.dir.self
	}
	return strings.TrimSuffix(t.placePath(p), "/") + "/" + name, 0
}

func init() { kernel.AbsPath = AbsPath }
