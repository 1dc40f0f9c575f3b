package host

import (
	"unsafe"

	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// No call here blocks: EAGAIN is for the caller to wait for.

func ptr(p []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(p))) }

// result makes the pair of a count and an error of a host call's. What stands in a
// forked pVM for its parent's connections says ENOTCONN, and nothing else does.
func result(r uintptr, e uint32) (int, linux.Errno) {
	if e != 0 {
		if e == uint32(linux.ENOTCONN) {
			e = uint32(linux.ECONNRESET)
		}
		return 0, linux.Errno(e)
	}
	return int(r), 0
}

// Recv receives from a socket; 0 bytes and no error is the end of a stream.
// flags are MSG_PEEK, MSG_TRUNC …
func Recv(handle int32, p []byte, flags int) (int, linux.Errno) {
	if n, e, ok := take(handle, p, flags); ok {
		return n, e
	}
	return result(rt.HostCall(abi.CallRecv, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		uintptr(flags)|linux.MSG_DONTWAIT, 0, 0))
}

// Send sends to the socket's peer, never with SIGPIPE. flags are MSG_MORE …
func Send(handle int32, p []byte, flags int) (int, linux.Errno) {
	if flags&^(linux.MSG_NOSIGNAL|linux.MSG_DONTWAIT) == 0 && queue(handle, p, nil) {
		return len(p), 0
	}
	return result(rt.HostCall(abi.CallSend, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		uintptr(flags)|linux.MSG_DONTWAIT|linux.MSG_NOSIGNAL, 0, 0))
}

// RecvFrom is Recv that also stores the sender's address (struct sockaddr) into
// sa and returns its length.
func RecvFrom(handle int32, p []byte, flags int, sa []byte) (n, salen int, errno linux.Errno) {
	if n, total, salen, e, ok := takeFrom(handle, p, flags&linux.MSG_PEEK != 0, sa); ok {
		if flags&linux.MSG_TRUNC != 0 {
			n = total
		}
		return n, salen, e
	}
	l := uint32(len(sa))
	n, errno = result(rt.HostCall(abi.CallRecv, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		uintptr(flags)|linux.MSG_DONTWAIT, uintptr(unsafe.Pointer(unsafe.SliceData(sa))), uintptr(unsafe.Pointer(&l))))
	return n, min(int(l), len(sa)), errno
}

// SendTo is Send to the address sa (struct sockaddr). Only a pVM that may send
// to any address has it; others use abi.OpSendTo.
func SendTo(handle int32, p []byte, flags int, sa []byte) (int, linux.Errno) {
	if flags&^(linux.MSG_NOSIGNAL|linux.MSG_DONTWAIT) == 0 && queue(handle, p, sa) {
		return len(p), 0
	}
	return result(rt.HostCall(abi.CallSend, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		uintptr(flags)|linux.MSG_DONTWAIT|linux.MSG_NOSIGNAL, uintptr(unsafe.Pointer(unsafe.SliceData(sa))), uintptr(len(sa))))
}

// Pread and Pwrite are for files of volumes.
func Pread(handle int32, p []byte, off int64) (int, linux.Errno) {
	return result(rt.HostCall(abi.CallPread, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(off), 0, 0))
}

func Pwrite(handle int32, p []byte, off int64) (int, linux.Errno) {
	return result(rt.HostCall(abi.CallPwrite, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(off), 0, 0))
}

// Accept takes a connection of a listener, and stores the peer's address
// (struct sockaddr) into sa, if sa is not empty.
func Accept(handle int32, sa []byte) (conn int32, salen int, errno linux.Errno) {
	l := uint32(len(sa))
	var pl uintptr
	if l != 0 {
		pl = uintptr(unsafe.Pointer(&l))
	}
	n, e := rt.HostCall(abi.CallAccept, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(sa))), pl,
		linux.SOCK_NONBLOCK|linux.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return -1, 0, linux.Errno(e)
	}
	return int32(n), min(int(l), len(sa)), 0
}

// Close gives a handle back. Unwatch it first.
func Close(handle int32) linux.Errno {
	unbatch(handle)
	_, e := rt.HostCall(abi.CallClose, uintptr(handle), 0, 0, 0, 0, 0)
	return linux.Errno(e)
}

// Map maps n bytes at off of a file, shared, over memory that rt.Pages gave
// (process only: ENOSYS or another error elsewhere). Unmap undoes it: the memory
// is anonymous and zero again.
func Map(addr, n uintptr, write bool, handle int32, off int64) linux.Errno {
	prot := uintptr(linux.PROT_READ)
	if write {
		prot |= linux.PROT_WRITE
	}
	_, e := rt.HostCall(abi.CallMap, addr, n, prot, linux.MAP_SHARED|linux.MAP_FIXED, uintptr(handle), uintptr(off))
	return linux.Errno(e)
}

