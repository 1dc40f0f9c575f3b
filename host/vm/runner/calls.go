package runner

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// call is one host call as the guest made it. Nothing in it is checked.
type call struct {
	nr                     uint64
	a1, a2, a3, a4, a5, a6 uint64
}

// Bounds on what one call may ask for.
const (
	maxData   = 1 << 30 // bytes of one read or write; more is cut, as Linux does
	maxEvents = 1024    // of one CallPoll
	maxAddr   = 128     // bytes of a socket address
)

func fail(e unix.Errno) uint64 { return uint64(-int64(e)) }

// data returns the guest memory of a transfer, cut to maxData.
func (r *Runner) data(a, n uint64, write bool) ([]byte, bool) {
	b := r.m.Bytes(machine.Addr(a), min(n, maxData), write)
	return b, b != nil
}

// do executes a host call and returns its result, a negated error number if it
// failed. Calls that end or suspend the guest are answered by the loop.
func (r *Runner) do(c *call) uint64 {
	switch c.nr {
	case abi.CallRecv:
		return r.recv(c)
	case abi.CallSend:
		return r.send(c)
	case abi.CallPread, abi.CallPwrite:
		return r.file(c)
	case abi.CallAccept:
		return r.accept(c)
	case abi.CallClose:
		if !r.handles.has(c.a1) {
			return fail(unix.EBADF)
		}
		r.handles.remove(c.a1)
		r.forks.watch(c.a1, false)
		if r.ring.close(c.a1) {
			return 0
		}
		return r.sys(unix.SYS_CLOSE, uintptr(c.a1), 0, 0, 0, 0, 0)
	case abi.CallWatch:
		return r.watch(c)
	case abi.CallPoll:
		return r.poll(c)
	case abi.CallMap:
		return r.mmap(c)
	}
	return fail(unix.ENOSYS)
}

func (r *Runner) recv(c *call) uint64 {
	b, ok := r.data(c.a2, c.a3, true)
	if !r.handles.has(c.a1) {
		return fail(unix.EBADF)
	}
	if !ok {
		return fail(unix.EFAULT)
	}
	if v, failed := r.ring.failed(c.a1); failed {
		return v
	}
	flags := uintptr(uint32(c.a4)) | unix.MSG_DONTWAIT
	if c.a5 == 0 && c.a4 == abi.CallWait {
		r.clock.pause()
		return r.block(unix.SYS_RECVFROM, uintptr(c.a1), addr(b), uintptr(len(b)), abi.CallWait, 0, 0)
	}
	if c.a5 == 0 {
		v := r.sys(unix.SYS_RECVFROM, uintptr(c.a1), addr(b), uintptr(len(b)), flags, 0, 0)
		r.ring.received(c.a1, int64(v), len(b), flags == unix.MSG_DONTWAIT)
		return v
	}
	if c.a1 == abi.HandleControl {
		return r.recvHandles(c, b)
	}
	lenp := r.m.Bytes(machine.Addr(c.a6), 4, true)
	if lenp == nil {
		return fail(unix.EFAULT)
	}
	n := r.addrSpace(lenp)
	to := r.m.Bytes(machine.Addr(c.a5), n, true)
	if to == nil {
		return fail(unix.EFAULT)
	}
	v := r.sys(unix.SYS_RECVFROM, uintptr(c.a1), addr(b), uintptr(len(b)), flags, ptrOf(&r.sockaddr), ptrOf(&r.socklen))
	r.ring.received(c.a1, int64(v), len(b), false)
	r.putAddr(v, to, lenp)
	return v
}

// addrSpace reads a guest's socklen once and prepares the scratch address.
func (r *Runner) addrSpace(lenp []byte) uint64 {
	n := min(uint64(binary.LittleEndian.Uint32(lenp)), maxAddr)
	r.socklen = maxAddr
	return n
}

func (r *Runner) putAddr(v uint64, to, lenp []byte) {
	if int64(v) >= 0 {
		copy(to, r.sockaddr[:min(r.socklen, maxAddr)])
		binary.LittleEndian.PutUint32(lenp, r.socklen)
	}
}

