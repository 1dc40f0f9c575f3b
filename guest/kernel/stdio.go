package kernel

import (
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A stdio is a standard descriptor. Its handle is the monitor's pump, a stream
// socket: nonblocking here, while the app's own O_NONBLOCK decides whether a
// call parks its goroutine. The handle is never given back, since the runtime
// prints panics to it.
type stdio struct {
	Base
	handle int32
	tty    bool
	watch  sync.Once
	source rt.Source
	queue  WaitQueue

	// state is readiness in the low 16 bits and a count of edges above them: a
	// call that found nothing clears its bit only if no edge came meanwhile.
	state atomic.Uint32

	// alone: nobody else has the socket, so closing the descriptor is the end for
	// whoever is at the other side. A fork ends that, and a child that is given it.
	alone atomic.Bool
}

// stdios are the three from the start.
var stdios [3]*stdio

// StdioAlone says that a standard stream is this pVM's only.
func StdioAlone(n uint32) {
	if n < uint32(len(stdios)) {
		stdios[n].alone.Store(true)
	}
}

// shareStdio is called before a fork.
func shareStdio() {
	for _, f := range stdios {
		f.alone.Store(false)
	}
}

// keepStdio shows the monitor what the standard streams are, for a snapshot of a family.
func keepStdio() {
	if rt.Boot().Flags&abi.BootFamily == 0 {
		return
	}
	for _, f := range stdios {
		host.RequestWith(abi.Msg{Op: abi.OpKeep, A: uint64(f.handle)}, f.handle)
	}
}

// Release implements File. The handle itself stays.
func (f *stdio) Release() {
	if f.alone.Swap(false) {
		host.RequestWith(abi.Msg{Op: abi.OpShut, A: linux.SHUT_RDWR}, f.handle)
	}
}

func newStdio(handle int32, tty bool) *stdio {
	f := &stdio{handle: handle, tty: tty}
	f.state.Store(rt.In | rt.Out)
	f.source = rt.Source{Slow: true, Notify: func(ev uint32) {
		for {
			s := f.state.Load()
			if f.state.CompareAndSwap(s, (s|ev&0xffff)+1<<16) {
				break
			}
		}
		f.queue.Notify(ev)
	}}
	return f
}

func (f *stdio) Read(p []byte) (int, linux.Errno) {
	if len(p) == 0 {
		return 0, 0
	}
	s := f.state.Load()
	n, e := host.Recv(f.handle, p, 0)
	if e == linux.EAGAIN {
		f.state.CompareAndSwap(s, s&^rt.In)
	}
	if e == linux.ECONNRESET {
		return 0, 0
	}
	return n, e
}

func (f *stdio) Write(p []byte) (int, linux.Errno) {
	if len(p) == 0 {
		return 0, 0
	}
	s := f.state.Load()
	n, e := host.Send(f.handle, p, 0)
	if e == linux.EAGAIN {
		f.state.CompareAndSwap(s, s&^rt.Out)
	}
	if e == linux.ECONNRESET {
		e = linux.EPIPE
	}
	return n, e
}

// Ready asks the host whether what may be readable is.
func (f *stdio) Ready() uint32 {
	s := f.state.Load()
	if s&rt.In != 0 {
		p := GetBuffer(1)
		n, e := host.Recv(f.handle, *p, linux.MSG_PEEK)
		PutBuffer(p)
		if e == linux.EAGAIN {
			f.state.CompareAndSwap(s, s&^rt.In)
			s &^= rt.In
		} else if n == 0 {
			s |= rt.Hup
		}
	}
	return s & (rt.In | rt.Out | rt.Hup | rt.Err)
}

// Queue begins to watch the handle: programs that only print never need it.
func (f *stdio) Queue() *WaitQueue {
	f.watch.Do(func() { rt.Watch(f.handle, &f.source) })
	return &f.queue
}

// HostStream implements HostStream.
func (f *stdio) HostStream() (handle int32, std int) {
	f.alone.Store(false)
	return f.handle, int(f.handle)
}

func (f *stdio) Stat(st *linux.Stat) linux.Errno {
	now := linux.NsecToTimespec(startTime)
	*st = linux.Stat{Dev: 13, Ino: 3 + uint64(f.handle), Nlink: 1, Mode: linux.S_IFIFO | 0600, UID: UID(), GID: GID(),
		Blksize: 4096, Atim: now, Mtim: now, Ctim: now}
	if f.tty {
		st.Dev, st.Ino, st.Mode, st.Rdev, st.Blksize = 24, 3, linux.S_IFCHR|0620, 136<<8, 1024
	}
	return 0
}

// winsize is the terminal's size: rows<<16 | columns.
var winsize atomic.Uint32

func (f *stdio) Ioctl(req, arg uintptr) (uintptr, linux.Errno) {
	if !f.tty {
		return 0, linux.ENOTTY
	}
	switch req {
	case linux.TIOCGWINSZ:
		w := winsize.Load()
		p, e := Ptr[linux.Winsize](arg)
		if e == 0 {
			*p = linux.Winsize{Row: uint16(w >> 16), Col: uint16(w)}
		}
		return 0, e
	case linux.TCGETS:
		p, e := Bytes(arg, termiosSize)
		if e != 0 {
			return 0, e
		}
		r, e := host.Request(abi.Msg{Op: abi.OpTermGet, A: uint64(f.handle)})
		if e == 0 && len(r.Payload) != termiosSize {
			e = linux.EIO
		}
		copy(p, r.Payload)
		return 0, e
	case linux.TCSETS, linux.TCSETSW, linux.TCSETSF:
		p, e := Bytes(arg, termiosSize)
		if e != 0 {
			return 0, e
		}
		_, e = host.Request(abi.Msg{Op: abi.OpTermSet, A: uint64(f.handle), B: uint64(req)}, p)
		return 0, e
	case linux.TIOCGPGRP, linux.TIOCGSID:
		p, e := Ptr[int32](arg)
		if e == 0 {
			*p = int32(PID())
		}
		return 0, e
	case linux.TIOCSPGRP:
		return 0, 0
	}
	return 0, linux.ENOTTY
}

const termiosSize = 36
