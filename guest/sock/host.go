package sock

import (
	"sync"
	"sync/atomic"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A hostSock is the host's socket behind one of ours: a connection, a
// published listener, a UDP socket.
//
// Why no wake-up is lost: host events are edge-triggered and reach the first
// registration of the runtime's poller always, and the wait queue once slow was
// called, which Queue and Ready do. A watcher is in the queue before it asks
// Ready, Ready asks the host itself whether there is something to receive, so
// an edge that went by before is seen there, and a later one is notified. The
// host cannot be asked about room: a send that got EAGAIN notes in fullAt the
// count of Out edges from before the send. Ready says "no room" only while no
// edge has come since, and after that EAGAIN the host owes us one.
type hostSock struct {
	s     *Socket
	src   rt.Source
	fd    int32
	name  uint32  // the monitor's name for it; 0: it has none
	four  bool    // UDP: an IPv4 socket
	to    bool    // UDP: connected
	known *recent // UDP: where datagrams were sent, under mu; nil: nowhere yet

	outs   atomic.Uint64 // Out edges, and calls of slow
	fullAt atomic.Uint64 // outs, plus one, at the last send that found no room
	isSlow atomic.Bool
	wroff  bool

	mu     sync.Mutex // UDP: held during a call, since connect replaces the socket
	closed bool
	sa     [sizeofIn6]byte // for a call, under mu
}

// attach makes fd the host's socket of s. netMu is held.
func (s *Socket) attach(fd int32, name uint32) (*hostSock, linux.Errno) {
	h, e := s.watchHost(fd, name, 0)
	if e != 0 {
		return nil, e
	}
	if s.st.Load() != stListen && !s.mayShare() {
		host.Batch(fd, s.d != nil || s.isRecord())
	}
	s.host.Store(h)
	return h, 0
}

// watchHost has events of fd be those of s: only these, if only is not 0. It closes fd if it cannot.
// netMu is held.
func (s *Socket) watchHost(fd int32, name, only uint32) (*hostSock, linux.Errno) {
	h := &hostSock{s: s, fd: fd, name: name}
	h.src.Notify, h.src.Only = h.event, only
	if pd := s.pd.Load(); pd != 0 {
		rt.SetPD(&h.src, rt.PD(pd))
	}
	if s.q.Watched() {
		h.slow()
	}
	if e := rt.Watch(fd, &h.src); e != 0 {
		host.Close(fd)
		return nil, linux.Errno(e)
	}
	return h, 0
}

// event is the rt.Source's Notify.
func (h *hostSock) event(ev uint32) {
	if ev&rt.Out != 0 {
		h.outs.Add(1)
	}
	h.s.q.Notify(ev)
}

// slow makes the host's events come to the wait queue. It is never undone: a
// watcher may be about to enter.
func (h *hostSock) slow() {
	if !h.isSlow.Load() {
		h.src.Slow = true
		h.outs.Add(1) // edges until now were not counted
		h.isSlow.Store(true)
	}
}

// close gives the handle back.
func (h *hostSock) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed = true
	rt.Unwatch(h.fd)
	host.Close(h.fd)
	if h.name != 0 {
		host.Post(abi.Msg{Op: abi.OpDrop, Handle: h.name})
	}
}

// drop gives back a handle that came too late.
func drop(r *host.Reply) {
	if r.FD >= 0 {
		host.Close(r.FD)
		if r.Handle != 0 {
			host.Post(abi.Msg{Op: abi.OpDrop, Handle: r.Handle})
		}
	}
}

// request sends m about h's socket: by the monitor's name, or with the
// descriptor beside it.
func (h *hostSock) request(m abi.Msg) (host.Reply, linux.Errno) {
	if m.Handle = h.name; m.Handle != 0 {
		return host.Request(m)
	}
	return host.RequestWith(m, h.fd)
}

// hostRecv receives from a host stream or connected UDP socket.
func (s *Socket) hostRecv(h *hostSock, p []byte, flags int) (int, linux.Errno) {
	if len(p) == 0 {
		return 0, 0
	}
	if e := s.takeErr(); e != 0 {
		return 0, e
	}
	return host.Recv(h.fd, p, flags)
}

// hostSend sends to a host stream or connected UDP socket.
func (s *Socket) hostSend(h *hostSock, p []byte, flags int) (int, linux.Errno) {
	if s.err.Load() != 0 {
		return 0, s.takeErr()
	}
	if h == nil {
		return 0, linux.ENOTCONN
	}
	if h.wroff && s.d == nil { // the host may not know yet: see shutdown
		return 0, linux.EPIPE
	}
	outs := h.outs.Load()
	n, e := host.Send(h.fd, p, flags)
	if e == linux.EAGAIN || e == 0 && n < len(p) {
		h.fullAt.Store(outs + 1)
	}
	return n, e
}

