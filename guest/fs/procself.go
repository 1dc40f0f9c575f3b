package fs

import (
	"runtime"
	"strconv"
	"strings"

	"noyau.dev/abi"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// fillSelf makes /proc/<pid>, of the only process that there is.
func (t *Tree) fillSelf(self *inode) {
	t.fillTask(self)
	task := t.procDir(self, "task")
	one := t.procDir(task, strconv.Itoa(pid()))
	one.dyn = &dynamic{fill: t.fillTask}
}

func (t *Tree) fillTask(self *inode) {
	t.procFile(self, "cmdline", func() []byte { return zeroTerminated(rt.Args()) })
	t.procFile(self, "environ", func() []byte { return zeroTerminated(rt.Environ()) })
	t.procFile(self, "comm", func() []byte { return []byte(comm() + "\n") })
	t.procFile(self, "status", procStatus)
	t.procFile(self, "stat", procStat)
	t.procFile(self, "statm", procStatm)
	t.procFile(self, "maps", procMaps)
	t.procFile(self, "limits", procLimits)
	t.procFile(self, "mountinfo", t.procMountinfo)
	t.procFile(self, "mounts", t.procMounts)
	t.procText(self, "cgroup", "0::/\n")
	t.procText(self, "oom_score", "0\n")
	t.procText(self, "oom_score_adj", "0\n")
	t.procText(self, "uid_map", "         0          0 4294967295\n")
	t.procText(self, "gid_map", "         0          0 4294967295\n")
	t.system(self, "exe", linux.S_IFLNK|0o777).dyn = &dynamic{link: exePath}
	t.procLink(self, "cwd", func() string { return t.placePath(t.cwd) }, func() (place, linux.Errno) {
		p := t.cwd
		p.kind = lastRoot
		return p, 0
	})
	t.procLink(self, "root", func() string { return "/" }, func() (place, linux.Errno) { return t.rootPlace(), 0 })
	t.fdDir(t.procDir(self, "fd"))
}

func zeroTerminated(list []string) []byte {
	var b []byte
	for _, s := range list {
		b = append(append(b, s...), 0)
	}
	return b
}

func arg0() string {
	if a := rt.Args(); len(a) > 0 {
		return a[0]
	}
	return "app"
}

// executable is where whoever has started this program has found it.
var executable string

// exePath is where the app's executable would be: the image itself is not in
// the pVM's file system.
func exePath() string {
	if executable != "" {
		return executable
	}
	a := arg0()
	if strings.HasPrefix(a, "/") {
		return a
	}
	return "/" + a[strings.LastIndexByte(a, '/')+1:]
}

func comm() string {
	a := arg0()
	a = a[strings.LastIndexByte(a, '/')+1:]
	return a[:min(len(a), 15)]
}

// memory is what the runtime has from the host, in bytes.
func memory() (virtual, resident uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys, m.Sys - m.HeapReleased
}

// field appends one line of /proc/self/status. It is called for each, and so not inlined.
//
//go:noinline
func field(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ":\t"...), value...), '\n')
}

//go:noinline
func kib(n uint64) string { return strconv.FormatUint(n>>10, 10) + " kB" }

func procStatus() []byte {
	virtual, resident := memory()
	h := rt.Boot()
	id := strconv.Itoa(pid())
	ids := func(v uint32) string {
		s := strconv.FormatUint(uint64(v), 10)
		return s + "\t" + s + "\t" + s + "\t" + s
	}
	b := field(nil, "Name", comm())
	b = field(b, "Umask", "0022")
	b = field(b, "State", "R (running)")
	b = field(b, "Tgid", id)
	b = field(b, "Ngid", "0")
	b = field(b, "Pid", id)
	b = field(b, "PPid", strconv.FormatUint(uint64(h.PPID), 10))
	b = field(b, "TracerPid", "0")
	b = field(b, "Uid", ids(h.UID))
	b = field(b, "Gid", ids(h.GID))
	b = field(b, "FDSize", strconv.Itoa(max(64, len(kernel.Open()))))
	b = field(b, "Groups", "")
	b = field(b, "VmPeak", kib(virtual))
	b = field(b, "VmSize", kib(virtual))
	b = field(b, "VmHWM", kib(resident))
	b = field(b, "VmRSS", kib(resident))
	b = field(b, "VmData", kib(virtual))
	b = field(b, "Threads", "1")
	b = field(b, "NoNewPrivs", "1")
	b = field(b, "Seccomp", "2")
	b = field(b, "Cpus_allowed", "1")
	b = field(b, "Cpus_allowed_list", "0")
	return b
}

// ticks converts ns to clock ticks of 1/100 s.
func ticks(ns int64) string { return strconv.FormatInt(ns/1e7, 10) }

