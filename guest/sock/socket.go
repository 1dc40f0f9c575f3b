package sock

import (
	"sync/atomic"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// States of a socket. A datagram socket is new or connected.
const (
	stNew        = iota // unconnected
	stConnecting        // waits for the listener's queue, or for the monitor
	stConnected
	stListen
	stFailed // connect failed: it may be tried again
	stClosed
)

// A Socket is a socket of any family, behind one open file description.
//
// netMu guards what is not atomic and not said to be otherwise. rx, tx, d and
// peer are set before st says connected and never change then (datagram sockets
// may be connected again), so that data calls read them without a lock.
type Socket struct {
	kernel.Base
	q   kernel.WaitQueue
	pd  atomic.Uintptr // the first registration with the runtime's poller
	st  atomic.Uint32
	err atomic.Uint32 // SO_ERROR

	sndbuf, rcvbuf atomic.Int32

	family uint16
	proto  uint16
	typ    uint8

	reuse, reuseport, v6only bool // immutable once bound
	bound                    bool // by bind, not by connect
	ipLock, portLock         bool // bind named an address, a port
	inTable, isKid           bool
	linger                   int32 // seconds plus one; 0: off

	local, peer        addr
	nextPort, prevPort *Socket

	rx, tx *half
	l      *listener
	d      *dgram
	u      *unixName
	host   atomic.Pointer[hostSock]

	next  *Socket           // in a listener's queue
	lst   *listener         // whose queue of connectors s waits in
	extra []*kernel.Watcher // further registrations with the poller
	opts  map[optKey]int32  // options that are only remembered
	ino   uint64
}

func newSocket(family uint16, typ uint8, proto uint16) *Socket {
	s := &Socket{family: family, typ: typ, proto: proto, ino: 1<<20 + lastIno.Add(1)}
	s.sndbuf.Store(defSndbuf)
	s.rcvbuf.Store(defRcvbuf)
	s.local.ip = unspecified(family)
	if typ == linux.SOCK_DGRAM || family == linux.AF_NETLINK {
		s.d = &dgram{}
	}
	if family == linux.AF_UNIX {
		s.u = &unixName{}
	}
	return s
}

func (s *Socket) isTCP() bool    { return s.proto == linux.IPPROTO_TCP && s.family != linux.AF_UNIX }
func (s *Socket) isInet() bool   { return s.family == linux.AF_INET || s.family == linux.AF_INET6 }
func (s *Socket) isUnix() bool   { return s.family == linux.AF_UNIX }
func (s *Socket) isRecord() bool { return s.typ == linux.SOCK_SEQPACKET }
func (s *Socket) linger0() bool  { return s.linger == 1 }

// takeErr returns the pending error and clears it.
func (s *Socket) takeErr() linux.Errno {
	if s.err.Load() == 0 {
		return 0
	}
	return linux.Errno(s.err.Swap(0))
}

// notify tells whoever watches s. The caller holds none of this package's
// locks.
func (s *Socket) notify(ev uint32) {
	if pd := s.pd.Load(); pd != 0 {
		rt.Ready(rt.PD(pd), ev)
	}
	s.q.Notify(ev)
}

// AttachPD implements kernel.PDAttacher. The first registration is made ready
// directly, by the host's event or by notify; others watch the queue.
func (s *Socket) AttachPD(pd uintptr) {
	netMu.Lock()
	if s.pd.CompareAndSwap(0, pd) {
		s.setPD(rt.PD(pd))
	} else {
		w := &kernel.Watcher{Mask: ^uint32(0), PD: rt.PD(pd)}
		s.extra = append(s.extra, w)
		s.Queue().Add(w)
	}
	netMu.Unlock()
	// Whatever happened before the registration is reported now.
	rt.Ready(rt.PD(pd), s.hint())
}

// DetachPD implements kernel.PDAttacher.
func (s *Socket) DetachPD(pd uintptr) {
	netMu.Lock()
	defer netMu.Unlock()
	if s.pd.CompareAndSwap(pd, 0) {
		s.setPD(0)
		return
	}
	for i, w := range s.extra {
		if w.PD == rt.PD(pd) {
			s.q.Remove(w)
			s.extra = append(s.extra[:i], s.extra[i+1:]...)
			return
		}
	}
}

// setPD has the host's events of s make pd ready. netMu is held.
func (s *Socket) setPD(pd rt.PD) {
	if h := s.host.Load(); h != nil {
		rt.SetPD(&h.src, pd)
	}
	if s.u != nil {
		for _, r := range s.u.routes {
			rt.SetPD(&r.h.src, pd)
		}
	}
}

// hint is Ready, but without asking the host: it may say too much.
func (s *Socket) hint() uint32 {
	if s.host.Load() != nil {
		return rt.In | rt.Out
	}
	return s.Ready()
}

// Queue implements kernel.File. Who asks for it is going to watch: from now on
// the host's events must come through Notify too.
func (s *Socket) Queue() *kernel.WaitQueue {
	if h := s.host.Load(); h != nil {
		h.slow()
	}
	return &s.q
}

// Ready implements kernel.File.
func (s *Socket) Ready() uint32 {
	if s.d != nil {
		return s.readyDgram()
	}
	switch s.st.Load() {
	case stConnected:
		if h := s.host.Load(); h != nil {
			return s.readyHost(h)
		}
		return s.readyPair()
	case stListen:
		return s.readyListen()
	case stConnecting:
		return 0
	case stFailed:
		ev := uint32(rt.In | rt.Out | rt.Hup | rt.RdHup)
		if s.err.Load() != 0 {
			ev |= rt.Err
		}
		return ev
	}
	return rt.Out | rt.Hup
}

// Read implements kernel.File.
func (s *Socket) Read(p []byte) (int, linux.Errno) {
	if s.st.Load() == stConnected && s.d == nil && s.typ == linux.SOCK_STREAM {
		if h := s.host.Load(); h != nil {
			return s.hostRecv(h, p, 0)
		}
		return s.rx.read(p, 0, nil)
	}
	m := message{p: p, wait: true}
	return s.recv(&m)
}

// Write implements kernel.File.
func (s *Socket) Write(p []byte) (int, linux.Errno) {
	if s.st.Load() == stConnected && s.d == nil && s.typ == linux.SOCK_STREAM {
		if h := s.host.Load(); h != nil {
			return s.hostSend(h, p, 0)
		}
		return s.tx.write(p, nil)
	}
	m := message{p: p}
	return s.send(&m)
}

// WriteMore implements kernel.MoreWriter.
func (s *Socket) WriteMore(p []byte) (int, linux.Errno) {
	m := message{p: p, flags: linux.MSG_MORE}
	return s.send(&m)
}

// Stat implements kernel.File.
func (s *Socket) Stat(st *linux.Stat) linux.Errno {
	s.Base.Stat(st)
	st.Mode = linux.S_IFSOCK | 0777
	st.Ino = s.ino
	return 0
}

var lastIno atomic.Uint64

// Release implements kernel.File.
func (s *Socket) Release() {
	netMu.Lock()
	was := s.st.Swap(stClosed)
	if s.isInet() {
		s.table().remove(s)
	}
	s.unname()
	delete(announced, s)
	h := s.host.Load()
	var l *listener
	switch was {
	case stConnecting:
		s.lst.forget(s)
	case stListen:
		l = s.l
	}
	netMu.Unlock()

	switch {
	case l != nil:
		l.close()
	case s.d != nil:
		s.closeDgram()
		if s.u != nil {
			s.closeRoutes()
		}
	case was == stConnected && h == nil && s.rx != nil:
		s.closePair(false)
	}
	if h != nil {
		h.close()
	}
}
