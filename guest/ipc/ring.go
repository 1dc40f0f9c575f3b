package ipc

import (
	"sync/atomic"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// What the two ends of a pair share is memory: a page with two ringHeads and two
// endHeads, and the bytes of the two rings. Ring 0 goes from end 0 to end 1.
const (
	ringSize   = 256 << 10
	ringHeads  = 4096
	pairSize   = ringHeads + 2*ringSize
	ringQuiet  = ringSize / 4 // with that much or less in it a ring is said to have room
	ringPiece  = 64 << 10     // what is moved at once
	maxMessage = 64 << 10
	msgHeader  = 8 // length u32, zero u32; messages begin at multiples of 8
)

// A ringHead is in shared memory: any member may write to any part of it, at any time.
// So each field is read once and checked, and no field leads anywhere but into the ring.
//
// Positions count bytes and wrap at 2^32. What is in the ring becomes visible, and
// goes away, by one store of a position, which comes last: a member that is killed in
// between leaves the ring as it was, and its lock, which others take over when
// the monitor says that it is gone.
type ringHead struct {
	tail   atomic.Uint32 // the next byte to be written
	writer atomic.Uint32 // process id of who writes, 0: nobody
	_      [56]byte
	head   atomic.Uint32 // the next byte to be read
	reader atomic.Uint32 // who reads
	_      [56]byte
	data   rt.Bell // rung when tail has moved
	_      [48]byte
	room   rt.Bell // rung when head has moved
	_      [48]byte
}

// An endHead is about the connection of an end. The bytes that ring wait there until
// somebody takes them out: see End.hush.
type endHead struct {
	rung   atomic.Uint32 // bytes that the other end has sent
	heard  atomic.Uint32 // bytes that were taken out
	closed atomic.Uint32 // times that a member has closed this end
	_      [52]byte
}

type pairHead struct {
	rings [2]ringHead
	ends  [2]endHead
}

// A ring is one direction of a pair.
type ring struct {
	*ringHead
	buf []byte // ringSize of shared memory
}

const (
	lockTries = 4096 // some 20 µs
	errBusy   = linux.EBUSY
)

// lock takes one of the two locks of a ring. It fails if another pVM has it for longer
// than a copy takes: it is stopped, or was killed. The caller is pinned, so nobody
// else of this pVM can have it: a lock with this pVM's id is one of before a restore.
func lock(l *atomic.Uint32) bool {
	me := rt.Boot().PID
	for range lockTries {
		if o := l.Load(); (o == 0 || o == me) && l.CompareAndSwap(o, me) {
			return true
		}
	}
	return false
}

func unlock(l *atomic.Uint32) { l.Store(0) }

// used is how much is in the ring. EIO: somebody has written nonsense.
func used(tail, head uint32) (uint32, linux.Errno) {
	n := tail - head
	if n > ringSize {
		return 0, linux.EIO
	}
	return n, 0
}

func (r ring) copyIn(at uint32, p []byte) {
	at %= ringSize
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
}

func (r ring) copyOut(p []byte, at uint32) {
	at %= ringSize
	n := copy(p, r.buf[at:])
	copy(p[n:], r.buf)
}

// read takes bytes out, no more than a piece. EAGAIN: there are none.
func (r ring) read(p []byte) (int, linux.Errno) {
	if !lock(&r.reader) {
		return 0, errBusy
	}
	defer unlock(&r.reader)
	head := r.head.Load()
	n, e := used(r.tail.Load(), head)
	if e != 0 {
		return 0, e
	}
	if n == 0 {
		return 0, linux.EAGAIN
	}
	k := min(len(p), int(n), ringPiece)
	r.copyOut(p[:k], head)
	r.head.Store(head + uint32(k))
	return k, 0
}

// write puts bytes in, no more than a piece. EAGAIN: there is no room.
func (r ring) write(p []byte) (int, linux.Errno) {
	if !lock(&r.writer) {
		return 0, errBusy
	}
	defer unlock(&r.writer)
	tail := r.tail.Load()
	n, e := used(tail, r.head.Load())
	if e != 0 {
		return 0, e
	}
	k := min(len(p), int(ringSize-n), ringPiece)
	if k == 0 {
		return 0, linux.EAGAIN
	}
	r.copyIn(tail, p[:k])
	r.tail.Store(tail + uint32(k))
	return k, 0
}

func pad8(n uint32) uint32 { return (n + 7) &^ 7 }

// receive takes a message out, cut to len(p).
func (r ring) receive(p []byte) (int, linux.Errno) {
	if !lock(&r.reader) {
		return 0, errBusy
	}
	defer unlock(&r.reader)
	head := r.head.Load()
	n, e := used(r.tail.Load(), head)
	if e != 0 {
		return 0, e
	}
	if n == 0 {
		return 0, linux.EAGAIN
	}
	if n < msgHeader || head%msgHeader != 0 {
		return 0, linux.EIO
	}
	size := r.length(head).Load()
	if size == 0 || size > maxMessage || msgHeader+pad8(size) > n {
		return 0, linux.EIO
	}
	k := min(len(p), int(size))
	r.copyOut(p[:k], head+msgHeader)
	r.head.Store(head + msgHeader + pad8(size))
	return k, 0
}

// send puts a message in.
func (r ring) send(p []byte) (int, linux.Errno) {
	if len(p) > maxMessage {
		return 0, linux.EMSGSIZE
	}
	if !lock(&r.writer) {
		return 0, errBusy
	}
	defer unlock(&r.writer)
	tail := r.tail.Load()
	n, e := used(tail, r.head.Load())
	if e != 0 {
		return 0, e
	}
	if tail%msgHeader != 0 {
		return 0, linux.EIO
	}
	size := uint32(len(p))
	if ringSize-n < msgHeader+pad8(size) {
		return 0, linux.EAGAIN
	}
	r.length(tail).Store(size)
	r.copyIn(tail+msgHeader, p)
	r.tail.Store(tail + msgHeader + pad8(size))
	return len(p), 0
}