var started = rt.Nanotime()

func procStat() []byte {
	virtual, resident := memory()
	b := strconv.AppendInt(nil, int64(pid()), 10)
	b = append(append(append(b, " ("...), comm()...), ") R "...)
	id := strconv.Itoa(pid())
	for _, s := range [...]string{
		strconv.FormatUint(uint64(rt.Boot().PPID), 10),
		id, id, // process group, session
		"0 -1 4194304 0 0 0 0", // terminal, its group, flags, page faults
		ticks(rt.CPUTime()),    // user time
		"0 0 0 20 0 1 0",       // system and children's time, priority, nice, threads, itrealvalue
		ticks(started),         // start, since boot
		strconv.FormatUint(virtual, 10),
		strconv.FormatUint(resident/abi.PageSize, 10),
		strconv.FormatUint(linux.RLIM_INFINITY, 10),
	} {
		b = append(append(b, s...), ' ')
	}
	return append(append(b, strings.Repeat("0 ", 26)...), "0\n"...)
}

func procStatm() []byte {
	virtual, resident := memory()
	b := strconv.AppendUint(nil, virtual/abi.PageSize, 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, resident/abi.PageSize, 10)
	b = append(b, " 0 0 0 "...)
	b = strconv.AppendUint(b, virtual/abi.PageSize, 10)
	return append(b, " 0\n"...)
}

// procMaps knows one mapping: the memory region.
func procMaps() []byte {
	virtual, _ := memory()
	end := uint64(abi.RegionBase) + (virtual+abi.PageSize-1)&^(abi.PageSize-1)
	b := strconv.AppendUint(nil, abi.RegionBase, 16)
	b = append(b, '-')
	b = strconv.AppendUint(b, end, 16)
	return append(b, " rw-p 00000000 00:00 0                          [heap]\n"...)
}

func procLimits() []byte {
	b := []byte("Limit                     Soft Limit           Hard Limit           Units     \n")
	for i, l := range [...][2]string{
		{"Max cpu time", "seconds"}, {"Max file size", "bytes"}, {"Max data size", "bytes"}, {"Max stack size", "bytes"},
		{"Max core file size", "bytes"}, {"Max resident set", "bytes"}, {"Max processes", "processes"},
		{"Max open files", "files"}, {"Max locked memory", "bytes"}, {"Max address space", "bytes"},
	} {
		r := &linux.Rlimit{Cur: linux.RLIM_INFINITY, Max: linux.RLIM_INFINITY}
		if f := kernel.Registered(linux.SYS_PRLIMIT64); f != nil {
			f(kernel.Args{A2: uintptr(i), A4: addrOf(r)})
		}
		for j, s := range [...]string{l[0], limitText(r.Cur), limitText(r.Max), l[1]} {
			b = append(append(b, s...), strings.Repeat(" ", max(0, [...]int{26, 21, 21, 10}[j]-len(s)))...)
		}
		b = append(b, '\n')
	}
	return b
}

func limitText(v uint64) string {
	if v == linux.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

// mountLines calls f for the in-memory file systems and the volumes.
func (t *Tree) mountLines(f func(id int, source, path, kind, opts string)) {
	f(20, "none", "/", "tmpfs", "rw,relatime")
	f(21, "proc", "/proc", "proc", "rw,relatime")
	t.mu.Lock()
	mounts := t.mounts
	t.mu.Unlock()
	for _, m := range mounts {
		opts := "rw,relatime"
		if m.ro {
			opts = "ro,relatime"
		}
		f(m.id, m.name, m.path, "noyau", opts)
	}
}

func (t *Tree) procMountinfo() (b []byte) {
	t.mountLines(func(id int, source, path, kind, opts string) {
		parent := 20
		if id == 20 {
			parent = 1
		}
		b = append(strconv.AppendInt(b, int64(id), 10), ' ')
		b = append(strconv.AppendInt(b, int64(parent), 10), " 0:"...)
		b = append(strconv.AppendInt(b, int64(id), 10), " / "...)
		b = append(b, escapePath(path)+" "+opts+" - "+kind+" "+escapePath(source)+" "+opts[:2]+"\n"...)
	})
	return b
}

func (t *Tree) procMounts() (b []byte) {
	t.mountLines(func(_ int, source, path, kind, opts string) {
		b = append(b, escapePath(source)+" "+escapePath(path)+" "+kind+" "+opts+" 0 0\n"...)
	})
	return b
}

// escapePath writes blanks as the tables of mounts do.
func escapePath(s string) string {
	if strings.IndexAny(s, " \t\n\\") < 0 {
		return s
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\n', '\\':
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
