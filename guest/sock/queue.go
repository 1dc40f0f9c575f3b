package sock

import "sync"

// A seg is a piece of a stream or one datagram. Segments and their buffers are
// pooled: an idle connection owns none.
type seg struct {
	next *seg
	buf  []byte // whole buffer
	r, w int    // unread bytes are buf[r:w]
	from addr   // UDP: the sender
	to   [16]byte
	name string // unix datagram: the sender's name, encoded
	anc  *anc   // what sendmsg attached; belongs to the first byte
}

const (
	smallSeg = 2 << 10
	largeSeg = 64 << 10
	segCost  = 256 // what a datagram costs of a buffer beside its bytes
)

var (
	smallPool = sync.Pool{New: func() any { return &seg{buf: make([]byte, smallSeg)} }}
	largePool = sync.Pool{New: func() any { return &seg{buf: make([]byte, largeSeg)} }}
)

// newSeg returns an empty segment that holds n bytes, or the largest if more
// are wanted.
func newSeg(n int) *seg {
	if n <= smallSeg {
		return smallPool.Get().(*seg)
	}
	return largePool.Get().(*seg)
}

// wholeSeg returns a segment that holds all of p (seqpacket records may be
// longer than the largest pooled buffer).
func wholeSeg(p []byte) *seg {
	var g *seg
	if len(p) > largeSeg {
		g = &seg{buf: make([]byte, len(p))}
	} else {
		g = newSeg(len(p))
	}
	g.w = copy(g.buf, p)
	return g
}

func freeSeg(g *seg) {
	if g.anc != nil {
		g.anc.drop()
	}
	g.next, g.r, g.w, g.anc, g.name = nil, 0, 0, nil, ""
	switch len(g.buf) {
	case smallSeg:
		smallPool.Put(g)
	case largeSeg:
		largePool.Put(g)
	}
}

// A queue is a list of segments. Its owner locks it.
type queue struct {
	head, tail *seg
	n          int // unread bytes
	cost       int // datagrams: bytes and overhead
}

func (q *queue) push(g *seg) {
	if q.head == nil {
		q.head = g
	} else {
		q.tail.next = g
	}
	q.tail = g
	q.n += g.w - g.r
	q.cost += g.w - g.r + segCost
}

// pop unlinks the first segment.
func (q *queue) pop() *seg {
	g := q.head
	q.head = g.next
	if q.head == nil {
		q.tail = nil
	}
	g.next = nil
	q.n -= g.w - g.r
	q.cost -= g.w - g.r + segCost
	return g
}

// write appends up to room bytes of p to a stream.
func (q *queue) write(p []byte, room int) int {
	if len(p) > room {
		p = p[:room]
	}
	n := len(p)
	if t := q.tail; t != nil && t.anc == nil && t.w < len(t.buf) {
		m := copy(t.buf[t.w:], p)
		t.w += m
		q.n += m
		q.cost += m
		p = p[m:]
	}
	for len(p) > 0 {
		g := newSeg(len(p))
		g.w = copy(g.buf, p)
		p = p[g.w:]
		q.push(g)
	}
	return n
}

// read takes up to len(p) bytes of a stream. It stops behind a piece with
// ancillary data, which comes with it: data of two messages with rights is never
// merged. A peek takes nothing.
func (q *queue) read(p []byte, peek bool) (n int, got *anc) {
	for g := q.head; g != nil && n < len(p); {
		if g.anc != nil {
			if peek {
				got = g.anc.clone()
			} else {
				got, g.anc = g.anc, nil
			}
		}
		m := copy(p[n:], g.buf[g.r:g.w])
		n += m
		next := g.next
		if !peek {
			g.r += m
			q.n -= m
			q.cost -= m
			if g.r == g.w {
				freeSeg(q.pop())
			}
		}
		if got != nil {
			break
		}
		g = next
	}
	return n, got
}

func (q *queue) clear() {
	for q.head != nil {
		freeSeg(q.pop())
	}
}
