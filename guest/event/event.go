// Package event is the brick of files that are only events: pipes, eventfd,
// timerfd, signalfd, epoll, and the calls poll and select. It is linked if the
// program can make one.
package event

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Start registers the brick's system calls, and the pipes behind names.
func Start() {
	startPipes()
	startEventfd()
	startTimerfd()
	startSignalfd()
	startEpoll()
	startPoll()
	kernel.NewFifo = func() kernel.Fifo { return new(Fifo) }
}

// anon describes an object without a name.
func anon(st *linux.Stat, dev, ino uint64, mode uint32) {
	now := linux.NsecToTimespec(kernel.StartTime())
	*st = linux.Stat{Dev: dev, Ino: ino, Nlink: 1, Mode: mode, UID: kernel.UID(), GID: kernel.GID(), Blksize: 4096,
		Atim: now, Mtim: now, Ctim: now}
}

func put64(p []byte, v uint64) {
	for i := range 8 {
		p[i] = byte(v >> (8 * i))
	}
}

func get64(p []byte) (v uint64) {
	for i := range 8 {
		v |= uint64(p[i]) << (8 * i)
	}
	return v
}
