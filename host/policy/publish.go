package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Publish makes a port of the pVM reachable from outside: the docker user's
// "-p [ip:]host:guest[/udp]".
type Publish struct {
	// IP is the host address to listen on; the zero Addr means every address,
	// IPv4 and IPv6.
	IP netip.Addr
	// HostPort is the port on the host; 0 lets the host choose one.
	HostPort uint16
	// GuestPort is the port that the app listens on.
	GuestPort uint16
	// UDP publishes a UDP port instead of a TCP port.
	UDP bool
}

// ParsePublish reads "[ip:]host:guest[/tcp|/udp]" or "guest[/udp]" (the host
// chooses a port). An IPv6 address stands in brackets.
func ParsePublish(s string) (Publish, error) {
	bad := func(why string) (Publish, error) {
		return Publish{}, fmt.Errorf("publish %q: %s; want [ip:]host:guest[/tcp|/udp], as in 8080:80 or 127.0.0.1:8080:80", s, why)
	}
	var p Publish
	rest := s
	if at := strings.LastIndexByte(rest, '/'); at >= 0 {
		switch rest[at+1:] {
		case "tcp":
		case "udp":
			p.UDP = true
		default:
			return bad(fmt.Sprintf("%q is not a protocol", rest[at+1:]))
		}
		rest = rest[:at]
	}
	host, guest, both := cutLast(rest, ":")
	if !both {
		guest = rest
	}
	port, err := strconv.ParseUint(guest, 10, 16)
	if err != nil || port == 0 {
		return bad(fmt.Sprintf("%q is not a port of the pVM", guest))
	}
	p.GuestPort = uint16(port)
	if !both {
		return p, nil
	}
	ip, hostPort, withIP := cutLast(host, ":")
	if !withIP {
		hostPort = host
	}
	if hostPort != "" || !withIP {
		port, err = strconv.ParseUint(hostPort, 10, 16)
		if err != nil {
			return bad(fmt.Sprintf("%q is not a port of the host", hostPort))
		}
		p.HostPort = uint16(port)
	}
	if withIP {
		ip = strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
		if p.IP, err = netip.ParseAddr(ip); err != nil {
			return bad(fmt.Sprintf("%q is not an IP address", ip))
		}
	}
	return p, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if at := strings.LastIndex(s, sep); at >= 0 {
		return s[:at], s[at+len(sep):], true
	}
	return s, "", false
}

// Proto is the name of p's protocol: "tcp" or "udp".
func (p Publish) Proto() string {
	if p.UDP {
		return "udp"
	}
	return "tcp"
}

// String is the form that ParsePublish reads.
func (p Publish) String() string {
	s := fmt.Sprintf("%d:%d", p.HostPort, p.GuestPort)
	if p.IP.IsValid() {
		if p.IP.Is6() {
			s = "[" + p.IP.String() + "]:" + s
		} else {
			s = p.IP.String() + ":" + s
		}
	}
	return s + "/" + p.Proto()
}
