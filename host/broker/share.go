package broker

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// doPair gives both ends of a connection, and memory if it is asked for. The monitor keeps
// nothing of it but whose the memory is.
func doPair(r *request) (reply, error) {
	if r.b.c.Family == nil {
		return reply{}, unix.EPERM
	}
	typ := int(r.msg.A)
	if r.msg.A != unix.SOCK_STREAM && r.msg.A != unix.SOCK_SEQPACKET || r.msg.B > maxShare || r.msg.B%abi.PageSize != 0 ||
		r.msg.C > abi.PairEventfd {
		return reply{}, unix.EINVAL
	}
	if r.msg.C == abi.PairEventfd && r.msg.B == 0 {
		ev, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			return reply{}, err
		}
		return give(ev), nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return reply{}, err
	}
	if r.msg.B == 0 {
		rep := give(fds[:]...)
		rep.a, err = r.newPair()
		return rep, err
	}
	rep := give(fds[:]...)
	mem, err := Sealed("noyau-pair", int64(r.msg.B))
	if err != nil {
		return rep, err
	}
	rep = give(fds[0], fds[1], mem)
	if r.msg.C == abi.PairEventfd {
		ev, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			return rep, err
		}
		rep = give(fds[0], fds[1], mem, ev)
	}
	rep.b, rep.a, err = r.newShare(r.msg.B, true)
	return rep, err
}

// maxShare bounds one piece of shared memory.
const maxShare = abi.ShareMax

// doShare gives memory of a size that nobody can change.
func doShare(r *request) (reply, error) {
	if r.b.c.Family == nil {
		return reply{}, unix.EPERM
	}
	if r.msg.A == 0 || r.msg.A > maxShare {
		return reply{}, unix.EINVAL
	}
	fd, err := Sealed("noyau-share", int64(r.msg.A))
	if err != nil {
		return reply{}, err
	}
	rep := give(fd)
	rep.a, _, err = r.newShare(r.msg.A, false)
	return rep, err
}

// doUnshare is told that the guest has a piece, or ends of a pair, no more.
func doUnshare(r *request) (reply, error) {
	if k, ok := r.b.c.Family.(Keeper); ok {
		k.Unshare(r.msg.A, r.msg.B)
	}
	return reply{}, errNoReply
}

// Sealed makes a memory file whose size stays.
func Sealed(name string, size int64) (fd int, err error) {
	if fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING); err != nil {
		return -1, err
	}
	if err = unix.Ftruncate(fd, size); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// give is a reply with descriptors that are only the guest's.
func give(fds ...int) reply {
	return reply{gives: fds, free: func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}}
}
