package names

import "golang.org/x/net/dns/dnsmessage"

// pack encodes an answer of at most limit bytes. What does not fit is left out
// and the answer marked as truncated, so that the guest asks again by stream.
func pack(h dnsmessage.Header, q *dnsmessage.Question, records []record, edns bool, limit int) []byte {
	for n := len(records); ; n /= 2 {
		h.Truncated = n < len(records)
		b, err := build(h, q, records[:n], edns)
		if err == nil && len(b) <= limit {
			return b
		}
		if n == 0 {
			return nil
		}
	}
}

func build(h dnsmessage.Header, q *dnsmessage.Question, records []record, edns bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, h)
	b.EnableCompression()
	if q == nil {
		return b.Finish()
	}
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(*q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	for _, r := range records {
		rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}
		if err := add(&b, rh, r.body); err != nil {
			return nil, err
		}
	}
	if edns {
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		rh := dnsmessage.ResourceHeader{}
		if err := rh.SetEDNS0(maxUDP, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		if err := b.OPTResource(rh, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

func add(b *dnsmessage.Builder, h dnsmessage.ResourceHeader, body dnsmessage.ResourceBody) error {
	switch r := body.(type) {
	case *dnsmessage.AResource:
		return b.AResource(h, *r)
	case *dnsmessage.AAAAResource:
		return b.AAAAResource(h, *r)
	case *dnsmessage.CNAMEResource:
		return b.CNAMEResource(h, *r)
	case *dnsmessage.MXResource:
		return b.MXResource(h, *r)
	case *dnsmessage.NSResource:
		return b.NSResource(h, *r)
	case *dnsmessage.SRVResource:
		return b.SRVResource(h, *r)
	case *dnsmessage.TXTResource:
		return b.TXTResource(h, *r)
	case *dnsmessage.PTRResource:
		return b.PTRResource(h, *r)
	}
	return nil
}
