package fs

import "noyau.dev/guest/linux"

// chunkSize is the unit in which the content of a file is allocated, in bytes.
const chunkSize = 32 << 10

// A content is the bytes of a regular file: sparse, in chunks. A chunk may be
// shorter than chunkSize, or missing; what is not there reads as zeros. So a
// small file costs about its size, and a file of a terabyte of holes nothing.
// Short chunks are of the Go heap; those of full capacity are the pool's.
type content struct {
	size  int64
	head  []byte           // the first chunk: all of most files
	rest  map[int64][]byte // the others, by index
	alloc int64            // capacity of all chunks in bytes, charged to the quota
}

// A quota bounds the memory of a tree. It is guarded by the tree's mutex.
type quota struct {
	used, limit int64
	pool        pool
}

func (q *quota) take(n int64) bool {
	if n > 0 && q.used+n > q.limit {
		return false
	}
	q.used += n
	return true
}

// give takes back a chunk.
func (q *quota) give(b []byte) {
	q.used -= int64(cap(b))
	if cap(b) == chunkSize {
		q.pool.put(b)
	}
}

func (c *content) chunk(i int64) []byte {
	if i == 0 {
		return c.head
	}
	return c.rest[i]
}

func (c *content) setChunk(i int64, b []byte) {
	switch {
	case i == 0:
		c.head = b
	case b == nil:
		delete(c.rest, i)
	default:
		if c.rest == nil {
			c.rest = make(map[int64][]byte)
		}
		c.rest[i] = b
	}
}

// readAt copies what lies at off into p and returns how much; 0 at the end.
func (c *content) readAt(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	if left := c.size - off; int64(len(p)) > left {
		p = p[:left]
	}
	n := 0
	for n < len(p) {
		i, at := off/chunkSize, int(off%chunkSize)
		want := min(len(p)-n, chunkSize-at)
		dst := p[n : n+want]
		k := 0
		if b := c.chunk(i); at < len(b) {
			k = copy(dst, b[at:])
		}
		clear(dst[k:])
		n += want
		off += int64(want)
	}
	return n
}

// wholeFrom is the first chunk that is never short: the file is large by then.
const wholeFrom = 4

// grow makes chunk i at least n bytes long, or reports ENOSPC.
func (c *content) grow(i int64, n int, q *quota) ([]byte, linux.Errno) {
	b := c.chunk(i)
	if n <= len(b) {
		return b, 0
	}
	if n <= cap(b) {
		b = b[:n]
	} else {
		want := max(n, 2*cap(b), 64)
		if i >= wholeFrom || want > chunkSize/2 {
			want = chunkSize
		}
		more := int64(want - cap(b))
		if !q.take(more) {
			return nil, linux.ENOSPC
		}
		var nb []byte
		if want == chunkSize {
			if nb = q.pool.get(); nb == nil {
				q.take(-more)
				return nil, linux.ENOSPC
			}
			nb = nb[:n]
		} else {
			nb = make([]byte, n, want)
		}
		c.alloc += more
		copy(nb, b)
		b = nb
	}
	c.setChunk(i, b)
	return b, 0
}

// writeAt stores p at off. A write that runs out of space is short; one that
// stores nothing reports why.
func (c *content) writeAt(p []byte, off int64, q *quota) (int, linux.Errno) {
	n := 0
	for n < len(p) {
		i, at := off/chunkSize, int(off%chunkSize)
		want := min(len(p)-n, chunkSize-at)
		b, e := c.grow(i, at+want, q)
		if e != 0 {
			if n > 0 {
				return n, 0
			}
			return 0, e
		}
		copy(b[at:], p[n:n+want])
		n += want
		off += int64(want)
		if off > c.size {
			c.size = off
		}
	}
	return n, 0
}

// truncate sets the size. What lay behind the new end is gone for good: it
// reads as zeros if the file grows again.
func (c *content) truncate(size int64, q *quota) {
	if size < c.size {
		c.punch(size, maxSize-size, q)
	}
	c.size = size
}

// maxSize is the largest file size, that of Linux.
const maxSize = 1<<63 - 1

// punch makes a hole, and gives back what chunks lie wholly inside.
func (c *content) punch(off, n int64, q *quota) {
	end := off + n
	cut := func(i int64, b []byte) {
		start := i * chunkSize
		from := max(off-start, 0)
		to := min(end-start, int64(len(b)))
		if from >= to {
			return
		}
		if to < int64(len(b)) {
			clear(b[from:to])
			return
		}
		if from == 0 {
			c.alloc -= int64(cap(b))
			q.give(b)
			c.setChunk(i, nil)
			return
		}
		clear(b[from:to]) // the capacity behind len stays zero
		c.setChunk(i, b[:from])
	}
	if len(c.head) > 0 {
		cut(0, c.head)
	}
	if len(c.rest) == 0 || end <= chunkSize {
		return
	}
	first, last := off/chunkSize, (end-1)/chunkSize
	if last-first < int64(len(c.rest)) {
		for i := max(first, 1); i <= last; i++ {
			if b := c.rest[i]; b != nil {
				cut(i, b)
			}
		}
		return
	}
	for i, b := range c.rest {
		cut(i, b)
	}
}

// reserve makes sure that writes within [off, off+n) will not lack space.
func (c *content) reserve(off, n int64, q *quota) linux.Errno {
	end := off + n
	if need := n - c.alloc; need > q.limit-q.used {
		return linux.ENOSPC
	}
	for off < end {
		i, at := off/chunkSize, off%chunkSize
		k := min(chunkSize-at, end-off)
		if _, e := c.grow(i, int(at+k), q); e != 0 {
			return e
		}
		off += k
	}
	return 0
}

// seek finds the next data (hole == false) or hole at or after off, as lseek
// SEEK_DATA and SEEK_HOLE do. ENXIO at or behind the end.
func (c *content) seek(off int64, hole bool) (int64, linux.Errno) {
	if off < 0 || off >= c.size {
		return 0, linux.ENXIO
	}
	i := off / chunkSize
	has := c.chunk(i) != nil
	if hole != has {
		return off, 0
	}
	if hole {
		for c.chunk(i) != nil {
			i++
		}
		return min(i*chunkSize, c.size), 0
	}
	next := int64(-1)
	for j := range c.rest {
		if j > i && (next < 0 || j < next) {
			next = j
		}
	}
	if next < 0 || next*chunkSize >= c.size {
		return 0, linux.ENXIO
	}
	return next * chunkSize, 0
}

// free gives everything back.
func (c *content) free(q *quota) {
	q.give(c.head)
	for _, b := range c.rest {
		q.give(b)
	}
	*c = content{}
}
