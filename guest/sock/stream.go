package sock

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// A listener is the queue of a listening socket. netMu guards it.
//
// A connector that finds the queue full waits in wait (its SYN is dropped and
// sent again, as it were); accept and close are the only ones that can let it
// go on, and both look there under netMu.
type listener struct {
	s       *Socket
	backlog int
	ready   socketList // connections to be accepted
	wait    socketList // connectors that found ready full
	turn    bool       // ask the host first, the next time
	copies  uint32     // kernel.Copies when it began to listen
	given   bool       // to another program, or by one
}

// shared reports whether another member of the family may have the same listener, and so
// accept what comes to the host's. netMu is held.
func (l *listener) shared() bool { return l.given || l.copies != kernel.Copies.Load() }

type socketList struct {
	head, tail *Socket
	n          int
}

func (q *socketList) push(s *Socket) {
	if q.head == nil {
		q.head = s
	} else {
		q.tail.next = s
	}
	q.tail = s
	q.n++
}

func (q *socketList) pop() *Socket {
	s := q.head
	if s != nil {
		q.head, s.next = s.next, nil
		if q.head == nil {
			q.tail = nil
		}
		q.n--
	}
	return s
}

func (q *socketList) remove(s *Socket) {
	var prev *Socket
	for o := q.head; o != nil; prev, o = o, o.next {
		if o != s {
			continue
		}
		if prev == nil {
			q.head = s.next
		} else {
			prev.next = s.next
		}
		if q.tail == s {
			q.tail = prev
		}
		s.next = nil
		q.n--
		return
	}
}

// forget takes the connector s out of the queue that it waits in, if any.
func (l *listener) forget(s *Socket) {
	if l != nil {
		l.wait.remove(s)
	}
}

// child returns a socket for a new connection of l, with what a connection
// inherits.
func (l *listener) child() *Socket {
	p := l.s
	c := newSocket(p.family, p.typ, p.proto)
	c.sndbuf.Store(p.sndbuf.Load())
	c.rcvbuf.Store(p.rcvbuf.Load())
	c.reuse, c.reuseport, c.v6only, c.linger = p.reuse, p.reuseport, p.v6only, p.linger
	for k, v := range p.opts {
		c.remember(k, v)
	}
	return c
}

// join connects s to l, or makes s wait if l's queue is full. netMu is held;
// the caller then notifies l.s of In.
func (l *listener) join(s *Socket) linux.Errno {
	if l.ready.n > l.backlog {
		s.lst = l
		s.st.Store(stConnecting)
		l.wait.push(s)
		return linux.EINPROGRESS
	}
	c := l.child()
	if s.isUnix() {
		c.u.name, c.u.peer = l.s.u.name, s.u.name
		s.u.peer = l.s.u.name
	} else {
		c.local, c.peer = s.peer, s.local
		tcpPorts.addKid(c)
	}
	pair(s, c)
	c.st.Store(stConnected)
	s.lst = nil
	s.st.Store(stConnected)
	l.ready.push(c)
	return 0
}

// accept takes the next connection. It never blocks.
func (s *Socket) accept() (*Socket, linux.Errno) {
	if s.d != nil {
		return nil, linux.EOPNOTSUPP
	}
	if s.st.Load() != stListen {
		return nil, linux.EINVAL
	}
	netMu.Lock()
	l := s.l
	if s.st.Load() != stListen {
		netMu.Unlock()
		return nil, linux.EINVAL
	}
	h := s.host.Load()
	if h != nil && (l.turn || l.ready.n == 0) {
		l.turn = false
		if c, e := h.accept(l); e != linux.EAGAIN {
			netMu.Unlock()
			return c, e
		}
	}
	c := l.ready.pop()
	if c == nil {
		netMu.Unlock()
		return nil, linux.EAGAIN
	}
	l.turn = true
	w := l.wait.pop()
	if w != nil {
		l.join(w)
	}
	netMu.Unlock()
	if w != nil {
		s.notify(rt.In)
		w.notify(rt.Out)
	}
	return c, 0
}

// readyListen is Ready of a listener. The host cannot be asked whether a
// connection waits, so one is taken into the queue.
func (s *Socket) readyListen() uint32 {
	netMu.Lock()
	defer netMu.Unlock()
	l := s.l
	if s.st.Load() != stListen {
		return rt.Out | rt.Hup
	}
	if l.ready.n == 0 {
		if h := s.host.Load(); h != nil {
			if c, e := h.accept(l); e == 0 {
				l.ready.push(c)
			}
		}
	}
	if l.ready.n > 0 {
		return rt.In
	}
	return 0
}

// close ends l, whose socket is no longer listening: connections that nobody
// accepted are reset, waiting connectors refused.
func (l *listener) close() {
	netMu.Lock()
	ready, wait := l.ready, l.wait
	l.ready, l.wait = socketList{}, socketList{}
	for w := wait.head; w != nil; w = w.next {
		w.refuse(linux.ECONNREFUSED)
	}
	for c := ready.head; c != nil; c = c.next {
		c.st.Store(stClosed)
		if !c.isUnix() {
			tcpPorts.remove(c)
		}
	}
	netMu.Unlock()
	for w := wait.pop(); w != nil; w = wait.pop() {
		w.notify(rt.In | rt.Out | rt.Err | rt.Hup | rt.RdHup)
	}
	for c := ready.pop(); c != nil; c = ready.pop() {
		if h := c.host.Load(); h != nil {
			h.close()
		} else {
			c.closePair(true)
		}
	}
}

