package fs

import (
	"strconv"
	"strings"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// mountProc makes /proc, whose entries exist once somebody looks.
func (t *Tree) mountProc() {
	n := t.system(t.root, "proc", linux.S_IFDIR|0o555)
	n.proc = true
	n.dyn = &dynamic{fill: t.fillProc}
}

// The functions that make files of /proc are called from many places and once each: inlined
// they would be a good part of the package.
//
//go:noinline
func (t *Tree) procFile(dir *inode, name string, gen func() []byte) {
	t.system(dir, name, linux.S_IFREG|0o444).dyn = &dynamic{gen: gen}
}

//go:noinline
func (t *Tree) procText(dir *inode, name, text string) {
	t.procFile(dir, name, func() []byte { return []byte(text) })
}

//go:noinline
func (t *Tree) procDir(dir *inode, name string) *inode {
	return t.system(dir, name, linux.S_IFDIR|0o555)
}

// procLink makes a link whose text and goal are found when it is used.
func (t *Tree) procLink(dir *inode, name string, text func() string, magic func() (place, linux.Errno)) {
	t.system(dir, name, linux.S_IFLNK|0o777).dyn = &dynamic{link: text, magic: magic}
}

func pid() int { return max(int(kernel.PID()), 1) }

func (t *Tree) fillProc(proc *inode) {
	id := strconv.Itoa(pid())
	t.systemLink(proc, "self", id)
	t.systemLink(proc, "thread-self", id+"/task/"+id)
	t.systemLink(proc, "mounts", "self/mounts")
	self := t.procDir(proc, id)
	self.dyn = &dynamic{fill: t.fillSelf}
	t.procFile(proc, "cpuinfo", procCPUInfo)
	t.procFile(proc, "meminfo", t.procMeminfo)
	t.procFile(proc, "uptime", procUptime)
	t.procFile(proc, "stat", procSystemStat)
	t.procText(proc, "loadavg", "0.00 0.00 0.00 1/1 "+id+"\n")
	t.procText(proc, "version", "Linux version "+uname(2)+" (noyau) "+uname(3)+"\n")
	t.procText(proc, "filesystems", "nodev\ttmpfs\nnodev\tproc\nnodev\tnoyau\n")
	t.procText(proc, "cmdline", "\n")
	t.system(proc, "sys", linux.S_IFDIR|0o555).dyn = &dynamic{fill: t.fillSys}
	if kernel.ProcNet != nil {
		net := t.procDir(proc, "net")
		for name, gen := range kernel.ProcNet() {
			t.procFile(net, name, gen)
		}
	}
}

// uname returns a field of struct new_utsname: 0 sysname, 1 nodename, 2 release,
// 3 version.
func uname(field int) string {
	u := new([6][65]byte)
	if f := kernel.Registered(linux.SYS_UNAME); f != nil {
		f(kernel.Args{A1: addrOf(u)})
	}
	return strings.TrimRight(string(u[field][:]), "\x00")
}

func (t *Tree) fillSys(sys *inode) {
	k := t.procDir(sys, "kernel")
	t.procFile(k, "hostname", func() []byte { return []byte(uname(1) + "\n") })
	t.procText(k, "domainname", "(none)\n")
	t.procText(k, "osrelease", uname(2)+"\n")
	t.procText(k, "ostype", "Linux\n")
	t.procText(k, "pid_max", "32768\n")
	t.procText(k, "cap_last_cap", "40\n")
	r := t.procDir(k, "random")
	t.procFile(r, "uuid", func() []byte { return uuid() })
	boot := uuid()
	t.procFile(r, "boot_id", func() []byte { return boot })
	t.procText(r, "entropy_avail", "256\n")
	n := t.procDir(sys, "net")
	core := t.procDir(n, "core")
	t.procText(core, "somaxconn", "4096\n")
	t.procText(core, "rmem_max", "212992\n")
	t.procText(core, "wmem_max", "212992\n")
	ip4 := t.procDir(n, "ipv4")
	t.procText(ip4, "ip_local_port_range", "32768\t60999\n")
	t.procText(ip4, "tcp_keepalive_time", "7200\n")
	f := t.procDir(sys, "fs")
	t.procText(f, "file-max", "1048576\n")
	t.procText(f, "nr_open", "1048576\n")
	t.procText(f, "pipe-max-size", "1048576\n")
	in := t.procDir(f, "inotify")
	t.procText(in, "max_queued_events", strconv.Itoa(maxEvents)+"\n")
	t.procText(in, "max_user_watches", strconv.Itoa(maxWatches)+"\n")
	t.procText(in, "max_user_instances", "1024\n")
	vm := t.procDir(sys, "vm")
	t.procText(vm, "max_map_count", "65530\n")
	t.procText(vm, "overcommit_memory", "1\n")
}

func uuid() []byte {
	var r [16]byte
	rt.Rand(r[:])
	r[6], r[8] = r[6]&0x0f|0x40, r[8]&0x3f|0x80
	const hex = "0123456789abcdef"
	b := make([]byte, 0, 37)
	for i, c := range r {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, hex[c>>4], hex[c&15])
	}
	return append(b, '\n')
}

