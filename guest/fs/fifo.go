package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// NewPipe makes the FIFO behind a name. The events brick sets it; without it
// opening a FIFO is ENXIO.
var NewPipe func() Pipe

// A Pipe is what a FIFO's openers share.
type Pipe interface {
	// Open opens an end as open(2) of a FIFO does, parking until there is the
	// other end. The file must answer Stat by itself only if nothing better
	// is known.
	Open(flags uint32) (kernel.File, linux.Errno)
}

// openFifo opens a named pipe. The mutex is given up meanwhile.
func (t *Tree) openFifo(p place, flags uint32) (kernel.File, linux.Errno) {
	n := p.ino
	if n.pipe == nil {
		if NewPipe == nil {
			return nil, linux.ENXIO
		}
		n.pipe = NewPipe()
	}
	n.opens++
	t.mu.Unlock()
	f, e := n.pipe.Open(flags)
	t.mu.Lock()
	if e != 0 {
		n.opens--
		t.unref(n)
		return nil, e
	}
	t.eventOn(n, p.ent, inOpen)
	return &fifoFile{File: f, anyFile: anyFile{Location{p}, t}}, 0
}

// A fifoFile is an end of a pipe that has a name, and so attributes of its own.
type fifoFile struct {
	kernel.File
	anyFile
}

func (f *fifoFile) Stat(st *linux.Stat) linux.Errno { return f.anyFile.Stat(st) }

func (f *fifoFile) Release() {
	f.File.Release()
	f.t.mu.Lock()
	f.p.ino.opens--
	f.t.unref(f.p.ino)
	f.t.mu.Unlock()
}

// SetFlags passes on fcntl F_SETFL.
func (f *fifoFile) SetFlags(flags uint32) {
	if s, ok := f.File.(kernel.FlagSetter); ok {
		s.SetFlags(flags)
	}
}
