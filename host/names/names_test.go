package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"noyau.dev/host/policy"
)

// zone is a resolver with fixed answers.
type zone struct{}

var notFound = &net.DNSError{Err: "no such host", IsNotFound: true}

func (zone) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	switch {
	case host == "both.example." && network == "ip4", host == "four.example." && network != "ip6":
		return []netip.Addr{v4}, nil
	case host == "both.example.":
		return []netip.Addr{v6}, nil
	case host == "broken.example.":
		return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	case host == "many.example." && network == "ip4":
		var all []netip.Addr
		for n := range 200 {
			all = append(all, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}))
		}
		return all, nil
	}
	return nil, notFound
}
func (zone) LookupCNAME(_ context.Context, host string) (string, error) {
	if host == "alias.example." {
		return "both.example.", nil
	}
	return host, nil
}
func (zone) LookupMX(context.Context, string) ([]*net.MX, error) {
	return []*net.MX{{Host: "mail.example.", Pref: 10}}, errors.New("some records were bad")
}
func (zone) LookupTXT(context.Context, string) ([]string, error) {
	return []string{strings.Repeat("t", 300), "short"}, nil
}
func (zone) LookupNS(context.Context, string) ([]*net.NS, error) {
	return []*net.NS{{Host: "ns.example."}}, nil
}
func (zone) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", []*net.SRV{{Target: "srv.example.", Port: 5060, Priority: 1, Weight: 2}}, nil
}
func (zone) LookupAddr(_ context.Context, addr string) ([]string, error) {
	if addr == "2001:db8::1" || addr == "192.0.2.1" {
		return []string{"both.example."}, nil
	}
	return nil, notFound
}

func ask(t *testing.T, s *Service, name string, typ dnsmessage.Type, stream bool) *dnsmessage.Message {
	t.Helper()
	b := s.Answer(context.Background(), query(name, typ), stream)
	m := new(dnsmessage.Message)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%s %v: %v", name, typ, err)
	}
	if !m.Response || m.ID != 4711 || len(m.Questions) != 1 {
		t.Fatalf("%s %v: %+v", name, typ, m)
	}
	return m
}

