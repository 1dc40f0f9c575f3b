// Package names is the name service that a pVM sees at 10.0.2.3 port 53: a DNS
// server on a socket pair, which asks the host's resolver (and so knows the
// host's /etc/hosts) and keeps to the pVM's policy.
package names

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"noyau.dev/host/policy"
)

const (
	maxQuery   = 1024             // bytes of a query
	maxUDP     = 1232             // bytes of a packet answer if the query allows as many
	maxTCP     = 65535            // bytes of a stream answer
	lookupTime = 15 * time.Second // for one query
	maxAtOnce  = 64               // look-ups of one pVM at a time; more wait
	// ttl is what answers say: the host's resolver does not tell, and caches.
	ttl = 10
)

// A Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupCNAME(ctx context.Context, host string) (string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// A Service answers the queries of one pVM.
type Service struct {
	guard    *policy.Guard
	resolver Resolver
	own      map[string][]netip.Addr // names that need no look-up
	places   chan struct{}
}

// HostName is the name under which a pVM may know the host's loopback.
const HostName = "host.noyau.internal"

// New returns the Service of a pVM with this host name. A nil resolver is the
// host's.
func New(guard *policy.Guard, hostname string, resolver Resolver) *Service {
	if resolver == nil {
		resolver = &net.Resolver{PreferGo: true}
	}
	s := &Service{guard: guard, resolver: resolver, places: make(chan struct{}, maxAtOnce)}
	guest := []netip.Addr{guest4, guest6}
	loop := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	s.own = map[string][]netip.Addr{"localhost": loop}
	if name := policy.CanonicalName(hostname); name != "" && name != "localhost" {
		s.own[name] = guest
	}
	if guard.Net().HostLoopback || guard.Net().Unrestricted || guard.Known(policy.Gateway()) {
		s.own[HostName] = []netip.Addr{policy.Gateway()}
	}
	return s
}

// Serve answers the queries that come on conn, a packet each or, if stream,
// with the length before each. It closes conn and returns when the guest has
// closed its side or ctx is done.
func (s *Service) Serve(ctx context.Context, conn *os.File, stream bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	c := &channel{s: s, conn: conn, stream: stream}
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel() // before the wait: nobody reads the answers any more
	for {
		q, err := c.read()
		if err != nil {
			return
		}
		select {
		case s.places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		work.Add(1)
		go func() {
			defer work.Done()
			defer func() { <-s.places }()
			ctx, cancel := context.WithTimeout(ctx, lookupTime)
			defer cancel()
			if a := s.Answer(ctx, q, stream); a != nil {
				c.write(a)
			}
		}()
	}
}

type channel struct {
	s      *Service
	conn   *os.File
	stream bool
	wmu    sync.Mutex
}

var errQuery = errors.New("query too long")

// read returns the next query. A channel that waits holds no more than maxQuery
// bytes.
func (c *channel) read() ([]byte, error) {
	if !c.stream {
		b := make([]byte, maxQuery)
		n, err := c.conn.Read(b)
		return b[:max(n, 0)], err
	}
	var head [2]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > maxQuery {
		return nil, errQuery
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c.conn, b)
	return b, err
}

func (c *channel) write(a []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.stream {
		a = append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)
	}
	c.conn.Write(a)
}

// Answer returns the answer to one query, or nil if it is none. It never
// panics, whatever q is.
func (s *Service) Answer(ctx context.Context, q []byte, stream bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(q)
	if err != nil || h.Response {
		return nil
	}
	reply := dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode,
		RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
	}
	question, err := p.Question()
	if err != nil {
		reply.RCode = dnsmessage.RCodeFormatError
		return pack(reply, nil, nil, false, maxUDP)
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone || h.OpCode != 0 {
		reply.RCode = dnsmessage.RCodeNotImplemented
		return pack(reply, &question, nil, false, maxUDP)
	}
	edns, size := options(&p)
	var records []record
	reply.RCode, records = s.lookup(ctx, question)
	limit := min(size, maxUDP)
	if stream {
		limit = maxTCP
	}
	return pack(reply, &question, records, edns, limit)
}

// options finds the EDNS record: whether there is one and the size it offers.
func options(p *dnsmessage.Parser) (edns bool, size int) {
	size = 512
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return false, size
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return edns, size
		}
		if h.Type == dnsmessage.TypeOPT {
			edns, size = true, max(size, int(h.Class))
		}
		if p.SkipAdditional() != nil {
			return edns, size
		}
	}
}
