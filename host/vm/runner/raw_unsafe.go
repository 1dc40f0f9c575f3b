package runner

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"noyau.dev/host/vm/kvm"
)

// raw makes a system call that does not block. Its arguments are numbers,
// addresses of guest memory (outside the Go heap) or of the Runner's own
// scratch fields; the Runner lives on the heap, which does not move.
func raw(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
	v, _, e := unix.RawSyscall6(nr, a1, a2, a3, a4, a5, a6)
	if e != 0 {
		return fail(e)
	}
	return uint64(v)
}

// blocking is raw for a call that may block: the Go runtime is told.
func blocking(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
	v, _, e := unix.Syscall6(nr, a1, a2, a3, a4, a5, a6)
	if e != 0 {
		return fail(e)
	}
	return uint64(v)
}

// released is blocking for a goroutine that is pinned: see Runner.hold.
func released(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
	unpin()
	v, _, e := unix.Syscall6(nr, a1, a2, a3, a4, a5, a6)
	pin()
	if e != 0 {
		return fail(e)
	}
	return uint64(v)
}

// hold keeps the one goroutine that matters from being preempted, but in calls that block.
// The Go runtime's monitor thread wants to preempt whoever has had the processor for 10 ms, and
// takes a long wait for that. A goroutine that is locked to its thread then has another thread
// look for work, and wakes some 100 µs later. A runner that was born of a zygote, alone, is pinned
// already, and there is nobody to tell of calls that block.
func (r *Runner) hold(alone bool) {
	if alone {
		return
	}
	r.block = released
	pin()
}

// clockGettime is clock_gettime(2). Most functions of x/sys tell the Go runtime of
// their call, which a forked runner must not do: see fork.go.
func clockGettime(id uintptr, t *unix.Timespec) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(t)), 0)
	return e
}

func write(handle uintptr, b []byte) {
	unix.RawSyscall(unix.SYS_WRITE, handle, addr(b), uintptr(len(b)))
}

// send sends a message of the runner's own, if there is room.
func send(handle uintptr, b []byte) {
	unix.RawSyscall6(unix.SYS_SENDTO, handle, addr(b), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
}

func exit(code int) {
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(code), 0, 0)
	}
}

// nanosleep sleeps for at most ns.
func nanosleep(ns int64) {
	t := unix.NsecToTimespec(ns)
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// addr is where b lies in the runner; b is guest memory.
func addr(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// ptrOf is the address of a scratch field of the Runner.
func ptrOf[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

const sizeOfRunner = unsafe.Sizeof(Runner{})

const cpuidSize = int(unsafe.Sizeof(kvm.CPUIDEntry{}))

// cpuidBytes is the memory of list.
func cpuidBytes(list []kvm.CPUIDEntry) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(list))), len(list)*cpuidSize)
}

// store64 writes v to shared memory, which is aligned.
func store64(b []byte, v int64) { atomic.StoreInt64((*int64)(unsafe.Pointer(&b[0])), v) }

// tell writes a word to the mailbox.
func tell(word string) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_WRITE, mailbox, uintptr(unsafe.Pointer(unsafe.StringData(word))), uintptr(len(word)))
	return e
}

// name sets the name of the process; s ends with a zero byte.
func name(s string) {
	raw(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.StringData(s))), 0, 0, 0, 0)
}

// mapShared maps the first n bytes of the file behind fd.
func mapShared(fd, n int) ([]byte, unix.Errno) {
	p, _, e := unix.RawSyscall6(unix.SYS_MMAP, 0, uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, uintptr(fd), 0)
	if e != 0 {
		return nil, e
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), n), 0
}