func (r *Runner) send(c *call) uint64 {
	b, ok := r.data(c.a2, c.a3, false)
	if !r.handles.has(c.a1) {
		return fail(unix.EBADF)
	}
	if !ok {
		return fail(unix.EFAULT)
	}
	if r.ring.waits(c.a1) {
		return fail(unix.EAGAIN)
	}
	if v, failed := r.ring.failed(c.a1); failed {
		return v
	}
	flags := uintptr(uint32(c.a4)) | unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	if c.a5 == 0 {
		return r.sys(unix.SYS_SENDTO, uintptr(c.a1), addr(b), uintptr(len(b)), flags, 0, 0)
	}
	if c.a1 == abi.HandleControl {
		return r.sendHandles(c, b)
	}
	if r.boot.Flags&abi.BootNetOut == 0 {
		return fail(unix.EACCES)
	}
	to := r.m.Bytes(machine.Addr(c.a5), min(uint64(uint32(c.a6)), maxAddr), false)
	if to == nil {
		return fail(unix.EFAULT)
	}
	n := copy(r.sockaddr[:], to)
	return r.sys(unix.SYS_SENDTO, uintptr(c.a1), addr(b), uintptr(len(b)), flags, ptrOf(&r.sockaddr), uintptr(n))
}

func (r *Runner) file(c *call) uint64 {
	b, ok := r.data(c.a2, c.a3, c.nr == abi.CallPread)
	if !r.handles.has(c.a1) {
		return fail(unix.EBADF)
	}
	if !ok {
		return fail(unix.EFAULT)
	}
	// Disks block: the Go runtime must know.
	return r.block(uintptr(c.nr), uintptr(c.a1), addr(b), uintptr(len(b)), uintptr(c.a4), 0, 0)
}

func (r *Runner) accept(c *call) uint64 {
	if !r.handles.has(c.a1) {
		return fail(unix.EBADF)
	}
	var to, lenp []byte
	if c.a2 != 0 {
		if lenp = r.m.Bytes(machine.Addr(c.a3), 4, true); lenp == nil {
			return fail(unix.EFAULT)
		}
		if to = r.m.Bytes(machine.Addr(c.a2), r.addrSpace(lenp), true); to == nil {
			return fail(unix.EFAULT)
		}
	}
	r.socklen = maxAddr
	v := r.sys(unix.SYS_ACCEPT4, uintptr(c.a1), ptrOf(&r.sockaddr), ptrOf(&r.socklen), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if int64(v) >= 0 && !r.handles.add(v) {
		r.sys(unix.SYS_CLOSE, uintptr(v), 0, 0, 0, 0, 0)
		return fail(unix.EMFILE)
	}
	if int64(v) >= 0 {
		r.ring.added(v)
	}
	if to != nil {
		r.putAddr(v, to, lenp)
	}
	return v
}

func (r *Runner) watch(c *call) uint64 {
	if c.a1 != abi.HandlePoll || !r.handles.has(c.a3) {
		return fail(unix.EBADF)
	}
	if c.a2 == unix.EPOLL_CTL_DEL {
		r.forks.watch(c.a3, false)
		return r.sys(unix.SYS_EPOLL_CTL, uintptr(c.a1), unix.EPOLL_CTL_DEL, uintptr(c.a3), ptrOf(&r.event), 0, 0)
	}
	b := r.m.Bytes(machine.Addr(c.a4), 12, false)
	if b == nil {
		return fail(unix.EFAULT)
	}
	copy(r.event[:], b)
	v := r.sys(unix.SYS_EPOLL_CTL, uintptr(c.a1), uintptr(c.a2), uintptr(c.a3), ptrOf(&r.event), 0, 0)
	if v == 0 {
		r.forks.watch(c.a3, true)
	}
	return v
}

// mmap grows the region or releases a part of it, or maps what members of a family
// share. Other maps of files do not exist here: the guest emulates them by reading.
func (r *Runner) mmap(c *call) uint64 {
	const want = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_FIXED
	if c.a4 == unix.MAP_SHARED|unix.MAP_FIXED && r.forks.allowed {
		return r.share(c)
	}
	if c.a4&unix.MAP_ANON == 0 || c.a4&unix.MAP_SHARED != 0 {
		return fail(unix.ENODEV)
	}
	if c.a4&^(unix.MAP_NORESERVE) != want || c.a1%abi.PageSize != 0 ||
		c.a3 != unix.PROT_NONE && c.a3 != unix.PROT_READ|unix.PROT_WRITE {
		return fail(unix.EINVAL)
	}
	n := (c.a2 + abi.PageSize - 1) &^ (abi.PageSize - 1)
	if n == 0 || n < c.a2 {
		return fail(unix.EINVAL)
	}
	if e := r.m.MapRegion(machine.Addr(c.a1), n, c.a3 != 0); e != 0 {
		return fail(e)
	}
	return c.a1
}
