package event

import (
	"sync"
	"sync/atomic"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func startPipes() {
	kernel.Register(linux.SYS_PIPE, func(a kernel.Args) (uintptr, linux.Errno) { return 0, pipe2(a.A1, 0) })
	kernel.Register(linux.SYS_PIPE2, func(a kernel.Args) (uintptr, linux.Errno) { return 0, pipe2(a.A1, uint32(a.A2)) })
}

const (
	pipeFirst   = 4 << 10  // bytes of the buffer to begin with
	pipeDefault = 64 << 10 // capacity, as on Linux
	pipeMost    = 1 << 20
)

// A pipe is a ring of bytes. Its buffer grows to the capacity as needed.
type pipe struct {
	mu       sync.Mutex
	buf      []byte
	off, n   int // n bytes from off on
	size     int // capacity
	noReader bool
	noWriter bool
	ino      uint64
	rq, wq   kernel.WaitQueue
}

// The two ends. Each is one file, however many descriptors it has.
type (
	readEnd struct {
		kernel.Base
		*pipe
	}
	writeEnd struct {
		kernel.Base
		*pipe
	}
)

var pipeIno atomic.Uint64

// NewPipe returns the read and the write end of a new pipe.
func NewPipe() (r, w kernel.File) {
	p := &pipe{size: pipeDefault, ino: 1000 + pipeIno.Add(1)}
	return &readEnd{pipe: p}, &writeEnd{pipe: p}
}

func pipe2(addr uintptr, flags uint32) linux.Errno {
	if flags&^(linux.O_CLOEXEC|linux.O_NONBLOCK|linux.O_DIRECT) != 0 {
		return linux.EINVAL
	}
	if flags&linux.O_DIRECT != 0 {
		return linux.EOPNOTSUPP // packet mode
	}
	fds, e := kernel.Ptr[[2]int32](addr)
	if e != 0 {
		return e
	}
	r, w := NewPipe()
	rfd, e := kernel.Install(r, flags|linux.O_RDONLY)
	if e != 0 {
		return e
	}
	wfd, e := kernel.Install(w, flags|linux.O_WRONLY)
	if e != 0 {
		kernel.Close(rfd)
		return e
	}
	*fds = [2]int32{int32(rfd), int32(wfd)}
	return 0
}

func (f *readEnd) Read(b []byte) (int, linux.Errno) {
	p := f.pipe
	p.mu.Lock()
	if p.n == 0 && len(b) > 0 {
		defer p.mu.Unlock()
		if p.noWriter {
			return 0, 0
		}
		return 0, linux.EAGAIN
	}
	full := p.size-p.n < linux.PIPE_BUF
	n := 0
	for n < len(b) && p.n > 0 {
		c := copy(b[n:], p.buf[p.off:min(p.off+p.n, len(p.buf))])
		n += c
		p.n -= c
		if p.off += c; p.off == len(p.buf) {
			p.off = 0
		}
	}
	room := full && p.size-p.n >= linux.PIPE_BUF
	if p.n == 0 {
		p.off = 0
	}
	p.mu.Unlock()
	if room {
		p.wq.Notify(rt.Out)
	}
	return n, 0
}

func (f *writeEnd) Write(b []byte) (int, linux.Errno) {
	p := f.pipe
	p.mu.Lock()
	room := p.size - p.n
	switch {
	case p.noReader:
		p.mu.Unlock()
		return 0, linux.EPIPE
	case len(b) == 0:
		p.mu.Unlock()
		return 0, 0
	case room == 0, len(b) <= linux.PIPE_BUF && room < len(b):
		p.mu.Unlock()
		return 0, linux.EAGAIN // PIPE_BUF bytes go in whole
	}
	b = b[:min(len(b), room)]
	p.reserve(p.n + len(b))
	n := 0
	for n < len(b) {
		at := p.off + p.n
		if at >= len(p.buf) {
			at -= len(p.buf)
		}
		end := len(p.buf)
		if at < p.off {
			end = p.off
		}
		c := copy(p.buf[at:end], b[n:])
		n += c
		p.n += c
	}
	p.mu.Unlock()
	p.rq.Notify(rt.In)
	return n, 0
}

// reserve makes the buffer hold n bytes. mu is held.
func (p *pipe) reserve(n int) {
	if n <= len(p.buf) {
		return
	}
	size := max(len(p.buf), pipeFirst)
	for size < n {
		size *= 2
	}
	b := make([]byte, size)
	c := copy(b, p.buf[p.off:min(p.off+p.n, len(p.buf))])
	copy(b[c:], p.buf[:p.n-c])
	p.buf, p.off = b, 0
}

func (f *readEnd) Ready() (ev uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n > 0 {
		ev = rt.In
	}
	if f.noWriter {
		ev |= rt.Hup
	}
	return ev
}

func (f *writeEnd) Ready() (ev uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.size-f.n >= linux.PIPE_BUF {
		ev = rt.Out
	}
	if f.noReader {
		ev |= rt.Err
	}
	return ev
}

func (f *readEnd) Queue() *kernel.WaitQueue  { return &f.rq }
func (f *writeEnd) Queue() *kernel.WaitQueue { return &f.wq }

func (f *readEnd) Release() {
	f.mu.Lock()
	f.noReader, f.buf, f.n, f.off = true, nil, 0, 0
	f.mu.Unlock()
	f.wq.Notify(rt.Err | rt.Out)
}

func (f *writeEnd) Release() {
	f.mu.Lock()
	f.noWriter = true
	f.mu.Unlock()
	f.rq.Notify(rt.Hup | rt.In)
}

func (p *pipe) stat(st *linux.Stat) linux.Errno {
	anon(st, 14, p.ino, linux.S_IFIFO|0600)
	return 0
}

func (f *readEnd) Stat(st *linux.Stat) linux.Errno  { return f.stat(st) }
func (f *writeEnd) Stat(st *linux.Stat) linux.Errno { return f.stat(st) }

func (p *pipe) ioctl(req, arg uintptr) (uintptr, linux.Errno) {
	if req != linux.FIONREAD {
		return 0, linux.ENOTTY
	}
	p.mu.Lock()
	n := p.n
	p.mu.Unlock()
	v, e := kernel.Ptr[int32](arg)
	if e == 0 {
		*v = int32(n)
	}
	return 0, e
}

func (f *readEnd) Ioctl(req, arg uintptr) (uintptr, linux.Errno)  { return f.ioctl(req, arg) }
func (f *writeEnd) Ioctl(req, arg uintptr) (uintptr, linux.Errno) { return f.ioctl(req, arg) }

// PipeSize implements kernel.PipeSizer for both ends.
func (p *pipe) PipeSize(n int) (int, linux.Errno) {
	p.mu.Lock()
	if n == 0 {
		defer p.mu.Unlock()
		return p.size, 0
	}
	size := linux.PIPE_BUF
	for size < n {
		size *= 2
	}
	var e linux.Errno
	switch {
	case size > pipeMost:
		e = linux.EPERM
	case size < p.n:
		e = linux.EBUSY
	default:
		p.size = size
	}
	p.mu.Unlock()
	if e != 0 {
		return 0, e
	}
	p.wq.Notify(rt.Out)
	return size, 0
}

func (f *readEnd) Statfs(st *linux.Statfs) linux.Errno  { return pipefs(st) }
func (f *writeEnd) Statfs(st *linux.Statfs) linux.Errno { return pipefs(st) }

func pipefs(st *linux.Statfs) linux.Errno {
	*st = linux.Statfs{Type: linux.PIPEFS_MAGIC, Bsize: 4096, Frsize: 4096, Namelen: linux.NAME_MAX}
	return 0
}
