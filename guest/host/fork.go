package host

import (
	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// Fork copies this pVM. In the parent it returns the child's process id, in the child
// 0. asked says that somebody outside wants it.
//
// No message goes out between OpForked and the copy, so that the child's handles are
// those of this very moment. The child has a control channel of its own: answers to
// what its parent has asked never come there.
func Fork(asked bool) (pid uint32, errno linux.Errno) {
	if rt.Boot().Flags&abi.BootFork == 0 {
		return 0, linux.EPERM
	}
	m := abi.Msg{Op: abi.OpFork}
	if asked {
		m.A = 1
	}
	r, errno := Request(m)
	if errno != 0 {
		r.more.close()
		return 0, errno
	}
	if r.more.n != abi.ForkHandles {
		r.more.close()
		return 0, linux.EIO
	}
	c := &control
	c.mu.Lock()
	if errno = send(&abi.Msg{Op: abi.OpForked, A: r.A}, -1, nil); errno == 0 {
		var child bool
		var e uint32
		child, e = rt.Fork(&r.more.fd)
		if child {
			interrupt()
			c.mu.Unlock()
			return 0, 0
		}
		if errno = linux.Errno(e); errno != 0 {
			send(&abi.Msg{Op: abi.OpForked, A: r.A, B: uint64(e)}, -1, nil)
		}
	}
	c.mu.Unlock()
	r.more.close()
	return uint32(r.A), errno
}

// interrupt ends the requests that were under way in the parent. mu is held.
func interrupt() {
	c := &control
	for id, p := range c.pending {
		delete(c.pending, id)
		p.reply, p.errno = Reply{FD: -1}, linux.EINTR
		if p.op == abi.OpConnect {
			p.errno = linux.ECONNRESET // whose EINTR would mean "still connecting"
		}
		p.done <- struct{}{}
	}
	c.bad = 0
	c.room.Broadcast()
}

// Two are the descriptors of a reply with two.
func (r *Reply) Two() (a, b int32, ok bool) {
	if r.more.n != 2 {
		r.more.close()
		return -1, -1, false
	}
	return r.more.fd[0], r.more.fd[1], true
}

// ReloadBoot reads the small boot block of a forked pVM.
func ReloadBoot(handle int32) (*Boot, linux.Errno) {
	h := rt.Boot()
	if h.Size < abi.BootSize || h.Size > 64<<10 {
		return nil, linux.EINVAL
	}
	b := make([]byte, h.Size)
	if n, e := Pread(handle, b, 0); e != 0 || n != len(b) {
		return nil, linux.EIO
	}
	boot, ok := ParseBoot(h, b[abi.BootSize:])
	if !ok {
		return nil, linux.EINVAL
	}
	return boot, 0
}
