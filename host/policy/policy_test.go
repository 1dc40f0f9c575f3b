package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestParsePublish(t *testing.T) {
	for in, want := range map[string]string{
		"8080:80":               "8080:80/tcp",
		"80":                    "0:80/tcp",
		"0:80":                  "0:80/tcp",
		"53:53/udp":             "53:53/udp",
		"127.0.0.1:8080:80":     "127.0.0.1:8080:80/tcp",
		"127.0.0.1::80":         "127.0.0.1:0:80/tcp",
		"[::1]:8080:80/tcp":     "[::1]:8080:80/tcp",
		"::1:8080:80":           "[::1]:8080:80/tcp",
		"":                      "error: not a port of the pVM",
		"80:":                   "error: not a port of the pVM",
		"80:0":                  "error: not a port of the pVM",
		"80:65536":              "error: not a port of the pVM",
		"x:80":                  "error: not a port of the host",
		":80":                   "error: not a port of the host",
		"-1:80":                 "error: not a port of the host",
		"host:8080:80":          "error: not an IP address",
		"80:80/sctp":            "error: not a protocol",
		"127.0.0.1:8080:80/udp": "127.0.0.1:8080:80/udp",
	} {
		p, err := ParsePublish(in)
		check(t, in, p.String(), want, err)
		if err == nil {
			if again, err := ParsePublish(p.String()); again != p || err != nil {
				t.Errorf("%q does not read back what it writes: %v, %v", in, again, err)
			}
		}
	}
}

func check(t *testing.T, in, got, want string, err error) {
	t.Helper()
	if w, bad := strings.CutPrefix(want, "error: "); bad {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%q: %q, %v; want an error with %q", in, got, err, w)
		}
	} else if err != nil || got != want {
		t.Errorf("%q: %q, %v; want %q", in, got, err, want)
	}
}

func TestParseRule(t *testing.T) {
	for in, want := range map[string]string{
		"example.org":             "example.org",
		"Example.ORG.:443/tcp":    "example.org:443/tcp",
		"*.example.org:443":       "*.example.org:443",
		"10.0.0.0/8":              "10.0.0.0/8",
		"10.1.2.3/8":              "10.0.0.0/8",
		"10.0.0.0/8:53/udp":       "10.0.0.0/8:53/udp",
		"192.0.2.1":               "192.0.2.1",
		"192.0.2.1:80":            "192.0.2.1:80",
		"2001:db8::1":             "2001:db8::1",
		"[2001:db8::1]:80/tcp":    "[2001:db8::1]:80/tcp",
		"2001:db8::/32":           "2001:db8::/32",
		"[2001:db8::]/32:80":      "[2001:db8::/32]:80",
		"[2001:db8::/32]:80":      "[2001:db8::/32]:80",
		"::ffff:192.0.2.1":        "192.0.2.1",
		"127.0.0.1:80":            "error: own loopback",
		"localhost":               "error: own loopback",
		"::1":                     "error: own loopback",
		"":                        "error: neither an address nor a host name",
		"a b":                     "error: neither an address nor a host name",
		"a..b":                    "error: neither an address nor a host name",
		"*":                       "error: neither an address nor a host name",
		"x.*.y":                   "error: neither an address nor a host name",
		"example.org:":            "error: the port is empty",
		"example.org:0":           "error: not a port",
		"example.org:99999":       "error: not a port",
		"[2001:db8::1":            "error: a bracket is not closed",
		"example.org/icmp":        "error: neither an address nor a host name",
		strings.Repeat("a", 64):   "error: neither an address nor a host name",
		strings.Repeat("a.", 150): "error: neither an address nor a host name",
	} {
		r, err := ParseRule(in)
		got := ""
		if err == nil {
			got = r.String()
			if again, err := ParseRule(got); again != r || err != nil {
				t.Errorf("%q does not read back what it writes: %v, %v", in, again, err)
			}
		}
		check(t, in, got, want, err)
	}
}

