package runner

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// Linux's struct msghdr and struct cmsghdr on amd64.
const (
	msghdrSize = 56
	cmsgHdr    = 16
	maxRights  = 4 // descriptors beside one message
	maxControl = cmsgHdr + 8*((maxRights+1)/2)
)

// msghdr is the runner's own copy of a message header: every field the kernel
// reads was checked first.
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

// message answers recvmsg and sendmsg on the control channel.
func (r *Runner) message(c *call) uint64 {
	if c.a1 != abi.HandleControl {
		return fail(unix.EBADF)
	}
	write := c.nr == abi.CallRecvmsg
	le := binary.LittleEndian
	hdr := r.m.Bytes(machine.Addr(c.a2), msghdrSize, write)
	if hdr == nil {
		return fail(unix.EFAULT)
	}
	var h [msghdrSize]byte
	copy(h[:], hdr)
	niov, iovs := le.Uint64(h[24:]), le.Uint64(h[16:])
	if niov > maxIovecs {
		return fail(unix.EMSGSIZE)
	}
	v := r.m.Bytes(machine.Addr(iovs), niov*16, false)
	if v == nil {
		return fail(unix.EFAULT)
	}
	for i := range niov {
		b, ok := r.data(le.Uint64(v[16*i:]), le.Uint64(v[16*i+8:]), write)
		if !ok {
			return fail(unix.EFAULT)
		}
		r.iov[i] = iovec{addr(b), uint64(len(b))}
	}
	r.msg = msghdr{iov: ptrOf(&r.iov), iovlen: niov}
	clen := le.Uint64(h[40:])
	var control []byte
	if clen != 0 {
		clen = min(clen, maxControl)
		if control = r.m.Bytes(machine.Addr(le.Uint64(h[32:])), clen, write); control == nil {
			return fail(unix.EFAULT)
		}
		r.msg.control, r.msg.controllen = ptrOf(&r.control), clen
		clear(r.control[:])
	}
	if !write {
		if control != nil {
			copy(r.control[:], control)
			if !r.rights(clen) {
				return fail(unix.EINVAL)
			}
		}
		return r.sys(unix.SYS_SENDMSG, abi.HandleControl, ptrOf(&r.msg), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
	}
	res := r.sys(unix.SYS_RECVMSG, abi.HandleControl, ptrOf(&r.msg), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
	if int64(res) >= 0 {
		if !r.receive() {
			return fail(unix.EMFILE)
		}
		copy(control, r.control[:min(r.msg.controllen, clen)])
		le.PutUint32(hdr[8:], 0)
		le.PutUint64(hdr[40:], r.msg.controllen)
		le.PutUint32(hdr[48:], uint32(r.msg.flags))
	}
	return res
}

// rights checks the copied control data of n bytes: exactly one SCM_RIGHTS with
// handles of the guest.
func (r *Runner) rights(n uint64) bool {
	le := binary.LittleEndian
	if n < cmsgHdr+4 {
		return false
	}
	l := le.Uint64(r.control[:])
	if l < cmsgHdr+4 || l > n || l%4 != 0 || l+8 <= n || le.Uint32(r.control[8:]) != unix.SOL_SOCKET || le.Uint32(r.control[12:]) != unix.SCM_RIGHTS {
		return false
	}
	for o := uint64(cmsgHdr); o < l; o += 4 {
		if !r.handles.has(uint64(le.Uint32(r.control[o:]))) {
			return false
		}
	}
	return true
}

// receive makes the descriptors that came beside a message the guest's.
func (r *Runner) receive() bool {
	le := binary.LittleEndian
	n := min(r.msg.controllen, maxControl)
	if n < cmsgHdr+4 || le.Uint32(r.control[8:]) != unix.SOL_SOCKET || le.Uint32(r.control[12:]) != unix.SCM_RIGHTS {
		return true
	}
	ok := true
	for o := uint64(cmsgHdr); o < min(le.Uint64(r.control[:]), n); o += 4 {
		ok = r.handles.add(uint64(le.Uint32(r.control[o:]))) && ok
	}
	return ok
}
