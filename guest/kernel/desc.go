package kernel

import (
	"sync"
	"sync/atomic"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A Desc is an open file description: a file, its status flags, and how many
// descriptors and calls under way refer to it.
type Desc struct {
	File
	refs   atomic.Int32
	flags  atomic.Uint32
	hooks  map[any]func() // guarded by hooksMu
	polled int32          // the descriptor that the runtime's poller has, plus one; guarded by attached.mu
}

var hooksMu sync.Mutex

// SetHook makes f run just before d's file is released; a nil f takes the hook
// of that key away again.
func (d *Desc) SetHook(key any, f func()) {
	hooksMu.Lock()
	defer hooksMu.Unlock()
	switch {
	case f == nil:
		delete(d.hooks, key)
	case d.hooks == nil:
		d.hooks = map[any]func(){key: f}
	default:
		d.hooks[key] = f
	}
}

// statusFlags are the flags of open that a description keeps.
const statusFlags = linux.O_ACCMODE | settable | linux.O_DSYNC | linux.O_SYNC | linux.O_PATH | linux.O_DIRECTORY | linux.O_LARGEFILE | linux.O_NOFOLLOW | linux.O_TMPFILE

// settable are the flags that fcntl F_SETFL changes.
const settable = linux.O_APPEND | linux.O_NONBLOCK | linux.O_ASYNC | linux.O_DIRECT | linux.O_NOATIME

// Flags returns the status flags, access mode included.
func (d *Desc) Flags() uint32 { return d.flags.Load() }

// Nonblock reports whether O_NONBLOCK is set.
func (d *Desc) Nonblock() bool { return d.flags.Load()&linux.O_NONBLOCK != 0 }

// SetFlags changes the flags that fcntl can change.
func (d *Desc) SetFlags(flags uint32) {
	n := d.flags.Load()&^settable | flags&settable
	d.flags.Store(n)
	if s, ok := d.File.(FlagSetter); ok {
		s.SetFlags(n)
	}
}

// Readable and Writable report the access mode.
func (d *Desc) Readable() bool {
	return d.flags.Load()&(linux.O_ACCMODE|linux.O_PATH) != linux.O_WRONLY && d.flags.Load()&linux.O_PATH == 0
}
func (d *Desc) Writable() bool {
	f := d.flags.Load()
	return f&linux.O_ACCMODE != linux.O_RDONLY && f&linux.O_PATH == 0
}

// NewDesc returns a description with one reference, in no table. Descriptors
// that travel over unix sockets are held so.
func NewDesc(f File, flags uint32) *Desc {
	d := &Desc{File: f}
	d.refs.Store(1)
	d.flags.Store(flags & statusFlags)
	return d
}

// Hold adds a reference; false if the last one is gone already.
func (d *Desc) Hold() bool {
	for {
		n := d.refs.Load()
		if n <= 0 {
			return false
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Put drops a reference. The last one releases the file, and it may be a call
// under way rather than close that has it.
func (d *Desc) Put() {
	if d.refs.Add(-1) == 0 {
		hooksMu.Lock()
		hooks := d.hooks
		d.hooks = nil
		hooksMu.Unlock()
		for _, f := range hooks {
			f()
		}
		d.File.Release()
	}
}

// Block runs op again and again until it gives something else than EAGAIN,
// waiting for events in between, unless d is in nonblocking mode. deadline is of
// rt.Nanotime; 0 means none; EAGAIN is what a timeout gives, as SO_RCVTIMEO does.
func (d *Desc) Block(events uint32, deadline int64, op func() linux.Errno) linux.Errno {
	for {
		e := op()
		if e != linux.EAGAIN || d.Nonblock() {
			return e
		}
		if Wait(d.File, events, deadline) != 0 {
			return linux.EAGAIN
		}
	}
}

// Read reads, and waits if d is in blocking mode.
func (d *Desc) Read(p []byte) (int, linux.Errno) {
	for {
		n, e := d.File.Read(p)
		if e != linux.EAGAIN || d.Nonblock() {
			return n, e
		}
		Wait(d.File, rt.In, 0)
	}
}

// Write writes; in blocking mode all of p, unless an error comes between.
func (d *Desc) Write(p []byte) (int, linux.Errno) {
	n, e := d.File.Write(p)
	if d.Nonblock() || e == 0 && n == len(p) || e != 0 && e != linux.EAGAIN {
		return n, e
	}
	total := n
	for {
		if e == linux.EAGAIN {
			Wait(d.File, rt.Out, 0)
		}
		n, e = d.File.Write(p[total:])
		if e == 0 {
			total += n
		}
		switch {
		case e == linux.EAGAIN && !d.Nonblock():
		case e != 0 && total > 0, total == len(p), e == 0 && n == 0:
			return total, 0
		case e != 0:
			return 0, e
		}
	}
}