func rules(t *testing.T, list ...string) (rs []Rule) {
	t.Helper()
	for _, s := range list {
		r, err := ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

func TestOut(t *testing.T) {
	for _, tt := range []struct {
		name    string
		net     Net
		allowed string
		refused string
	}{
		{"default", Net{}, "192.0.2.1:80 [2001:db8::1]:443 10.0.2.4:80 [::ffff:192.0.2.1]:80",
			"127.0.0.1:80 127.255.0.1:80 [::1]:80 0.0.0.0:80 [::]:80 10.0.2.2:80 [fd00::2]:80 10.0.2.3:80 169.254.169.254:80 " +
				"[::ffff:127.0.0.1]:80 [::ffff:169.254.169.254]:80 [::ffff:0.0.0.0]:80 [fe80::1]:80 [fd00:ec2::254]:80 100.100.100.200:80 224.0.0.251:5353 255.255.255.255:67 [ff02::1]:80 192.0.2.1:0"},
		{"none", Net{None: true, Unrestricted: true, HostLoopback: true}, "", "192.0.2.1:80 10.0.2.2:80 [2001:db8::1]:443"},
		{"loopback", Net{HostLoopback: true}, "10.0.2.2:80=127.0.0.1:80 [fd00::2]:80=[::1]:80 192.0.2.1:80", "127.0.0.1:80 [::1]:80 169.254.169.254:80"},
		{"unrestricted", Net{Unrestricted: true}, "10.0.2.2:80=127.0.0.1:80 192.0.2.1:80 169.254.169.254:80", "127.0.0.1:80 [::]:80"},
		{"rules", Net{Rules: rules(t, "10.0.0.0/8:53/udp", "192.0.2.7")}, "10.1.1.1:53/udp 192.0.2.7:1 192.0.2.7:1/udp",
			"10.1.1.1:53 10.1.1.1:54/udp 192.0.2.8:80 10.0.2.2:80 11.0.0.1:53/udp"},
		{"everything by a rule", Net{Rules: rules(t, "0.0.0.0/0", "::/0")}, "192.0.2.1:80 [2001:db8::1]:80",
			"10.0.2.2:80 [fd00::2]:80 169.254.169.254:80 127.0.0.1:80 [::1]:80 [fe80::1]:80 100.100.100.200:80"},
		{"special by name", Net{Rules: rules(t, "169.254.169.254:80/tcp", "10.0.2.2:5432")}, "169.254.169.254:80 10.0.2.2:5432=127.0.0.1:5432",
			"169.254.169.254:81 169.254.169.254:80/udp 169.254.170.2:80 10.0.2.2:80"},
	} {
		g := NewGuard(tt.net)
		for _, s := range strings.Fields(tt.allowed) {
			in, want, mapped := strings.Cut(s, "=")
			to, proto := endpoint(in)
			if !mapped {
				want = netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String()
			}
			if host, ok := g.Out(proto, to); !ok || host.String() != want {
				t.Errorf("%s: %s: %v, %v; want %s", tt.name, s, host, ok, want)
			}
		}
		for _, s := range strings.Fields(tt.refused) {
			to, proto := endpoint(s)
			if host, ok := g.Out(proto, to); ok {
				t.Errorf("%s: %s is allowed, as %v", tt.name, s, host)
			}
		}
	}
}

func endpoint(s string) (netip.AddrPort, string) {
	proto := "tcp"
	if cut, ok := strings.CutSuffix(s, "/udp"); ok {
		s, proto = cut, "udp"
	}
	return netip.MustParseAddrPort(s), proto
}

// A name in a rule stands for what the name service answered, and never for a
// special place, whatever the name's owner puts into the DNS.
func TestNames(t *testing.T) {
	g := NewGuard(Net{Rules: rules(t, "api.example.org:443/tcp", "*.cdn.example:80")})
	for name, want := range map[string]bool{
		"api.example.org": true, "API.example.org.": true, "a.cdn.example": true, "a.b.cdn.example": true,
		"cdn.example": false, "example.org": false, "xapi.example.org": false, "evilcdn.example": false, "": false,
	} {
		if g.Name(name) != want {
			t.Errorf("look-up of %q: %v; want %v", name, !want, want)
		}
	}
	to := netip.MustParseAddrPort("192.0.2.1:443")
	if _, ok := g.Out("tcp", to); ok {
		t.Error("allowed before the name was looked up")
	}
	g.Pin("API.example.org.", []netip.Addr{to.Addr(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("10.0.2.2")})
	if _, ok := g.Out("tcp", to); !ok {
		t.Error("refused after the name was looked up")
	}
	for _, s := range []string{"192.0.2.1:80", "192.0.2.1:443/udp", "192.0.2.2:443", "127.0.0.1:443", "169.254.169.254:443", "10.0.2.2:443"} {
		to, proto := endpoint(s)
		if _, ok := g.Out(proto, to); ok {
			t.Errorf("%s is allowed", s)
		}
	}
	if !g.Known(to.Addr()) || g.Known(netip.MustParseAddr("192.0.2.2")) {
		t.Error("Known is wrong")
	}
	for n := range 3 * maxPinned {
		g.Pin("api.example.org", []netip.Addr{netip.AddrFrom4([4]byte{198, byte(n >> 16), byte(n >> 8), byte(n)})})
		g.Pin(fmt.Sprintf("x%d.cdn.example", n), []netip.Addr{to.Addr()})
	}
	if len(g.pinned) > maxPinned || len(g.pinned[to.Addr()]) > 16 {
		t.Errorf("%d addresses, %d names: not bounded", len(g.pinned), len(g.pinned[to.Addr()]))
	}
}

func TestReply(t *testing.T) {
	eph := func(p uint16) bool { return p >= 32768 }
	g := NewGuard(Net{Rules: rules(t, "192.0.2.9")})
	for s, want := range map[string]bool{
		"127.0.0.1:40000": true, "127.0.0.1:53": false, "[::1]:40000": true, "[::1]:53": false, "198.51.100.1:5": true,
		"169.254.169.254:40000": false, "0.0.0.0:40000": false, "198.51.100.1:0": false, "[::ffff:127.0.0.1]:53": false,
		"10.0.2.2:40000": true, "[fd00::2]:40000": true, "[fd00::2]:53": false, "10.0.2.2:53": false, "10.0.2.3:53": false,
	} {
		host, ok := g.Reply(netip.MustParseAddrPort(s), eph)
		if ok != want {
			t.Errorf("%s: %v; want %v", s, ok, want)
		}
		if host.Addr() == Gateway() {
			t.Errorf("%s: sent to the host's network", s)
		}
	}
}
