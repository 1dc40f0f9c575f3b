package ipc

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"unsafe"

	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func newRing() ring { return ring{new(ringHead), make([]byte, ringSize)} }

// TestLayout: the heads are where other members of the family expect them.
func TestLayout(t *testing.T) {
	var h pairHead
	var r ringHead
	var s shareHead
	for what, c := range map[string][2]uintptr{
		"ringHead":     {unsafe.Sizeof(r), 256},
		"head":         {unsafe.Offsetof(r.head), 64},
		"data":         {unsafe.Offsetof(r.data), 128},
		"room":         {unsafe.Offsetof(r.room), 192},
		"ends":         {unsafe.Offsetof(h.ends), 512},
		"pairHead":     {unsafe.Sizeof(h), 640},
		"shareHead":    {unsafe.Sizeof(s), 128},
		"ring's start": {ringHeads % 8, 0},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", what, c[0], c[1])
		}
	}
}

// TestRingBytes: what comes out is what went in, whatever the pieces.
func TestRingBytes(t *testing.T) {
	r := newRing()
	r.head.Store(^uint32(0) - 1000) // positions wrap
	r.tail.Store(^uint32(0) - 1000)
	src := rand.New(rand.NewPCG(1, 2))
	in, out := make([]byte, 80<<10), make([]byte, 80<<10)
	var next, want byte
	for moved := 0; moved < 8<<20; {
		p := in[:1+src.IntN(len(in))]
		for i := range p {
			p[i] = next + byte(i)
		}
		n, e := r.write(p)
		if e != 0 && e != linux.EAGAIN || (e == 0) != (n > 0) {
			t.Fatal(n, e)
		}
		next += byte(n)
		k, e := r.read(out[:1+src.IntN(len(out))])
		if e != 0 && e != linux.EAGAIN {
			t.Fatal(k, e)
		}
		for _, c := range out[:k] {
			if c != want {
				t.Fatalf("byte %d is %d, want %d", moved, c, want)
			}
			want++
		}
		moved += k
	}
}

// TestRingMessages: they stay whole and in order, and are cut to what the reader has room for.
func TestRingMessages(t *testing.T) {
	r := newRing()
	src := rand.New(rand.NewPCG(3, 4))
	out := make([]byte, maxMessage)
	var queue [][]byte
	for n := 0; n < 20000; {
		size := 1 + src.IntN(300)
		if src.IntN(20) == 0 {
			size = maxMessage - src.IntN(3)
		}
		m := bytes.Repeat([]byte{byte(n)}, size)
		binary.LittleEndian.AppendUint32(m[:0], uint32(n))
		switch k, e := r.send(m); {
		case e == 0 && k == len(m):
			queue = append(queue, m)
			n++
		case e != linux.EAGAIN:
			t.Fatal(k, e)
		}
		for len(queue) > 0 && (src.IntN(2) == 0 || len(queue) > 100) {
			p := out
			if src.IntN(10) == 0 {
				p = out[:1+src.IntN(100)]
			}
			k, e := r.receive(p)
			if want := queue[0][:min(len(p), len(queue[0]))]; e != 0 || !bytes.Equal(p[:k], want) {
				t.Fatalf("message of %d bytes, %d; want %d", k, e, len(want))
			}
			queue = queue[1:]
		}
	}
	if _, e := r.send(make([]byte, maxMessage+1)); e != linux.EMSGSIZE {
		t.Errorf("a message that is too long: %d", e)
	}
}

// TestLock: one that another pVM has is not waited for without end, and one of this pVM's,
// which can only be of before a restore, is taken.
func TestLock(t *testing.T) {
	rt.Native.Boot.PID = 7
	defer func() { rt.Native.Boot.PID = 0 }()
	r := newRing()
	if _, e := r.write([]byte("x")); e != 0 || r.writer.Load() != 0 {
		t.Fatal(e, r.writer.Load())
	}
	for owner, want := range map[uint32]linux.Errno{7: 0, 8: errBusy, 1<<32 - 1: errBusy} {
		r.writer.Store(owner)
		if _, e := r.write([]byte("x")); e != want {
			t.Errorf("the writer's lock is %d's: %d, want %d", owner, e, want)
		}
		r.reader.Store(owner)
		if _, e := r.read(make([]byte, 1)); e != want {
			t.Errorf("the reader's lock is %d's: %d, want %d", owner, e, want)
		}
	}
}

// FuzzRing: whatever another member writes into a ring and its head, what is done with it
// ends, stays inside, and gives data or one of few errors.
func FuzzRing(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7}, uint32(0), uint32(0), uint32(0))
	f.Add([]byte{5, 0, 0, 0, 0, 0, 0, 0}, uint32(16), uint32(0), uint32(1))
	f.Add([]byte{255, 255, 255, 255}, uint32(0xfffffff8), uint32(0xfff), uint32(3))
	f.Fuzz(func(t *testing.T, content []byte, tail, head, lock uint32) {
		const guard = 64
		mem := make([]byte, ringSize+2*guard)
		r := ring{new(ringHead), mem[guard : guard+ringSize : guard+ringSize]}
		copy(r.buf[head%ringSize:], content)
		r.tail.Store(tail)
		r.head.Store(head)
		r.writer.Store(lock)
		r.reader.Store(lock >> 8)
		p := make([]byte, 100)
		for _, op := range []func([]byte) (int, linux.Errno){r.read, r.write, r.receive, r.send} {
			n, e := op(p)
			switch e {
			case 0, linux.EAGAIN, linux.EIO, errBusy:
			default:
				t.Fatalf("error %d", e)
			}
			if n < 0 || n > len(p) || (e != 0) != (n == 0) {
				t.Fatalf("%d bytes, error %d", n, e)
			}
			r.tail.Store(tail)
			r.head.Store(head)
		}
		if !bytes.Equal(mem[:guard], make([]byte, guard)) || !bytes.Equal(mem[guard+ringSize:], make([]byte, guard)) {
			t.Fatal("written outside of the ring")
		}
	})
}