func Unmap(addr, n uintptr) linux.Errno {
	_, e := rt.HostCall(abi.CallMap, addr, n, linux.PROT_READ|linux.PROT_WRITE,
		linux.MAP_PRIVATE|linux.MAP_ANONYMOUS|linux.MAP_NORESERVE|linux.MAP_FIXED, ^uintptr(0), 0)
	return linux.Errno(e)
}

// A packet is one sendmsg or recvmsg on the control channel, reused. It holds
// pointers for the kernel only while the call lasts.
type packet struct {
	hdr  linux.Msghdr
	iov  linux.Iovec
	cmsg [cmsgHdr + 4*abi.MaxRights]byte

	// Under vm: the handles beside a message, and their size in bytes.
	handles [abi.MaxRights]int32
	size    uint32
}

const (
	cmsgHdr = 16          // struct cmsghdr
	cmsgLen = cmsgHdr + 4 // with one descriptor
)

// recv receives a message into b and the descriptors that came beside it.
func (p *packet) recv(handle int32, b []byte) (n int, fds rights, errno linux.Errno) {
	if vmInfo() != 0 {
		p.size = uint32(4 * len(p.handles))
		n, errno = result(rt.HostCall(abi.CallRecv, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			linux.MSG_DONTWAIT, uintptr(unsafe.Pointer(&p.handles)), uintptr(unsafe.Pointer(&p.size))))
		if errno == 0 {
			fds.n = min(int(p.size/4), len(p.handles))
			fds.fd = p.handles
		}
		return n, fds, errno
	}
	p.iov = linux.Iovec{Base: ptr(b), Len: uintptr(len(b))}
	p.hdr = linux.Msghdr{Iov: uintptr(unsafe.Pointer(&p.iov)), Iovlen: 1,
		Control: uintptr(unsafe.Pointer(&p.cmsg)), Controllen: uintptr(len(p.cmsg))}
	n, errno = result(rt.HostCall(abi.CallRecvmsg, uintptr(handle), uintptr(unsafe.Pointer(&p.hdr)),
		linux.MSG_DONTWAIT|linux.MSG_CMSG_CLOEXEC, 0, 0, 0))
	if errno == 0 && p.hdr.Controllen >= cmsgLen {
		h := (*linux.Cmsghdr)(unsafe.Pointer(&p.cmsg))
		if h.Level == linux.SOL_SOCKET && h.Type == linux.SCM_RIGHTS && h.Len >= cmsgLen && int(h.Len) <= len(p.cmsg) {
			fds.n = int(h.Len-cmsgHdr) / 4
			for i := range fds.n {
				fds.fd[i] = *(*int32)(unsafe.Pointer(&p.cmsg[cmsgHdr+4*i]))
			}
		}
	}
	return n, fds, errno
}

// rights are descriptors beside a message.
type rights struct {
	n  int
	fd [abi.MaxRights]int32
}

// one is the only descriptor, -1 if there is none.
func (r *rights) one() int32 {
	if r.n == 0 {
		return -1
	}
	return r.fd[0]
}

func (r *rights) close() {
	for _, fd := range r.fd[:r.n] {
		Close(fd)
	}
}

// send sends b, with the descriptor fd beside it.
func (p *packet) send(handle int32, b []byte, fd int32) linux.Errno {
	if vmInfo() != 0 {
		p.handles[0] = fd
		_, e := rt.HostCall(abi.CallSend, uintptr(handle), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			linux.MSG_DONTWAIT|linux.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&p.handles)), 4)
		return linux.Errno(e)
	}
	p.iov = linux.Iovec{Base: ptr(b), Len: uintptr(len(b))}
	p.hdr = linux.Msghdr{Iov: uintptr(unsafe.Pointer(&p.iov)), Iovlen: 1,
		Control: uintptr(unsafe.Pointer(&p.cmsg)), Controllen: cmsgLen}
	*(*linux.Cmsghdr)(unsafe.Pointer(&p.cmsg)) = linux.Cmsghdr{Len: cmsgLen, Level: linux.SOL_SOCKET, Type: linux.SCM_RIGHTS}
	*(*int32)(unsafe.Pointer(&p.cmsg[16])) = fd
	_, e := rt.HostCall(abi.CallSendmsg, uintptr(handle), uintptr(unsafe.Pointer(&p.hdr)),
		linux.MSG_DONTWAIT|linux.MSG_NOSIGNAL, 0, 0, 0)
	return linux.Errno(e)
}

func bytesAt(addr, n uintptr) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), n)
}
