package broker

import (
	"context"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/policy"
)

const (
	// connectTimeout is a little more than Linux takes to give up by itself.
	connectTimeout = 140 * time.Second
	// maxChannels bounds the name-service channels of a pVM.
	maxChannels = 1024
)

// doConnect gives a connected socket.
func doConnect(r *request) (reply, error) {
	remote, rest, err := takeAddr(r.payload)
	if err != nil {
		return reply{}, err
	}
	if len(rest) != 0 { // the guest's wish for a local address has no meaning outside
		if _, rest, err = takeAddr(rest); err != nil || len(rest) != 0 {
			return reply{}, unix.EINVAL
		}
	}
	var typ int
	var proto string
	switch r.msg.A {
	case abi.ProtoTCP:
		typ, proto = unix.SOCK_STREAM, "tcp"
	case abi.ProtoUDP:
		typ, proto = unix.SOCK_DGRAM, "udp"
	default:
		return reply{}, unix.EPROTONOSUPPORT
	}
	if policy.IsNameService(remote) {
		return r.nameChannel(typ == unix.SOCK_STREAM, remote)
	}
	to, ok := r.b.c.Guard.Out(proto, remote)
	if !ok {
		return reply{}, unix.EACCES
	}
	if r.b.table.full() {
		return reply{}, unix.EMFILE
	}
	fd, err := connect(r.ctx, to, typ)
	if err != nil {
		return reply{}, err
	}
	local := remote
	if sa, err := unix.Getsockname(fd); err == nil {
		local = guestAddr(remote.Addr(), addrPort(sa).Port())
	}
	h := &handle{kind: kindConn, fd: fd}
	if err := r.b.table.add(h); err != nil {
		return reply{}, err
	}
	r.b.connects.Add(1)
	return reply{handle: h, give: fd, payload: encodeAddr(local)}, nil
}

// connect returns a nonblocking socket connected to the address. It waits in
// the network poller, not on a thread.
func connect(ctx context.Context, to netip.AddrPort, typ int) (int, error) {
	fd, err := socket(to.Addr(), typ)
	if err != nil {
		return -1, err
	}
	if typ == unix.SOCK_STREAM {
		tcpDefaults(fd)
	}
	err = unix.Connect(fd, sockaddr(to))
	if err == unix.EINPROGRESS || err == unix.EINTR {
		err = connected(ctx, fd)
	}
	if err == nil && loopedBack(fd, typ) {
		err = unix.ECONNREFUSED
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// settled says whether fd's connect is over, and how it ended.
func settled(fd int) (over bool, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); err == unix.EINTR || err == nil && n == 0 {
		return false, nil
	}
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && e != 0 {
		err = unix.Errno(e)
	}
	return true, err
}

// connected waits until fd, whose connect is under way, is connected.
func connected(ctx context.Context, fd int) error {
	if over, err := settled(fd); over { // as on the host's loopback
		return err
	}
	// The poller wants an os.File, which closes what it owns: give it a duplicate.
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(dup), "connecting")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err := f.SetDeadline(time.Now().Add(connectTimeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var result error
	werr := raw.Write(func(uintptr) (over bool) {
		// The poller may wake us for an edge of before: look what is true.
		over, result = settled(fd)
		return over
	})
	switch {
	case werr == nil:
		return result
	case ctx.Err() != nil:
		return unix.EINTR
	}
	return unix.ETIMEDOUT
}

// loopedBack says whether a TCP socket was connected to itself, which happens
// when the host's chosen port is the port connected to.
func loopedBack(fd, typ int) bool {
	if typ != unix.SOCK_STREAM {
		return false
	}
	a, err1 := unix.Getsockname(fd)
	b, err2 := unix.Getpeername(fd)
	return err1 == nil && err2 == nil && addrPort(a) == addrPort(b)
}

// nameChannel gives a socket on which the name service answers queries: packets
// for udp, a stream for tcp.
func (r *request) nameChannel(stream bool, remote netip.AddrPort) (reply, error) {
	b := r.b
	if b.c.Names == nil {
		return reply{}, unix.EACCES
	}
	if b.channels.Add(1) > maxChannels {
		b.channels.Add(-1)
		return reply{}, unix.EMFILE
	}
	// Packets keep their borders on a seqpacket socket as on a datagram one, and
	// unlike there the end of the other side is seen.
	typ := unix.SOCK_SEQPACKET
	if stream {
		typ = unix.SOCK_STREAM
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.channels.Add(-1)
		return reply{}, err
	}
	ours := os.NewFile(uintptr(fds[0]), "names")
	h := &handle{kind: kindName, fd: -1}
	if err := b.table.add(h); err != nil {
		unix.Close(fds[1])
		ours.Close()
		b.channels.Add(-1)
		return reply{}, err
	}
	b.work.Add(1)
	go func() {
		defer b.work.Done()
		defer b.wall()
		defer b.channels.Add(-1)
		b.c.Names.Serve(b.ctx, ours, stream)
	}()
	// The guest's end is open until the reply was sent.
	rep := reply{handle: h, give: fds[1], payload: encodeAddr(guestAddr(remote.Addr(), uint16(32768+h.id%28000)))}
	rep.free = func() { unix.Close(fds[1]) }
	return rep, nil
}
