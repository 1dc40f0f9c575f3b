package fs

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// openFifo opens a named pipe. The mutex is given up meanwhile.
func (t *Tree) openFifo(p place, flags uint32) (kernel.File, linux.Errno) {
	n := p.ino
	if n.fifo == nil {
		if kernel.NewFifo == nil {
			return nil, linux.ENXIO
		}
		n.fifo = kernel.NewFifo()
	}
	n.opens++
	t.mu.Unlock()
	f, e := n.fifo.Open(flags)
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
func (f *fifoFile) Sync(bool) linux.Errno           { return linux.EINVAL }

func (f *fifoFile) Write(p []byte) (int, linux.Errno) {
	n, e := f.File.Write(p)
	if n > 0 {
		f.t.mu.Lock()
		f.p.ino.modified()
		f.t.eventOn(f.p.ino, f.p.ent, inModify)
		f.t.mu.Unlock()
	}
	return n, e
}

func (f *fifoFile) PipeSize(n int) (int, linux.Errno) {
	return f.File.(kernel.PipeSizer).PipeSize(n)
}

func (f *fifoFile) Flock(op int) linux.Errno { return f.t.flock(f.p.ino, f, op) }

func (f *fifoFile) Release() {
	f.File.Release()
	f.t.mu.Lock()
	if l := f.p.ino.locks; l != nil {
		l.release(f)
	}
	f.p.ino.opens--
	f.t.unref(f.p.ino)
	f.t.mu.Unlock()
}