// fdDir is /proc/self/fd: a link for each open descriptor.
func (t *Tree) fdDir(dir *inode) {
	dir.mode = linux.S_IFDIR | 0o500
	dir.dyn = &dynamic{
		list: func() []string {
			fds := kernel.Open()
			names := make([]string, len(fds))
			for i, fd := range fds {
				names[i] = strconv.Itoa(fd)
			}
			return names
		},
		lookup: func(name string) *inode {
			fd, err := strconv.ParseUint(name, 10, 31)
			if err != nil || name != strconv.FormatUint(fd, 10) {
				return nil
			}
			if _, e := kernel.Cloexec(uintptr(fd)); e != 0 {
				return nil
			}
			at := now()
			n := &inode{num: 1<<32 + fd, mode: linux.S_IFLNK | 0o700, nlink: 1, proc: true, atime: at, mtime: at, ctime: at}
			n.dyn = &dynamic{
				link:  func() string { return t.fdText(uintptr(fd)) },
				magic: func() (place, linux.Errno) { return t.fdPlace(uintptr(fd)) },
			}
			return n
		},
	}
}

// fdDesc runs f on a descriptor's description, without the mutex: dropping the
// last reference releases the file, which may take it.
func (t *Tree) fdDesc(fd uintptr, f func(d *kernel.Desc)) linux.Errno {
	t.mu.Unlock()
	defer t.mu.Lock()
	d, e := kernel.Get(fd)
	if e != 0 {
		return linux.ENOENT
	}
	f(d)
	d.Put()
	return 0
}

// fdText is the text of a link in /proc/self/fd.
func (t *Tree) fdText(fd uintptr) string {
	var p place
	var s string
	t.fdDesc(fd, func(d *kernel.Desc) {
		if l, ok := d.File.(located); ok {
			p = l.location().p
			return
		}
		var st linux.Stat
		d.Stat(&st)
		ino := strconv.FormatUint(st.Ino, 10)
		switch st.Mode & linux.S_IFMT {
		case linux.S_IFSOCK:
			s = "socket:[" + ino + "]"
		case linux.S_IFIFO:
			s = "pipe:[" + ino + "]"
		case linux.S_IFCHR:
			s = "/dev/tty"
		default:
			s = "anon_inode:[noyau]"
		}
	})
	if s != "" {
		return s
	}
	return t.placePath(p)
}

// placePath is the absolute path of a place.
func (t *Tree) placePath(p place) string {
	if p.mnt == nil {
		if p.ent == nil && p.ino != t.root {
			return "/tmp/#" + strconv.FormatUint(t.inodeNum(p.ino), 10) + " (deleted)"
		}
		return t.pathOf(p.ent)
	}
	m := p.mnt.path
	switch {
	case p.rel == "":
		return m
	case m == "/":
		return m + p.rel
	}
	return m + "/" + p.rel
}

func (t *Tree) inodeNum(n *inode) uint64 {
	if n == nil {
		return 0
	}
	return n.num
}

// fdPlace is where a link of /proc/self/fd leads: the place of the open file,
// or the open file itself if it has none.
func (t *Tree) fdPlace(fd uintptr) (p place, e linux.Errno) {
	e = t.fdDesc(fd, func(d *kernel.Desc) {
		if l, ok := d.File.(located); ok {
			p = l.location().p
			p.kind, p.slash, p.slow = lastRoot, false, true
			return
		}
		var st linux.Stat
		d.Stat(&st)
		n := &inode{num: st.Ino, mode: st.Mode, nlink: 1, proc: true, rdev: st.Rdev}
		if n.mode&linux.S_IFMT == 0 {
			n.mode |= linux.S_IFREG
		}
		n.dyn = &dynamic{open: func(uint32) (kernel.File, linux.Errno) {
			if n.kind() == linux.S_IFSOCK {
				return nil, linux.ENXIO
			}
			d, e := kernel.Get(fd)
			if e != 0 {
				return nil, linux.ENOENT
			}
			return &reopened{File: d.File, d: d}, 0
		}}
		p = place{ino: n, kind: lastRoot}
	})
	return p, e
}
