package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"noyau.dev/abi"
	"noyau.dev/host/policy"
)

var (
	guest4 = netip.MustParseAddr(abi.GuestIP4)
	guest6 = netip.MustParseAddr(abi.GuestIP6)
)

// A record is one answer; it belongs to the name that was asked for.
type record struct {
	body dnsmessage.ResourceBody
}

// lookup answers a question.
func (s *Service) lookup(ctx context.Context, q dnsmessage.Question) (dnsmessage.RCode, []record) {
	name := policy.CanonicalName(q.Name.String())
	if q.Class != dnsmessage.ClassINET {
		return dnsmessage.RCodeNotImplemented, nil
	}
	if addrs := s.ownName(name); addrs != nil {
		return dnsmessage.RCodeSuccess, addressRecords(addrs, q.Type)
	}
	if name == "" || strings.HasSuffix(name, ".localhost") {
		return dnsmessage.RCodeNameError, nil
	}
	if q.Type == dnsmessage.TypePTR {
		return s.pointer(ctx, name)
	}
	if !s.guard.Name(name) {
		return dnsmessage.RCodeRefused, nil
	}
	records, err := s.ask(ctx, name, q.Type)
	if err != nil {
		return s.failed(ctx, name, err), nil
	}
	return dnsmessage.RCodeSuccess, records
}

func (s *Service) ownName(name string) []netip.Addr {
	if a := s.own[name]; a != nil {
		return a
	}
	if strings.HasSuffix(name, ".localhost") {
		return s.own["localhost"]
	}
	return nil
}

// failed is the code for an error of the resolver, which says "not found" both
// for a name that does not exist and for one without records of the type.
func (s *Service) failed(ctx context.Context, name string, err error) dnsmessage.RCode {
	var d *net.DNSError
	if !errors.As(err, &d) || !d.IsNotFound {
		return dnsmessage.RCodeServerFailure
	}
	if addrs, err := s.resolver.LookupNetIP(ctx, "ip", name+"."); err == nil && len(addrs) > 0 {
		return dnsmessage.RCodeSuccess
	}
	return dnsmessage.RCodeNameError
}

// ask asks the host's resolver. The name is absolute: the search list is the
// guest's to apply.
func (s *Service) ask(ctx context.Context, name string, t dnsmessage.Type) ([]record, error) {
	abs := name + "."
	switch t {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		network := "ip4"
		if t == dnsmessage.TypeAAAA {
			network = "ip6"
		}
		addrs, err := s.resolver.LookupNetIP(ctx, network, abs)
		if err != nil {
			return nil, err
		}
		s.guard.Pin(name, addrs)
		return addressRecords(addrs, t), nil
	case dnsmessage.TypeCNAME:
		c, err := s.resolver.LookupCNAME(ctx, abs)
		if err != nil || policy.CanonicalName(c) == name {
			return nil, err
		}
		return one(c, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.CNAMEResource{CNAME: n} }), nil
	case dnsmessage.TypeMX:
		list, err := s.resolver.LookupMX(ctx, abs)
		var rs []record
		for _, mx := range list {
			rs = append(rs, one(mx.Host, func(n dnsmessage.Name) dnsmessage.ResourceBody {
				return &dnsmessage.MXResource{Pref: mx.Pref, MX: n}
			})...)
		}
		return partial(rs, err)
	case dnsmessage.TypeNS:
		list, err := s.resolver.LookupNS(ctx, abs)
		var rs []record
		for _, ns := range list {
			rs = append(rs, one(ns.Host, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.NSResource{NS: n} })...)
		}
		return partial(rs, err)
	case dnsmessage.TypeSRV:
		_, list, err := s.resolver.LookupSRV(ctx, "", "", abs)
		var rs []record
		for _, srv := range list {
			rs = append(rs, one(srv.Target, func(n dnsmessage.Name) dnsmessage.ResourceBody {
				return &dnsmessage.SRVResource{Priority: srv.Priority, Weight: srv.Weight, Port: srv.Port, Target: n}
			})...)
		}
		return partial(rs, err)
	case dnsmessage.TypeTXT:
		list, err := s.resolver.LookupTXT(ctx, abs)
		var rs []record
		for _, txt := range list {
			rs = append(rs, record{body: &dnsmessage.TXTResource{TXT: chunks(txt)}})
		}
		return partial(rs, err)
	}
	return nil, nil // no records of a type that the host's resolver cannot ask for
}

// partial keeps what was found if the resolver found some of it unusable.
func partial(rs []record, err error) ([]record, error) {
	if len(rs) > 0 {
		err = nil
	}
	return rs, err
}

func one(name string, body func(dnsmessage.Name) dnsmessage.ResourceBody) []record {
	n, err := dnsmessage.NewName(absolute(name))
	if err != nil {
		return nil
	}
	return []record{{body: body(n)}}
}

func absolute(name string) string {
	if strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}

// chunks cuts a text into the strings of at most 255 bytes that a record holds.
func chunks(txt string) []string {
	var c []string
	for len(txt) > 255 {
		c, txt = append(c, txt[:255]), txt[255:]
	}
	return append(c, txt)
}

func addressRecords(addrs []netip.Addr, t dnsmessage.Type) []record {
	var rs []record
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case a.Is4() && t == dnsmessage.TypeA:
			rs = append(rs, record{body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && t == dnsmessage.TypeAAAA:
			rs = append(rs, record{body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return rs
}

// pointer answers a question for the names of an address. With rules, an address
// may be asked about if the pVM may connect to it.
func (s *Service) pointer(ctx context.Context, name string) (dnsmessage.RCode, []record) {
	addr, ok := reverse(name)
	if !ok {
		return dnsmessage.RCodeNameError, nil
	}
	for n, own := range s.own {
		for _, a := range own {
			if a == addr {
				return dnsmessage.RCodeSuccess, one(n, ptr)
			}
		}
	}
	if net := s.guard.Net(); net.None || len(net.Rules) > 0 && !s.guard.Known(addr) {
		return dnsmessage.RCodeRefused, nil
	}
	list, err := s.resolver.LookupAddr(ctx, addr.String())
	var rs []record
	for _, n := range list {
		rs = append(rs, one(n, ptr)...)
	}
	if rs, err = partial(rs, err); err != nil {
		var d *net.DNSError
		if errors.As(err, &d) && d.IsNotFound {
			return dnsmessage.RCodeNameError, nil
		}
		return dnsmessage.RCodeServerFailure, nil
	}
	return dnsmessage.RCodeSuccess, rs
}

func ptr(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.PTRResource{PTR: n} }

// reverse reads the address in a name below in-addr.arpa or ip6.arpa.
func reverse(name string) (netip.Addr, bool) {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		f := strings.Split(v4, ".")
		if len(f) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(f[3] + "." + f[2] + "." + f[1] + "." + f[0])
		return a, err == nil
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	f := strings.Split(v6, ".")
	if !ok || len(f) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := range f {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(f[31-i])
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil && len(b.String()) == 39
}
