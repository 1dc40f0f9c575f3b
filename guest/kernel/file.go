// Package kernel is the core of the library OS: open files, the table of
// descriptors, waiting, and the dispatcher of system calls. Bricks (files,
// sockets, events) register their calls and their kinds of file here.
//
// Locking: each object has its own mutex. Never call WaitQueue.Notify while
// holding a mutex that a File.Ready of the same object takes: Notify runs the
// watchers, and a watcher may ask Ready.
package kernel

import (
	"noyau.dev/guest/linux"
)

// File is what a descriptor refers to: Linux calls it an open file description.
// Implementations embed Base, which answers every optional call with the error
// that Linux gives for a file of the wrong kind.
//
// Read and Write never block: they return EAGAIN, and the kernel waits on Queue
// if the description is in blocking mode, then calls again.
type File interface {
	// Read and Write use and move the file's own position, if it has one.
	Read(p []byte) (int, linux.Errno)
	Write(p []byte) (int, linux.Errno)
	// Pread and Pwrite take a position; ESPIPE for files that have none.
	Pread(p []byte, off int64) (int, linux.Errno)
	Pwrite(p []byte, off int64) (int, linux.Errno)
	Lseek(off int64, whence int) (int64, linux.Errno)
	Stat(st *linux.Stat) linux.Errno
	// Ready returns the readiness bits (rt.In …) of this moment.
	Ready() uint32
	// Queue is notified at each change of Ready from not ready to ready. A nil
	// queue means always ready (regular files): epoll_ctl answers EPERM.
	Queue() *WaitQueue
	// Ioctl answers ioctl(2); ENOTTY if it knows no such request.
	Ioctl(req, arg uintptr) (uintptr, linux.Errno)
	// Release is called once, when the last descriptor is closed.
	Release()
}

// PDAttacher is implemented by files backed by a host handle: the runtime's
// poller is then attached to the rt.Source itself, the fast path. Others are
// attached through their Queue. A file has several registrations when its
// descriptor was duplicated (net.TCPConn.File), so each is detached by itself.
type PDAttacher interface {
	AttachPD(pd uintptr)
	DetachPD(pd uintptr)
}

// Blocking waits are interrupted by nothing: signals reach the app through
// os/signal, on other goroutines, as in a Go program with SA_RESTART.