// refuse ends a connection attempt. netMu is held.
func (s *Socket) refuse(e linux.Errno) {
	s.err.Store(uint32(e))
	s.lst = nil
	s.unconnect()
	s.st.Store(stFailed)
}

// unconnect forgets the peer, and the port unless bind gave it. netMu is held.
func (s *Socket) unconnect() {
	s.peer = addr{}
	if !s.isInet() {
		return
	}
	if !s.bound {
		s.table().remove(s)
		s.local.port = 0
	}
	if !s.ipLock {
		s.local.ip = unspecified(s.family)
	}
}

// listen is listen(2).
func (s *Socket) listen(backlog int) linux.Errno {
	if s.d != nil {
		return linux.EOPNOTSUPP
	}
	if uint(backlog) > linux.SOMAXCONN {
		backlog = linux.SOMAXCONN
	}
	netMu.Lock()
	switch s.st.Load() {
	case stListen:
		s.l.backlog = backlog
		netMu.Unlock()
		return 0
	case stNew, stFailed:
	default:
		netMu.Unlock()
		return linux.EINVAL
	}
	l := &listener{s: s, backlog: backlog, copies: kernel.Copies.Load()}
	if s.isUnix() {
		if s.u.name == "" {
			netMu.Unlock()
			return linux.EINVAL
		}
		s.l = l
		s.st.Store(stListen)
		netMu.Unlock()
		return s.announce()
	}
	if !s.bound {
		if e := tcpPorts.bind(s, addr{ip: s.local.ip}); e != 0 {
			netMu.Unlock()
			return e
		}
		s.bound = true
	} else if tcpPorts.conflict(s) {
		netMu.Unlock()
		return linux.EADDRINUSE
	}
	s.l = l
	s.st.Store(stListen)
	outside := !isLoopback(&s.local.ip)
	netMu.Unlock()
	if outside {
		if e := s.publish(backlog); e != 0 {
			netMu.Lock()
			s.st.CompareAndSwap(stListen, stNew)
			netMu.Unlock()
			l.close()
			return e
		}
	}
	return 0
}

// connectTCP is connect(2) for TCP. EINPROGRESS means that Out will follow.
func (s *Socket) connectTCP(sa []byte) linux.Errno {
	if len(sa) >= 2 && sa[0] == 0 && sa[1] == 0 {
		return linux.EINVAL
	}
	netMu.Lock()
	e := linux.Errno(0)
	switch s.st.Load() {
	case stNew, stFailed:
	case stConnecting:
		e = linux.EALREADY
	default:
		e = linux.EISCONN
	}
	var to addr
	if e == 0 {
		to, e = parseInet(s.family, sa)
		s.here(&to)
		switch {
		case e != 0:
		case isMulticast(&to.ip) || to.ip == bcast || s.v6only && is4(&to.ip):
			e = linux.ENETUNREACH
		case !is4(&to.ip) && is4(&s.local.ip):
			e = linux.EAFNOSUPPORT
		}
	}
	if e != 0 {
		netMu.Unlock()
		return e
	}
	s.err.Store(0)
	s.peer = to
	if isAny(&s.local.ip) {
		s.local.ip = sourceFor(&to.ip)
	}
	if !s.bound {
		if e := tcpPorts.bindConnect(s); e != 0 {
			s.unconnect()
			netMu.Unlock()
			return e
		}
	} else if tcpPorts.duplicate(s) {
		s.unconnect()
		netMu.Unlock()
		return linux.EADDRNOTAVAIL
	}
	if !isLocal(&to.ip) {
		s.st.Store(stConnecting)
		netMu.Unlock()
		s.dial()
		return linux.EINPROGRESS
	}
	t := tcpPorts.lookup(&s.local, &to)
	if t == nil {
		s.unconnect()
		netMu.Unlock()
		return linux.ECONNREFUSED
	}
	e = t.l.join(s)
	netMu.Unlock()
	if e == 0 {
		t.notify(rt.In)
		s.notify(rt.Out)
	}
	return e
}

// awaitConnect is the wait of a blocking connect.
func (s *Socket) awaitConnect(deadline int64) linux.Errno {
	for s.st.Load() == stConnecting {
		if kernel.Wait(s, rt.Out, deadline) != 0 {
			return linux.EINPROGRESS
		}
	}
	return s.takeErr()
}

// shutdown is shutdown(2).
func (s *Socket) shutdown(how int) linux.Errno {
	if how < linux.SHUT_RD || how > linux.SHUT_RDWR {
		return linux.EINVAL
	}
	if s.d != nil {
		return s.shutDgram(how)
	}
	st := s.st.Load()
	if st == stListen && how != linux.SHUT_WR {
		netMu.Lock()
		if !s.st.CompareAndSwap(stListen, stNew) {
			st = stNew
		}
		netMu.Unlock()
		if st == stListen {
			if h := s.host.Swap(nil); h != nil {
				h.close()
			}
			s.l.close()
			s.notify(rt.In | rt.Out | rt.Hup)
		}
		return 0
	}
	if st != stConnected || s.over() {
		return linux.ENOTCONN
	}
	if h := s.host.Load(); h != nil {
		return h.shutdown(s, how)
	}
	if how != linux.SHUT_RD {
		s.tx.end()
	}
	if how != linux.SHUT_WR {
		if !s.isTCP() {
			s.rx.end()
			return 0
		}
		s.rx.mu.Lock()
		s.rx.rdoff = true
		s.rx.mu.Unlock()
		s.notify(rt.In | rt.RdHup | s.hup())
	}
	return 0
}
