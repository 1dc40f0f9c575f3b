// Package policy decides what a pVM may reach: which ports of it are published
// and which places outside it may connect to. It holds decisions only; the
// sockets are the broker's. It imports the standard library alone.
package policy

import (
	"net/netip"
	"sync"

	"noyau.dev/abi"
)

// Net is the network policy of one pVM. The zero value lets it connect to
// everything but the host's own loopback, link-local addresses (the metadata
// services of clouds live there) and multicast.
type Net struct {
	// None takes all of the outside away: no connections, no published ports,
	// no name service. The pVM still has its own loopback.
	None bool
	// Rules, if there are any, are all that the pVM may connect to. A rule that
	// covers a link-local or other special address allows that too.
	Rules []Rule
	// HostLoopback lets the pVM reach the host's loopback, as addresses 10.0.2.2
	// and fd00::2.
	HostLoopback bool
	// Unrestricted lifts every restriction on where datagrams and connections
	// go, so that the pVM may send datagrams without asking the monitor. For
	// apps that are trusted as any other program of the host.
	Unrestricted bool
}

// Addresses that are never reached by a policy that does not name them:
// neighbours on the link, multicast, broadcast, and the metadata services of the
// large clouds, which hand out credentials.
var special = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::254/128"),
	netip.MustParsePrefix("fd20:ce::254/128"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.PrefixFrom(gateway, 32), // what stands for the host's loopback
	netip.PrefixFrom(gateway6, 128),
}

var (
	gateway   = netip.MustParseAddr(abi.GatewayIP4)
	gateway6  = netip.MustParseAddr(abi.GatewayIP6)
	nameAddr  = netip.MustParseAddr(abi.DNSIP4)
	hostLoop4 = netip.MustParseAddr("127.0.0.1")
)

// loopbackOf is the host's loopback address that a gateway stands for.
func loopbackOf(a netip.Addr) (loopback netip.Addr, ok bool) {
	switch a {
	case gateway:
		return hostLoop4, true
	case gateway6:
		return netip.IPv6Loopback(), true
	}
	return netip.Addr{}, false
}

// Gateway is the IPv4 address under which a pVM may know the host's loopback.
func Gateway() netip.Addr { return gateway }

// IsNameService says whether the pVM means its name service.
func IsNameService(to netip.AddrPort) bool {
	return to.Addr().Unmap() == nameAddr && to.Port() == 53
}

// A Guard applies one pVM's policy and remembers which addresses the name
// service gave for names that the rules allow. It is safe for concurrent use.
type Guard struct {
	net    Net
	named  bool // some rule has a name
	mu     sync.Mutex
	pinned map[netip.Addr][]string // address -> names that it was answered for
}

// maxPinned bounds the addresses that a Guard remembers: enough for any honest
// program, and no way to make the monitor grow.
const maxPinned = 4096

// NewGuard returns a Guard for net.
func NewGuard(net Net) *Guard {
	g := &Guard{net: net}
	for _, r := range net.Rules {
		g.named = g.named || r.Name != ""
	}
	return g
}

// Net is the policy that g applies.
func (g *Guard) Net() Net { return g.net }

// Out decides on a connection or datagram of the pVM to an address as the pVM
// knows it. It returns the address to use on the host.
func (g *Guard) Out(proto string, to netip.AddrPort) (host netip.AddrPort, ok bool) {
	a := to.Addr().Unmap().WithZone("")
	if g.net.None || !a.IsValid() || to.Port() == 0 {
		return netip.AddrPort{}, false
	}
	if a == nameAddr {
		return netip.AddrPort{}, false // only port 53, and that is not the host's
	}
	explicit := g.ruled(proto, a, to.Port())
	if loop, is := loopbackOf(a); is {
		return netip.AddrPortFrom(loop, to.Port()), g.net.HostLoopback || g.net.Unrestricted || explicit
	}
	// The unspecified addresses mean the host's loopback to connect(2).
	if a.IsLoopback() || a.IsUnspecified() {
		return netip.AddrPort{}, false
	}
	host = netip.AddrPortFrom(a, to.Port())
	switch {
	case g.net.Unrestricted, explicit:
		return host, true
	case isSpecial(a):
		return netip.AddrPort{}, false
	case len(g.net.Rules) == 0:
		return host, true
	}
	return host, g.pinnedFor(proto, a, to.Port())
}

