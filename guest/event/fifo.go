package event

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A Fifo is what a named pipe's openers share. Its pipe lasts as long as anybody
// has it open. The zero value is ready for use.
type Fifo struct {
	pipe             pipe
	readers, writers int // descriptions; guarded by pipe.mu, as is the rest
	rOpens, wOpens   int // how often it was opened so
	opened           kernel.WaitQueue
}

// A fifoEnd is one description of a named pipe, for reading, writing or both.
type fifoEnd struct {
	kernel.Base
	f            *Fifo
	r            readEnd
	w            writeEnd
	reads, write bool
}

// Open opens an end as open(2) of a FIFO does: unless O_NONBLOCK is set it parks
// until the other end is opened. ENXIO for a nonblocking writer without reader.
func (f *Fifo) Open(flags uint32) (kernel.File, linux.Errno) {
	e := &fifoEnd{f: f, r: readEnd{pipe: &f.pipe}, w: writeEnd{pipe: &f.pipe}}
	e.reads = flags&linux.O_ACCMODE != linux.O_WRONLY
	e.write = flags&linux.O_ACCMODE != linux.O_RDONLY
	p := &f.pipe
	p.mu.Lock()
	if e.write && !e.reads && f.readers == 0 && flags&linux.O_NONBLOCK != 0 {
		p.mu.Unlock()
		return nil, linux.ENXIO
	}
	if f.readers+f.writers == 0 {
		p.size, p.noReader, p.noWriter = pipeDefault, true, true
		p.ino = 1000 + pipeIno.Add(1)
	}
	if e.reads {
		f.readers++
		f.rOpens++
		p.noReader = false
	}
	if e.write {
		f.writers++
		f.wOpens++
		p.noWriter = false
	}
	other, at, there := &f.wOpens, f.wOpens, f.writers > 0
	if e.write {
		other, at, there = &f.rOpens, f.rOpens, f.readers > 0
	}
	p.mu.Unlock()
	f.opened.Notify(rt.In)
	p.wq.Notify(rt.Out)
	if there || flags&linux.O_NONBLOCK != 0 {
		return e, 0
	}
	park := kernel.GetParker()
	w := &kernel.Watcher{Mask: rt.In, To: park}
	f.opened.Add(w)
	for {
		p.mu.Lock()
		came := *other != at
		p.mu.Unlock()
		if came {
			break
		}
		park.Park(0)
	}
	f.opened.Remove(w)
	park.Put()
	return e, 0
}

func (e *fifoEnd) Read(b []byte) (int, linux.Errno)  { return e.r.Read(b) }
func (e *fifoEnd) Write(b []byte) (int, linux.Errno) { return e.w.Write(b) }

func (e *fifoEnd) Ready() (ev uint32) {
	if e.reads {
		ev = e.r.Ready()
		e.f.pipe.mu.Lock()
		if e.f.wOpens == 0 {
			ev &^= rt.Hup // nobody has hung up yet
		}
		e.f.pipe.mu.Unlock()
	}
	if e.write {
		ev |= e.w.Ready()
	}
	return ev
}

// Queue is that of the reading side for a description of both: what is written
// to it is read from it.
func (e *fifoEnd) Queue() *kernel.WaitQueue {
	if e.reads {
		return &e.f.pipe.rq
	}
	return &e.f.pipe.wq
}

func (e *fifoEnd) Stat(st *linux.Stat) linux.Errno               { return e.f.pipe.stat(st) }
func (e *fifoEnd) Ioctl(req, arg uintptr) (uintptr, linux.Errno) { return e.f.pipe.ioctl(req, arg) }
func (e *fifoEnd) PipeSize(n int) (int, linux.Errno)             { return e.f.pipe.PipeSize(n) }

func (e *fifoEnd) Release() {
	f, p := e.f, &e.f.pipe
	p.mu.Lock()
	var rev, wev uint32
	if e.reads {
		if f.readers--; f.readers == 0 {
			p.noReader, wev = true, rt.Err|rt.Out
		}
	}
	if e.write {
		if f.writers--; f.writers == 0 {
			p.noWriter, rev = true, rt.Hup|rt.In
		}
	}
	if f.readers+f.writers == 0 {
		p.buf, p.off, p.n = nil, 0, 0
	}
	p.mu.Unlock()
	if rev != 0 {
		p.rq.Notify(rev)
	}
	if wev != 0 {
		p.wq.Notify(wev)
	}
}
