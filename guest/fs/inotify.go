package fs

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

const (
	maxEvents  = 16384 // queued per instance, as fs.inotify.max_queued_events
	maxWatches = 65536
)

// A watch is one inode watched by one instance. The tree's mutex guards it.
type watch struct {
	in   *inotify
	n    *inode
	wd   int32
	mask uint32
}

// An inotify is an inotify instance.
type inotify struct {
	kernel.Base
	t       *Tree
	watches map[int32]*watch // guarded by the tree's mutex
	lastWD  int32

	mu     sync.Mutex // guards events; taken with the tree's mutex held, never the other way
	events []inEvent
	bytes  int
	queue  kernel.WaitQueue
}

type inEvent struct {
	wd           int32
	mask, cookie uint32
	name         string
}

// size is that of struct inotify_event with its name, padded to a multiple of
// its 16 bytes.
func (e *inEvent) size() int {
	if e.name == "" {
		return 16
	}
	return 16 + (len(e.name)+1+15)&^15
}

// NewInotify makes an instance without watches.
func (t *Tree) NewInotify() kernel.File {
	return &inotify{t: t, watches: make(map[int32]*watch)}
}

// post queues an event, unless it equals the last one. A full queue gets one
// IN_Q_OVERFLOW and then nothing until it is read.
func (in *inotify) post(wd int32, mask, cookie uint32, name string) {
	e := inEvent{wd, mask, cookie, name}
	in.mu.Lock()
	n := len(in.events)
	if n > 0 && in.events[n-1] == e || n > maxEvents {
		in.mu.Unlock()
		return
	}
	if n == maxEvents {
		e = inEvent{wd: -1, mask: inQOverflow}
	}
	in.events = append(in.events, e)
	in.bytes += e.size()
	in.mu.Unlock()
	in.queue.Notify(rt.In)
}

func (in *inotify) Read(p []byte) (int, linux.Errno) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.events) == 0 {
		return 0, linux.EAGAIN
	}
	k, n := 0, 0
	for k < len(in.events) {
		e := &in.events[k]
		size := e.size()
		if n+size > len(p) {
			break
		}
		b := p[n : n+size]
		clear(b)
		put32(b, uint32(e.wd))
		put32(b[4:], e.mask)
		put32(b[8:], e.cookie)
		put32(b[12:], uint32(size-16))
		copy(b[16:], e.name)
		n += size
		k++
	}
	if k == 0 {
		return 0, linux.EINVAL
	}
	in.bytes -= n
	if k == len(in.events) {
		in.events = nil
	} else {
		in.events = in.events[k:]
	}
	return n, 0
}

func put32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}

func (in *inotify) Write([]byte) (int, linux.Errno) { return 0, linux.EBADF }

func (in *inotify) Ready() uint32 {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.events) > 0 {
		return rt.In
	}
	return 0
}

func (in *inotify) Queue() *kernel.WaitQueue { return &in.queue }

func (in *inotify) Ioctl(req, arg uintptr) (uintptr, linux.Errno) {
	if req != linux.FIONREAD {
		return 0, linux.ENOTTY
	}
	in.mu.Lock()
	n := in.bytes
	in.mu.Unlock()
	if arg == 0 {
		return 0, linux.EFAULT
	}
	return 0, kernel.Put(arg, int32(n))
}

func (in *inotify) Release() {
	in.t.mu.Lock()
	for _, w := range in.watches {
		in.t.dropWatch(w)
	}
	in.watches = nil
	in.t.mu.Unlock()
}