// Reply decides on a datagram from a published port. Whoever sent something
// there is to be answered, and the monitor does not see what arrives: so
// everything is allowed that could be a client. On the host's loopback these
// are the ports from which programs connect.
func (g *Guard) Reply(to netip.AddrPort, ephemeral func(uint16) bool) (host netip.AddrPort, ok bool) {
	a := to.Addr().Unmap().WithZone("")
	if loop, is := loopbackOf(a); is {
		a = loop
	}
	switch {
	case g.net.None || !a.IsValid() || to.Port() == 0 || a.IsUnspecified() || a == nameAddr:
		return netip.AddrPort{}, false
	case a.IsLoopback():
		return netip.AddrPortFrom(a, to.Port()), ephemeral(to.Port())
	case isSpecial(a):
		return g.Out("udp", to)
	}
	return netip.AddrPortFrom(a, to.Port()), true
}

func isSpecial(a netip.Addr) bool {
	_, is := specialRange(a)
	return is
}

// specialRange returns the special range that a lies in.
func specialRange(a netip.Addr) (netip.Prefix, bool) {
	for _, p := range special {
		if p.Contains(a) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// ruled says whether a rule with addresses covers a.
func (g *Guard) ruled(proto string, a netip.Addr, port uint16) bool {
	for _, r := range g.net.Rules {
		if r.Name != "" || !r.Prefix.Contains(a) || !r.matches(proto, port) {
			continue
		}
		// A wide range such as 0.0.0.0/0 is not meant for special places.
		if s, ok := specialRange(a); ok && r.Prefix.Bits() < s.Bits() {
			continue
		}
		return true
	}
	return false
}

// pinnedFor says whether a rule with a name covers a, by what the name service
// answered before.
func (g *Guard) pinnedFor(proto string, a netip.Addr, port uint16) bool {
	if !g.named {
		return false
	}
	g.mu.Lock()
	names := g.pinned[a]
	g.mu.Unlock()
	for _, name := range names {
		for _, r := range g.net.Rules {
			if r.names(name) && r.matches(proto, port) {
				return true
			}
		}
	}
	return false
}

// Name decides whether the pVM may look up name. With rules, only the names in
// them: a look-up itself tells the outside something.
func (g *Guard) Name(name string) bool {
	if g.net.None {
		return false
	}
	if len(g.net.Rules) == 0 || g.net.Unrestricted {
		return true
	}
	name = CanonicalName(name)
	for _, r := range g.net.Rules {
		if r.names(name) {
			return true
		}
	}
	return false
}

// Known says whether some rule covers address a, whatever the port: the pVM may
// then ask for its name.
func (g *Guard) Known(a netip.Addr) bool {
	a = a.Unmap()
	for _, r := range g.net.Rules {
		if r.Name == "" && r.Prefix.Contains(a) {
			return true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pinned[a] != nil
}

// Pin notes that name was answered with addrs.
func (g *Guard) Pin(name string, addrs []netip.Addr) {
	if !g.named {
		return
	}
	name = CanonicalName(name)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pinned == nil {
		g.pinned = make(map[netip.Addr][]string)
	}
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		names := g.pinned[a]
		known := false
		for _, n := range names {
			known = known || n == name
		}
		if known || len(names) >= 16 {
			continue
		}
		if len(g.pinned) >= maxPinned && names == nil {
			for old := range g.pinned { // any: the map is far larger than honest use
				delete(g.pinned, old)
				break
			}
		}
		// Other goroutines may still read the old slice: never append in place.
		g.pinned[a] = append(names[:len(names):len(names)], name)
	}
}
