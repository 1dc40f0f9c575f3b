package sock

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// Listeners that a program gives to one that it starts (ExtraFiles): both have the host's
// socket then, and whoever accepts first has a connection. One that is not published
// is this pVM's own and cannot be given.

// HostListener implements kernel.HostListener.
func (s *Socket) HostListener() (handle int32, name uint32, about []byte) {
	netMu.Lock()
	defer netMu.Unlock()
	h := s.host.Load()
	if s.st.Load() != stListen || h == nil {
		return -1, 0, nil
	}
	s.l.given = true
	b := abi.Append16(abi.Append16(nil, s.family), uint16(s.typ))
	var flags uint16
	if s.v6only {
		flags = 1
	}
	b = append(abi.Append16(b, flags), encode(&s.local)...)
	b = abi.Append32(b, uint32(s.l.backlog))
	path := ""
	if s.isUnix() {
		path = s.u.name
		if p, e := outside(path); e == 0 {
			path = p // the child's working directory is its own
		}
	}
	return h.fd, h.name, abi.AppendString(b, path)
}

// given makes the listeners that whoever has started this pVM has given it.
func given(b *host.Boot) {
	for _, l := range b.Listeners {
		s, ok := parseGiven(l.About)
		netMu.Lock()
		if ok && s.isInet() {
			ok = tcpPorts.bind(s, s.local) == 0
		}
		if ok {
			s.bound = true
			s.st.Store(stListen)
			_, e := s.attach(l.Handle, l.Name)
			ok = e == 0
		}
		netMu.Unlock()
		if !ok || l.FD >= abi.ExecFilesMax {
			host.Close(l.Handle)
			continue
		}
		kernel.InstallAt(int(l.FD), s, linux.O_RDWR)
	}
}

// parseGiven takes apart what HostListener says.
func parseGiven(b []byte) (*Socket, bool) {
	family, b, ok := abi.Take16(b)
	if !ok {
		return nil, false
	}
	typ, b, ok := abi.Take16(b)
	if !ok {
		return nil, false
	}
	flags, b, ok := abi.Take16(b)
	if !ok {
		return nil, false
	}
	a, b, ok := abi.TakeAddr(b)
	if !ok {
		return nil, false
	}
	backlog, b, ok := abi.Take32(b)
	if !ok || backlog > linux.SOMAXCONN {
		return nil, false
	}
	path, _, ok := abi.TakeString(b)
	if !ok {
		return nil, false
	}
	s := &Socket{}
	switch {
	case family == linux.AF_UNIX && (typ == linux.SOCK_STREAM || typ == linux.SOCK_SEQPACKET):
		s = newSocket(family, uint8(typ), 0)
		s.u.name = path
	case (family == linux.AF_INET || family == linux.AF_INET6) && typ == linux.SOCK_STREAM:
		s = newSocket(family, uint8(typ), linux.IPPROTO_TCP)
		s.local = addr{port: a.Port, zone: a.Zone, ip: a.IP}
		if a.Family == 4 {
			s.local.ip = mapped(a.IP[0], a.IP[1], a.IP[2], a.IP[3])
		}
		s.v6only, s.reuse = flags&1 != 0, true
	default:
		return nil, false
	}
	s.l = &listener{s: s, backlog: int(backlog), given: true}
	return s, true
}
