package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Rule allows connections to one place outside: "host|ip|cidr[:port][/proto]".
type Rule struct {
	// Name is a host name in lower case without a trailing dot, or empty. A
	// leading "*." stands for every name below it.
	Name string
	// Prefix is the range of addresses if Name is empty.
	Prefix netip.Prefix
	Port   uint16 // 0: every port
	Proto  string // "tcp", "udp" or "": both
}

const ownLoopback = "that is the pVM's own loopback, which needs no rule; the host's is 10.0.2.2"

// ParseRule reads a rule. An IPv6 address with a port stands in brackets.
func ParseRule(s string) (Rule, error) {
	bad := func(why string) (Rule, error) {
		return Rule{}, fmt.Errorf("allow-out %q: %s; want host|ip|cidr[:port][/tcp|/udp], as in example.org:443 or 10.0.0.0/8", s, why)
	}
	var r Rule
	rest := s
	for _, proto := range []string{"tcp", "udp"} {
		if cut, ok := strings.CutSuffix(rest, "/"+proto); ok {
			rest, r.Proto = cut, proto
			break
		}
	}
	host, port := rest, ""
	switch {
	case strings.HasPrefix(rest, "["):
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return bad("a bracket is not closed")
		}
		host = rest[1:end]
		tail := rest[end+1:]
		if at := strings.LastIndexByte(tail, ':'); at >= 0 {
			tail, port = tail[:at], tail[at+1:]
		}
		host += tail // a prefix length behind the bracket
	case strings.Count(rest, ":") == 1:
		host, port, _ = strings.Cut(rest, ":")
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bad(fmt.Sprintf("%q is not a port", port))
		}
		r.Port = uint16(n)
	} else if strings.HasSuffix(rest, ":") {
		return bad("the port is empty")
	}
	p, err := netip.ParsePrefix(host)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(host); err == nil {
			a = a.WithZone("").Unmap()
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if err == nil {
		if r.Prefix = p.Masked(); r.Prefix.Addr().IsLoopback() {
			return bad(ownLoopback)
		}
		return r, nil
	}
	name := CanonicalName(host)
	if name == "localhost" {
		return bad(ownLoopback)
	}
	if !validName(strings.TrimPrefix(name, "*.")) {
		return bad(fmt.Sprintf("%q is neither an address nor a host name", host))
	}
	r.Name = name
	return r, nil
}

// CanonicalName is name in lower case without a trailing dot.
func CanonicalName(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

func validName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// String is the form that ParseRule reads.
func (r Rule) String() string {
	s := r.Name
	if s == "" {
		s = r.Prefix.String()
		if r.Prefix.IsSingleIP() {
			s = r.Prefix.Addr().String()
		}
		if r.Prefix.Addr().Is6() && r.Port != 0 {
			s = "[" + s + "]"
		}
	}
	if r.Port != 0 {
		s += ":" + strconv.Itoa(int(r.Port))
	}
	if r.Proto != "" {
		s += "/" + r.Proto
	}
	return s
}

func (r Rule) matches(proto string, port uint16) bool {
	return (r.Proto == "" || r.Proto == proto) && (r.Port == 0 || r.Port == port)
}

// names says whether r names this canonical name.
func (r Rule) names(name string) bool {
	if below, ok := strings.CutPrefix(r.Name, "*"); ok {
		return strings.HasSuffix(name, below) && len(name) > len(below)
	}
	return r.Name != "" && r.Name == name
}
