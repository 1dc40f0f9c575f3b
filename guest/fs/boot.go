package fs

import (
	"strings"

	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Root is the pVM's name space.
var Root *Tree

// NewVolume makes the file system of a volume. The volumes brick sets it; an
// image without the brick has no volumes.
var NewVolume func(v host.Volume) Mounted

func init() { kernel.OnInit(boot) }

// unlimited is what a pVM without a limit on memory shows as its memory, in
// bytes: programs size their caches by it.
const unlimited = 4 << 30

func memoryLimit() uint64 {
	if m := rt.Boot().Memory; m != 0 {
		return m
	}
	return unlimited
}

// boot makes the name space that the app starts in.
func boot(b *host.Boot) {
	share := uint64(2) // half, as tmpfs takes it
	if rt.Boot().Memory != 0 {
		share = 4 // beside a heap that grows to the limit
	}
	Root = NewTree(int64(min(memoryLimit()/share, maxSize)))
	executable = b.Path
	Root.populate(b)
	kernel.SocketNames = socketNames{Root}
}

// populate fills a fresh tree.
func (t *Tree) populate(b *host.Boot) {
	t.mu.Lock()
	for _, d := range [...]struct {
		path string
		mode uint32
	}{
		{"/tmp", 0o1777}, {"/root", 0o700}, {"/var/tmp", 0o1777}, {"/run", 0o755}, {"/home", 0o755}, {"/mnt", 0o755},
		{"/bin", 0o755}, {"/usr/bin", 0o755}, {"/var/log", 0o755}, {"/etc/ssl/certs", 0o755},
	} {
		t.mkdirs(d.path).mode = linux.S_IFDIR | d.mode
	}
	t.mountDev()
	t.mountProc()
	for i := range b.Files {
		t.addFile(&b.Files[i])
	}
	name := b.Hostname
	for _, f := range [...][2]string{
		{"/etc/hostname", name + "\n"},
		{"/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.2.15\t" + name + "\n"},
		{"/etc/resolv.conf", "nameserver 10.0.2.3\n"},
		{"/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
		{"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
		{"/etc/group", "root:x:0:\nnogroup:x:65534:\n"},
	} {
		if p, e := t.walk(t.rootPlace(), f[0], create); e == 0 && p.ino == nil && p.mnt == nil {
			n := t.system(p.dir, strings.Clone(p.name), linux.S_IFREG|0o644)
			n.data, n.host = nil, &hostContent{bytes: []byte(f[1]), handle: -1, size: int64(len(f[1]))}
		}
	}
	h := b.Header
	if h != nil {
		t.cred = cred{uid: h.UID, gid: h.GID}
	}
	t.mu.Unlock()
	for _, v := range byPath(b.Volumes) { // the outer ones first
		if NewVolume != nil {
			t.Mount(v.Path, "volume"+itoa(v.Number), NewVolume(v), v.ReadOnly)
		}
	}
	t.addImages(b.Execs)
	if b.Dir != "" && b.Dir != "/" {
		t.start(b.Dir)
	}
}

// byPath returns volumes in the order of their paths. There are few, and package slices
// would bring 5 kB of code for it.
func byPath(vols []host.Volume) (sorted []host.Volume) {
	for _, v := range vols {
		i := len(sorted)
		for i > 0 && sorted[i-1].Path > v.Path {
			i--
		}
		sorted = append(sorted, host.Volume{})
		copy(sorted[i+1:], sorted[i:])
		sorted[i] = v
	}
	return sorted
}

// start makes dir the working directory; one that is missing is made, unless it
// is in a volume.
func (t *Tree) start(dir string) {
	e := t.Chdir(t.rootPlace(), dir)
	if e != linux.ENOENT || strings.Contains(dir, "..") {
		return
	}
	t.mu.Lock()
	n := t.mkdirs(dir)
	t.cwd = place{ino: n, ent: n.dir.self, kind: lastRoot}
	t.mu.Unlock()
}

func itoa(v uint32) string {
	if v >= 10 {
		return itoa(v/10) + string(byte('0'+v%10))
	}
	return string(byte('0' + v))
}

// mkdirs returns the directory at an absolute path, made if missing. What is in
// the way stays, and the nearest directory above it is returned.
func (t *Tree) mkdirs(path string) *inode {
	dir := t.root
	for path != "" {
		name, more, _ := strings.Cut(path, "/")
		path = more
		if name == "" || name == "." {
			continue
		}
		e := dir.dir.get(name)
		switch {
		case e == nil:
			dir = t.system(dir, strings.Clone(name), linux.S_IFDIR|0o755)
		case e.ino.isDir():
			dir = e.ino
		default:
			return dir
		}
	}
	return dir
}

// addFile enters a file of the boot block: a regular file, or, if its mode says
// so, a directory or a symbolic link. A later one replaces an earlier one.
func (t *Tree) addFile(f *host.File) {
	i := strings.LastIndexByte(f.Path, '/')
	if i < 0 || f.Path[i+1:] == "" || strings.Contains(f.Path+"/", "/../") {
		return
	}
	mode := f.Mode
	switch mode & linux.S_IFMT {
	case linux.S_IFDIR:
		t.mkdirs(f.Path).mode = mode
		return
	case linux.S_IFLNK:
	default:
		mode = linux.S_IFREG | mode&0o7777
	}
	dir, name := t.mkdirs(f.Path[:i]), f.Path[i+1:]
	if old := dir.dir.get(name); old != nil {
		if old.ino.isDir() || old.ino.dyn != nil {
			return
		}
		t.remove(old)
		old.ino.nlink--
		t.unref(old.ino)
	}
	n := t.system(dir, name, mode)
	if n.isLink() {
		n.link = string(f.Content)
		return
	}
	n.data, n.host = nil, &hostContent{bytes: f.Content, handle: f.Handle, size: f.Size}
}