// standsIn reports whether e is of what stands for a datagram socket in a pVM that was just
// restored: there will be another. One of the host's that is not connected has no such error.
func (h *hostSock) standsIn(e linux.Errno) bool {
	return e == linux.ECONNRESET && h.s.d != nil && !h.to
}

// probe asks the host whether there is something to receive. Errors that the
// question brings to light are kept for the next call.
func (h *hostSock) probe(s *Socket) uint32 {
	h.slow()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0
	}
	n, e := host.Recv(h.fd, h.sa[:1], linux.MSG_PEEK)
	switch {
	case e == linux.EAGAIN, h.standsIn(e):
		return 0
	case e != 0:
		s.err.Store(uint32(e))
		return rt.In | rt.Err
	case n == 0 && s.d == nil && h.wroff:
		return rt.In | rt.RdHup | rt.Hup
	case n == 0 && s.d == nil:
		return rt.In | rt.RdHup
	}
	return rt.In
}

// readyHost is Ready of a host connection.
func (s *Socket) readyHost(h *hostSock) uint32 {
	ev := h.probe(s)
	if h.fullAt.Load() != h.outs.Load()+1 || ev&(rt.Err|rt.Hup) != 0 {
		ev |= rt.Out
	}
	if s.err.Load() != 0 {
		ev |= rt.Err
	}
	return ev
}

// accept takes a connection of the host's listener. netMu is held.
func (h *hostSock) accept(l *listener) (*Socket, linux.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, linux.EAGAIN
	}
	sa := h.sa[:]
	fd, n, e := host.Accept(h.fd, sa)
	for e == linux.ECONNABORTED {
		fd, n, e = host.Accept(h.fd, sa)
	}
	if e == linux.EINVAL && kernel.Frozen() {
		e = linux.EAGAIN // what stands for the listener; there will be another
	}
	if e != 0 {
		return nil, e
	}
	c := l.child()
	if c.isUnix() {
		c.u.name = l.s.u.name
		if _, e := c.attach(fd, 0); e != 0 {
			return nil, e
		}
		c.st.Store(stConnected)
		return c, 0
	}
	if n >= sizeofIn {
		c.peer, _ = decodeInet(sa[:n])
		c.peer.fromOutside()
	}
	c.local = l.s.local
	if isAny(&c.local.ip) {
		c.local.ip = sourceFor(&c.peer.ip)
	}
	if l.s.family == linux.AF_INET && !is4(&c.peer.ip) {
		c.peer.ip = any4
	}
	if _, e := c.attach(fd, 0); e != 0 {
		return nil, e
	}
	tcpPorts.addKid(c)
	c.st.Store(stConnected)
	return c, 0
}

// publish asks the monitor for a listener at s's address. A port that is not
// published is reachable inside the pVM only.
func (s *Socket) publish(backlog int) linux.Errno {
	r, e := host.Request(abi.Msg{Op: abi.OpListen, A: abi.ProtoTCP, B: uint64(backlog)}, encode(&s.local))
	return s.published(&r, e, stListen)
}

// before are the listeners and the UDP sockets of a pVM that has just been restored, and
// what was behind them.
var before struct {
	listeners, datagrams, names []*Socket
	old                         []*hostSock
}

// letGo takes the sockets of the host away that stand for nothing any more, before anybody
// who waits for one meets it. It does not block.
func letGo() {
	if !kernel.Restored() {
		return
	}
	var listeners, datagrams, names []*Socket
	var old []*hostSock
	netMu.Lock()
	for _, e := range tcpPorts.ports {
		for s := e.head; s != nil; s = s.nextPort {
			if h := s.host.Load(); h != nil && s.st.Load() == stListen {
				s.host.Store(nil)
				listeners, old = append(listeners, s), append(old, h)
			}
		}
	}
	for _, e := range udpPorts.ports {
		for s := e.head; s != nil; s = s.nextPort {
			if h := s.host.Load(); h != nil && !h.to && s.st.Load() == stNew {
				s.host.Store(nil)
				datagrams, old = append(datagrams, s), append(old, h)
			}
		}
	}
	for s := range announced {
		if h := s.host.Load(); h != nil && (s.d != nil || s.st.Load() == stListen) {
			s.host.Store(nil)
			names, old = append(names, s), append(old, h)
		}
	}
	netMu.Unlock()
	before.listeners, before.datagrams, before.names, before.old = listeners, datagrams, names, old
}