func query(name string, typ dnsmessage.Type) []byte {
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	b, err := q.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func TestAnswers(t *testing.T) {
	s := New(policy.NewGuard(policy.Net{HostLoopback: true}), "Web", zone{})
	const ok, nx, fail = dnsmessage.RCodeSuccess, dnsmessage.RCodeNameError, dnsmessage.RCodeServerFailure
	for _, tt := range []struct {
		name string
		typ  dnsmessage.Type
		code dnsmessage.RCode
		want string // in the answers' text; "" for none
	}{
		{"both.example.", dnsmessage.TypeA, ok, "192, 0, 2, 1"},
		{"BOTH.example.", dnsmessage.TypeAAAA, ok, "32, 1, 13, 184"},
		{"four.example.", dnsmessage.TypeAAAA, ok, ""}, // exists, without such records
		{"none.example.", dnsmessage.TypeA, nx, ""},
		{"broken.example.", dnsmessage.TypeA, fail, ""},
		{"alias.example.", dnsmessage.TypeCNAME, ok, "both.example."},
		{"both.example.", dnsmessage.TypeCNAME, ok, ""},
		{"both.example.", dnsmessage.TypeMX, ok, "mail.example."},
		{"both.example.", dnsmessage.TypeTXT, ok, "short"},
		{"both.example.", dnsmessage.TypeNS, ok, "ns.example."},
		{"_sip._udp.example.", dnsmessage.TypeSRV, ok, "srv.example."},
		{"both.example.", dnsmessage.TypeSOA, ok, ""},
		{"1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, ok, "both.example."},
		{"1." + strings.Repeat("0.", 23) + "8.b.d.0.1.0.0.2.ip6.arpa.", dnsmessage.TypePTR, ok, "both.example."},
		{"9.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, nx, ""},
		{"x.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, nx, ""},
		{"15.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, ok, "web."},
		{"localhost.", dnsmessage.TypeA, ok, "127, 0, 0, 1"},
		{"a.localhost.", dnsmessage.TypeA, ok, "127, 0, 0, 1"},
		{"localhost.", dnsmessage.TypeMX, ok, ""},
		{"web.", dnsmessage.TypeA, ok, "10, 0, 2, 15"},
		{"host.noyau.internal.", dnsmessage.TypeA, ok, "10, 0, 2, 2"},
		{".", dnsmessage.TypeNS, nx, ""},
	} {
		m := ask(t, s, tt.name, tt.typ, false)
		var text []string
		for _, a := range m.Answers {
			text = append(text, a.Body.GoString())
		}
		got := strings.Join(text, " ")
		if m.RCode != tt.code || tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s %v: %v %s; want %v %q", tt.name, tt.typ, m.RCode, got, tt.code, tt.want)
		}
	}
}

func TestPolicy(t *testing.T) {
	rule, _ := policy.ParseRule("both.example:80")
	g := policy.NewGuard(policy.Net{Rules: []policy.Rule{rule}})
	s := New(g, "web", zone{})
	for name, want := range map[string]dnsmessage.RCode{
		"both.example.": dnsmessage.RCodeSuccess, "four.example.": dnsmessage.RCodeRefused,
		"leak.evil.": dnsmessage.RCodeRefused, "localhost.": dnsmessage.RCodeSuccess,
	} {
		if m := ask(t, s, name, dnsmessage.TypeA, false); m.RCode != want {
			t.Errorf("%s: %v; want %v", name, m.RCode, want)
		}
	}
	if _, ok := g.Out("tcp", netip.MustParseAddrPort("192.0.2.1:80")); !ok {
		t.Error("the answer did not open the way to the address")
	}
	if m := ask(t, s, "1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, false); m.RCode != dnsmessage.RCodeSuccess {
		t.Errorf("the name of a known address: %v", m.RCode)
	}
	if m := ask(t, s, "2.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, false); m.RCode != dnsmessage.RCodeRefused {
		t.Errorf("the name of a strange address: %v", m.RCode)
	}
}

func TestTruncation(t *testing.T) {
	s := New(policy.NewGuard(policy.Net{}), "web", zone{})
	m := ask(t, s, "many.example.", dnsmessage.TypeA, false)
	if !m.Truncated || len(m.Answers) == 0 || len(m.Answers) == 200 {
		t.Errorf("packet: truncated %v, %d answers", m.Truncated, len(m.Answers))
	}
	if b := s.Answer(context.Background(), query("many.example.", dnsmessage.TypeA), false); len(b) > 512 {
		t.Errorf("%d bytes to a client that takes 512", len(b))
	}
	if m = ask(t, s, "many.example.", dnsmessage.TypeA, true); m.Truncated || len(m.Answers) != 200 {
		t.Errorf("stream: truncated %v, %d answers", m.Truncated, len(m.Answers))
	}
}

func FuzzAnswer(f *testing.F) {
	s := New(policy.NewGuard(policy.Net{}), "web", zone{})
	f.Add(query("both.example.", dnsmessage.TypeA))
	f.Add(query("1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, q []byte) {
		for _, stream := range []bool{false, true} {
			b := s.Answer(context.Background(), q, stream)
			if b == nil {
				continue
			}
			var p dnsmessage.Parser
			if h, err := p.Start(b); err != nil || !h.Response {
				t.Fatalf("an answer that is none: %v", err)
			}
			if !stream && len(b) > maxUDP {
				t.Fatalf("%d bytes in a packet", len(b))
			}
		}
	})
}

func TestServe(t *testing.T) {
	s := New(policy.NewGuard(policy.Net{}), "web", zone{})
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fds[1]), "client")
	ended := make(chan struct{})
	go func() { defer close(ended); s.Serve(t.Context(), os.NewFile(uintptr(fds[0]), "names"), true) }()
	q := query("both.example.", dnsmessage.TypeA)
	framed := append([]byte{byte(len(q) >> 8), byte(len(q))}, q...)
	client.SetDeadline(time.Now().Add(20 * time.Second))
	for _, b := range framed { // byte by byte
		client.Write([]byte{b})
	}
	client.Write(append(framed, framed...)) // and two at once
	b := make([]byte, 4096)
	for got := 0; got < 3; {
		n, err := client.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got += strings.Count(string(b[:n]), "\xc0\x00\x02\x01") // the address
	}
	client.Write([]byte{0xff, 0xff, 1}) // too long: the channel is closed
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("a query that is too long did not end the channel")
	}
	client.Close()
}
