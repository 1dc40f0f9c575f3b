// Package event is the brick of files that are only events: pipes, eventfd,
// timerfd, signalfd, epoll, and the calls poll and select. It registers its
// system calls with package kernel when it is linked.
package event

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

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
