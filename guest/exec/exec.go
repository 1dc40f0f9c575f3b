// Package exec is the brick of programs that start others (os/exec): the monitor starts
// an image as a sibling pVM. It is linked if the program has syscall.StartProcess in it.
package exec

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/fs"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A Child is what is to be started.
type Child struct {
	Path      string // of a file that stands for an image; relative to Dir
	Args, Env []string
	Dir       string    // "": the working directory
	Files     []uintptr // by descriptor in the child; ^0: closed
	DeathSig  uint32    // what the child gets when this pVM ends
	Group     uint64    // 0: that of this pVM; Group, Session, Join
	Join      uint64    // a group
}

// What Child.Group may be, for package syscall.
const (
	Group   = abi.ExecGroup
	Session = abi.ExecSession
	Join    = abi.ExecJoin
)

var starts sync.Mutex

// Start starts c and returns its process id.
func Start(c *Child) (pid uint32, errno linux.Errno) {
	if c.Dir != "" && c.Path != "" && c.Path[0] != '/' {
		c.Path = c.Dir + "/" + c.Path // natively the child goes there first
	}
	if rt.Boot().Flags&abi.BootFamily == 0 {
		if _, _, e := fs.Executable(c.Path); e != 0 {
			return 0, e
		}
		return 0, linux.EACCES
	}
	dir, e := fs.Workdir(c.Dir)
	if e != 0 {
		return 0, e
	}
	name, path, e := fs.Executable(c.Path)
	if e != 0 {
		return 0, e
	}
	if len(c.Files) > abi.ExecFilesMax {
		return 0, linux.EMFILE
	}
	// What is wrong with a descriptor shows before anything is asked.
	files := make([]*kernel.Desc, len(c.Files))
	defer func() {
		for _, d := range files {
			if d != nil {
				d.Put()
			}
		}
	}()
	for i, fd := range c.Files {
		if fd == ^uintptr(0) {
			continue
		}
		if files[i], e = kernel.Get(fd); e != 0 {
			return 0, e
		}
	}
	// One at a time, as natively: the monitor bounds what is under preparation.
	starts.Lock()
	defer starts.Unlock()
	r, e := host.Request(abi.Msg{Op: abi.OpExecNew}, abi.AppendString(nil, name))
	if e != 0 {
		return 0, e
	}
	s := starting{number: r.A}
	defer func() {
		if errno != 0 {
			host.Post(abi.Msg{Op: abi.OpExecDrop, A: s.number})
			s.drop()
		}
	}()
	for kind, list := range [...][]string{abi.ExecArgs: c.Args, abi.ExecEnv: c.Env, abi.ExecDir: {dir}, abi.ExecPath: {path}} {
		if e := s.text(uint64(kind), list); e != 0 {
			return 0, e
		}
	}
	for i := range max(3, len(files)) {
		var d *kernel.Desc
		if i < len(files) {
			d = files[i]
		}
		if d == nil && i > 2 {
			continue
		}
		if i == 2 && s.piped && d == files[1] {
			_, e = host.Request(abi.Msg{Op: abi.OpExecFile, A: s.number, B: 2, C: abi.ExecLike, Handle: 1})
		} else {
			e = s.file(uint64(i), d)
		}
		if e != 0 {
			return 0, e
		}
	}
	// Children are known by their pumps before anybody can wait for them.
	pumps.mu.Lock()
	defer pumps.mu.Unlock()
	if r, e = host.Request(abi.Msg{Op: abi.OpExecStart, A: s.number, B: uint64(c.DeathSig), C: c.Group, D: c.Join}); e != 0 {
		return 0, e
	}
	s.begin(uint32(r.A))
	return uint32(r.A), 0
}

// A starting is a child that is being prepared.
type starting struct {
	number uint64
	pumps  []*pump
	piped  bool // standard output is a pipe
}

// text sends strings, in as many messages as are needed.
func (s *starting) text(kind uint64, list []string) linux.Errno {
	var b []byte
	flush := func() linux.Errno {
		if len(b) == 0 {
			return 0
		}
		_, e := host.Request(abi.Msg{Op: abi.OpExecText, A: s.number, B: kind}, b)
		b = b[:0]
		return e
	}
	for _, v := range list {
		if len(v) > abi.MaxPayload-2 {
			return linux.E2BIG
		}
		if len(b)+2+len(v) > abi.MaxPayload {
			if e := flush(); e != 0 {
				return e
			}
		}
		b = abi.AppendString(b, v)
	}
	return flush()
}

// file says what descriptor n of the child is.
func (s *starting) file(n uint64, d *kernel.Desc) linux.Errno {
	m := abi.Msg{Op: abi.OpExecFile, A: s.number, B: n}
	if d == nil || isNull(d) {
		m.C = abi.ExecNull
		_, e := host.Request(m)
		return e
	}
	if h, ok := d.File.(kernel.HostStream); ok {
		handle, std := h.HostStream()
		m.C, m.D = abi.ExecSame, uint64(std+1)
		if _, e := host.RequestWith(m, handle); e != linux.EINVAL {
			return e
		}
		m.D = 0 // messages, not a stream
	}
	if l, ok := d.File.(kernel.HostListener); ok && n > 2 {
		if handle, name, about := l.HostListener(); name != 0 {
			m.C, m.Handle = abi.ExecListener, name
			_, e := host.RequestWith(m, handle, about)
			return e
		}
	}
	m.C = abi.ExecPipe
	r, e := host.Request(m)
	if e != 0 {
		return e
	}
	s.piped = s.piped || n == 1
	if d.Ready()&rt.Err != 0 && d.Queue() != nil { // broken: the child's is too, from the start
		host.Close(r.FD)
		host.Post(abi.Msg{Op: abi.OpUnshare, A: abi.ShareNowhere, B: r.A})
		return 0
	}
	p, e := newPump(r.FD, r.A, d, n)
	if e == 0 {
		s.pumps = append(s.pumps, p)
	}
	return e
}

// isNull reports whether d is /dev/null.
func isNull(d *kernel.Desc) bool {
	var st linux.Stat
	return d.Stat(&st) == 0 && st.Mode&linux.S_IFMT == linux.S_IFCHR && st.Rdev == 1<<8|3
}
