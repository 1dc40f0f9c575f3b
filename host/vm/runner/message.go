package runner

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// Linux's struct cmsghdr on amd64.
const (
	cmsgHdr    = 16
	maxControl = cmsgHdr + 8*((abi.MaxRights+1)/2)
)

// msghdr is Linux's struct msghdr. The guest has no part in it.
type msghdr struct {
	name       uintptr
	namelen    uint64
	iov        uintptr
	iovlen     uint64
	control    uintptr
	controllen uint64
	flags      uint64
}

type iovec struct {
	base uintptr
	n    uint64
}

// header makes the message header for data in b and n bytes of control data.
func (r *Runner) header(b []byte, n int) uintptr {
	r.iov = iovec{addr(b), uint64(len(b))}
	r.msg = msghdr{iov: ptrOf(&r.iov), iovlen: 1, control: ptrOf(&r.control), controllen: uint64(n)}
	return ptrOf(&r.msg)
}

// recvHandles answers CallRecv on the control channel for a guest that has room for the
// handles beside the message: see package abi.
func (r *Runner) recvHandles(c *call, b []byte) uint64 {
	le := binary.LittleEndian
	size := r.m.Bytes(machine.Addr(c.a6), 4, true)
	if size == nil {
		return fail(unix.EFAULT)
	}
	list := r.m.Bytes(machine.Addr(c.a5), uint64(min(le.Uint32(size)/4, abi.MaxRights))*4, true)
	if list == nil {
		return fail(unix.EFAULT)
	}
	clear(r.control[:])
	v := r.sys(unix.SYS_RECVMSG, abi.HandleControl, r.header(b, len(r.control)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
	if int64(v) < 0 {
		return v
	}
	n := 0
	for _, h := range r.rights() {
		if 4*n+4 > len(list) || !r.handles.add(uint64(h)) {
			r.sys(unix.SYS_CLOSE, uintptr(h), 0, 0, 0, 0, 0)
			continue
		}
		r.ring.added(uint64(h))
		le.PutUint32(list[4*n:], h)
		n++
	}
	le.PutUint32(size, uint32(4*n))
	return v
}

// rightsOf appends the descriptors in control data that the kernel has stored to list, which
// must have room. ok says that there are some, and nothing else.
func rightsOf(control []byte, list []int) (fds []int, ok bool) {
	le := binary.LittleEndian
	if len(control) < cmsgHdr+4 || le.Uint32(control[8:]) != unix.SOL_SOCKET || le.Uint32(control[12:]) != unix.SCM_RIGHTS {
		return list, false
	}
	end := le.Uint64(control)
	if end > uint64(len(control)) || (end-cmsgHdr)/4 > uint64(cap(list)) || (end+7)&^7 < uint64(len(control)) {
		return list, false
	}
	for o := uint64(cmsgHdr); o+4 <= end; o += 4 {
		list = append(list, int(le.Uint32(control[o:])))
	}
	return list, true
}

// rights are the descriptors in the control data that the kernel has stored.
func (r *Runner) rights() []uint32 {
	le := binary.LittleEndian
	n := min(r.msg.controllen, maxControl)
	if n < cmsgHdr+4 || le.Uint32(r.control[8:]) != unix.SOL_SOCKET || le.Uint32(r.control[12:]) != unix.SCM_RIGHTS {
		return nil
	}
	list := r.passed[:0]
	for o := uint64(cmsgHdr); o+4 <= min(le.Uint64(r.control[:]), n) && len(list) < cap(list); o += 4 {
		list = append(list, le.Uint32(r.control[o:]))
	}
	return list
}

// sendHandles answers CallSend on the control channel for a message with handles
// beside it: each is looked up once, in the runner's own copy.
func (r *Runner) sendHandles(c *call, b []byte) uint64 {
	le := binary.LittleEndian
	n := uint64(uint32(c.a6))
	if n == 0 || n%4 != 0 || n > 4*abi.MaxRights {
		return fail(unix.EINVAL)
	}
	list := r.m.Bytes(machine.Addr(c.a5), n, false)
	if list == nil {
		return fail(unix.EFAULT)
	}
	clear(r.control[:])
	copy(r.control[cmsgHdr:], list)
	for o := range n / 4 {
		if !r.handles.has(uint64(le.Uint32(r.control[cmsgHdr+4*o:]))) {
			return fail(unix.EBADF)
		}
	}
	le.PutUint64(r.control[:], cmsgHdr+n)
	le.PutUint32(r.control[8:], unix.SOL_SOCKET)
	le.PutUint32(r.control[12:], unix.SCM_RIGHTS)
	return r.sys(unix.SYS_SENDMSG, abi.HandleControl, r.header(b, int(cmsgHdr+(n+7)&^7)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
}
