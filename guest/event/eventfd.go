package event

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func startEventfd() {
	kernel.Register(linux.SYS_EVENTFD, func(a kernel.Args) (uintptr, linux.Errno) { return newEventfd(a.A1, 0) })
	kernel.Register(linux.SYS_EVENTFD2, func(a kernel.Args) (uintptr, linux.Errno) { return newEventfd(a.A1, uint32(a.A2)) })
}

type eventfd struct {
	kernel.Base
	mu        sync.Mutex
	count     uint64
	semaphore bool
	queue     kernel.WaitQueue
}

const eventfdMost = 1<<64 - 2

func newEventfd(count uintptr, flags uint32) (uintptr, linux.Errno) {
	if flags&^(linux.EFD_CLOEXEC|linux.EFD_NONBLOCK|linux.EFD_SEMAPHORE) != 0 {
		return 0, linux.EINVAL
	}
	f := &eventfd{count: uint64(uint32(count)), semaphore: flags&linux.EFD_SEMAPHORE != 0}
	return kernel.Install(f, flags&^linux.EFD_SEMAPHORE|linux.O_RDWR)
}

func (f *eventfd) Read(p []byte) (int, linux.Errno) {
	if len(p) < 8 {
		return 0, linux.EINVAL
	}
	f.mu.Lock()
	v := f.count
	if v == 0 {
		f.mu.Unlock()
		return 0, linux.EAGAIN
	}
	if f.semaphore {
		v = 1
	}
	f.count -= v
	f.mu.Unlock()
	put64(p, v)
	f.queue.Notify(rt.Out)
	return 8, 0
}

func (f *eventfd) Write(p []byte) (int, linux.Errno) {
	if len(p) < 8 {
		return 0, linux.EINVAL
	}
	v := get64(p)
	if v == 1<<64-1 {
		return 0, linux.EINVAL
	}
	f.mu.Lock()
	if eventfdMost-f.count < v {
		f.mu.Unlock()
		return 0, linux.EAGAIN
	}
	f.count += v
	f.mu.Unlock()
	f.queue.Notify(rt.In)
	return 8, 0
}

func (f *eventfd) Ready() (ev uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count > 0 {
		ev = rt.In
	}
	if f.count < eventfdMost {
		ev |= rt.Out
	}
	return ev
}

func (f *eventfd) Queue() *kernel.WaitQueue { return &f.queue }