// republish gives the listeners and the UDP sockets of a restored pVM sockets of the host
// again.
func republish() {
	listeners, datagrams, names := before.listeners, before.datagrams, before.names
	for _, h := range before.old {
		h.close()
	}
	before.listeners, before.datagrams, before.names, before.old = nil, nil, nil, nil
	for _, s := range names {
		if e := s.announceAs(1); e != 0 {
			s.err.Store(uint32(e))
		}
	}
	for _, s := range listeners {
		if e := s.publish(s.l.backlog); e != 0 {
			s.err.Store(uint32(e))
		}
	}
	for _, s := range datagrams {
		r, e := host.Request(abi.Msg{Op: abi.OpUDP}, encode(&s.local))
		if e = s.published(&r, e, stNew); e != 0 {
			s.err.Store(uint32(e))
		}
	}
}

// publishUDP is publish for a UDP socket.
func (s *Socket) publishUDP() linux.Errno {
	r, e := host.Request(abi.Msg{Op: abi.OpUDP}, encode(&s.local))
	e = s.published(&r, e, stNew)
	if e != 0 {
		netMu.Lock()
		s.bound, s.ipLock, s.portLock = false, false, false
		s.unconnect()
		netMu.Unlock()
	}
	return e
}

// published takes the reply to a request to publish, while s is in state st.
func (s *Socket) published(r *host.Reply, e linux.Errno, st uint32) linux.Errno {
	switch {
	case e == linux.EACCES:
		return 0
	case e == linux.EADDRINUSE && s.reuseport:
		// Another of the group has the host's listener.
		drop(r)
		return 0
	case e != 0:
		drop(r)
		return e
	case r.FD < 0:
		return linux.EIO
	}
	netMu.Lock()
	if s.st.Load() != st || s.host.Load() != nil {
		netMu.Unlock()
		drop(r)
		return 0
	}
	h, e := s.attach(r.FD, r.Handle)
	if e == 0 {
		h.four = replyFour(r)
	}
	netMu.Unlock()
	if e == 0 {
		s.notify(rt.In | rt.Out)
	}
	return e
}

// replyFour reports whether the address in a reply is IPv4.
func replyFour(r *host.Reply) bool {
	a, _, ok := abi.TakeAddr(r.Payload)
	return ok && a.Family == 4
}

// dial asks the monitor for a connection to s.peer. s is connecting.
func (s *Socket) dial() {
	p := encode(&s.peer)
	if s.bound && s.local.port != 0 {
		p = append(p, encode(&s.local)...)
	}
	rt.Spawn(func() {
		r, e := host.Request(abi.Msg{Op: abi.OpConnect, A: abi.ProtoTCP}, p)
		s.dialed(&r, e)
	})
}

// dialed ends a dial. A reply that comes after the socket was closed gives its
// handle back.
func (s *Socket) dialed(r *host.Reply, e linux.Errno) {
	if e == 0 && r.FD < 0 {
		e = linux.EIO
	}
	netMu.Lock()
	if s.st.Load() != stConnecting {
		netMu.Unlock()
		drop(r)
		return
	}
	var h *hostSock
	if e != 0 {
		drop(r)
	} else {
		h, e = s.attach(r.FD, r.Handle)
	}
	if e != 0 {
		s.refuse(e)
		netMu.Unlock()
		s.notify(rt.In | rt.Out | rt.Err | rt.Hup | rt.RdHup)
		return
	}
	pending := s.hostOptions()
	if pending == nil {
		s.st.Store(stConnected)
		netMu.Unlock()
		s.notify(rt.Out)
		return
	}
	netMu.Unlock()
	s.applyOptions(h, pending)
	// Only close may have come in between; it has closed h then.
	if s.st.CompareAndSwap(stConnecting, stConnected) {
		s.notify(rt.Out)
	}
}

// shutdown is shutdown(2) of a host connection.
func (h *hostSock) shutdown(s *Socket, how int) linux.Errno {
	m := abi.Msg{Op: abi.OpShut, A: uint64(how)}
	if how != linux.SHUT_RD {
		h.wroff = true
		if s.d == nil && !host.Settled(h.fd) {
			rt.Spawn(func() { h.shutSettled(m) })
			return 0
		}
	}
	_, e := h.request(m)
	if e == 0 {
		s.notify(rt.In | rt.Out)
	}
	return e
}

// shutSettled shuts h down once its peer has taken what was sent before.
func (h *hostSock) shutSettled(m abi.Msg) {
	again := make(chan struct{}, 1)
	t := rt.NewTimer(func() { again <- struct{}{} })
	for {
		h.mu.Lock()
		if h.closed || host.Settled(h.fd) {
			break
		}
		h.mu.Unlock()
		t.Reset(2e6)
		<-again
	}
	defer h.mu.Unlock()
	if !h.closed {
		h.request(m)
	}
}
