package ipc

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// testPair makes a pair as the monitor's answer would.
func testPair(t testing.TB, packets bool) (x, y *kernel.Desc) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a := &area{p: rt.Pages(pairSize), n: pairSize, handle: [2]int32{int32(fds[0]), int32(fds[1])}}
	ends, e := a.ends(packets)
	if e != 0 {
		t.Fatal(e)
	}
	return kernel.NewDesc(ends[0], linux.O_RDWR), kernel.NewDesc(ends[1], linux.O_RDWR)
}

// TestPairStream moves data in both directions at once, and sees the ends.
func TestPairStream(t *testing.T) {
	x, y := testPair(t, false)
	var wg sync.WaitGroup
	const size = 8 << 20
	var sent, got [2][sha256.Size]byte
	for i, d := range []*kernel.Desc{x, y} {
		wg.Go(func() {
			h, src := sha256.New(), rand.New(rand.NewPCG(uint64(i), 1))
			b := make([]byte, 200<<10)
			for n := 0; n < size; {
				p := b[:1+src.IntN(min(len(b), size-n))]
				for j := range p {
					p[j] = byte(src.Uint32())
				}
				h.Write(p)
				if k, e := d.Write(p); e != 0 || k != len(p) {
					t.Errorf("wrote %d of %d, %d", k, len(p), e)
					return
				}
				n += len(p)
			}
			h.Sum(sent[i][:0])
		})
		wg.Go(func() {
			h, src := sha256.New(), rand.New(rand.NewPCG(uint64(i), 2))
			b := make([]byte, 200<<10)
			for n := 0; n < size; {
				k, e := d.Read(b[:1+src.IntN(len(b))])
				if e != 0 || k == 0 {
					t.Errorf("read %d, %d", k, e)
					return
				}
				h.Write(b[:k])
				n += k
			}
			h.Sum(got[1-i][:0])
		})
	}
	wg.Wait()
	if sent != got {
		t.Error("what was read is not what was written")
	}
	x.Write([]byte("last"))
	x.Put()
	b := make([]byte, 10)
	if n, e := y.Read(b); string(b[:n]) != "last" || e != 0 {
		t.Errorf("%q, %d", b[:n], e)
	}
	if n, e := y.Read(b); n != 0 || e != 0 {
		t.Errorf("after the end: %d, %d", n, e)
	}
	if _, e := y.Write(b); e != linux.EPIPE {
		t.Errorf("a write to nobody: %d", e)
	}
	if ev := y.File.Ready(); ev&(rt.Hup|rt.In|rt.Out) != rt.Hup|rt.In|rt.Out {
		t.Errorf("ready for %#x after the end", ev)
	}
	y.Put()
}

// TestPairBlocked: a close wakes readers and writers of the other end.
func TestPairBlocked(t *testing.T) {
	for _, packets := range []bool{false, true} {
		x, y := testPair(t, packets)
		var wg sync.WaitGroup
		wg.Go(func() {
			if n, e := y.Read(make([]byte, 1)); n != 0 || e != 0 {
				t.Errorf("read: %d, %d", n, e)
			}
		})
		wg.Go(func() {
			for {
				if _, e := y.Write(make([]byte, 50<<10)); e != 0 {
					if e != linux.EPIPE {
						t.Errorf("write: %d", e)
					}
					return
				}
			}
		})
		time.Sleep(20 * time.Millisecond)
		x.Put()
		wg.Wait()
		y.Put()
	}
}

// TestPairMessages: several send and several receive, and each message is received once.
func TestPairMessages(t *testing.T) {
	x, y := testPair(t, true)
	const each, senders = 3000, 3
	var wg, receivers sync.WaitGroup
	var seen [senders][each]atomic.Int32
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				m := append([]byte{byte(s), byte(i), byte(i >> 8)}, bytes.Repeat([]byte{byte(i)}, i%5000)...)
				if n, e := x.Write(m); n != len(m) || e != 0 {
					t.Error(n, e)
				}
			}
		})
		receivers.Go(func() {
			b := make([]byte, maxMessage)
			for {
				n, e := y.Read(b)
				if n == 0 || e != 0 {
					return
				}
				i := int(b[1]) | int(b[2])<<8
				if n != 3+i%5000 || b[n-1] != byte(i) && n > 3 {
					t.Errorf("message %d has %d bytes", i, n)
				}
				seen[b[0]][i].Add(1)
			}
		})
	}
	wg.Wait()
	x.Put()
	receivers.Wait()
	y.Put()
	for s := range seen {
		for i := range seen[s] {
			if n := seen[s][i].Load(); n != 1 {
				t.Fatalf("message %d of %d was received %d times", i, s, n)
			}
		}
	}
}

// TestPairHostile: another member writes anything into the heads while this one reads and
// writes; it gets data or errors, and all that is done comes back.
func TestPairHostile(t *testing.T) {
	for _, packets := range []bool{false, true} {
		x, y := testPair(t, packets)
		h := x.File.(*End).a.heads()
		var stop atomic.Bool
		var wg sync.WaitGroup
		var calls atomic.Int64
		for i, d := range []*kernel.Desc{x, y} {
			d.SetFlags(linux.O_NONBLOCK)
			for _, f := range []func([]byte) (int, linux.Errno){d.Read, d.Write} {
				wg.Go(func() {
					b := make([]byte, 1+i*70<<10)
					for !stop.Load() {
						switch n, e := f(b); e {
						case 0, linux.EAGAIN, linux.EIO, linux.EMSGSIZE, linux.EPIPE:
							if n < 0 || n > len(b) {
								t.Errorf("%d bytes of %d", n, len(b))
							}
						default:
							t.Errorf("error %d", e)
						}
						d.File.Ready()
						calls.Add(1)
					}
				})
			}
		}
		src := rand.New(rand.NewPCG(5, 6))
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
			r := &h.rings[src.IntN(2)]
			w := []*atomic.Uint32{&r.tail, &r.head, &r.writer, &r.reader, &h.ends[0].rung, &h.ends[1].heard, &h.ends[0].closed}[src.IntN(7)]
			switch src.IntN(4) {
			case 0:
				w.Store(src.Uint32())
			case 1:
				w.Add(src.Uint32N(ringSize))
			default:
				w.Store(0)
			}
		}
		stop.Store(true)
		wg.Wait()
		if calls.Load() == 0 {
			t.Error("nothing was done")
		}
		x.Put()
		y.Put()
	}
}

// TestPairLocked: whoever waits for a lock that another holds does not say that it is
// ready meanwhile, and goes on when the lock is free.
func TestPairLocked(t *testing.T) {
	x, y := testPair(t, false)
	defer x.Put()
	defer y.Put()
	rt.Native.Boot.PID = 7
	defer func() { rt.Native.Boot.PID = 0 }()
	x.Write([]byte("x"))
	in := y.File.(*End).in
	in.reader.Store(8)
	go func() {
		time.Sleep(30 * time.Millisecond)
		in.reader.Store(0)
	}()
	var tries int
	for {
		tries++
		n, e := y.File.Read(make([]byte, 1))
		if n == 1 {
			break
		}
		if e != linux.EAGAIN {
			t.Fatal(n, e)
		}
		kernel.Wait(y.File, rt.In, 0)
	}
	if tries > 40 {
		t.Errorf("tried %d times in 30 ms", tries)
	}
}

// TestPairFrozen holds that an end whose other end goes while a snapshot is made hears of it
// when that is over.
func TestPairFrozen(t *testing.T) {
	_, y := testPair(t, false)
	c := y.File.(*End)
	areas.mu.Lock()
	if areas.m == nil {
		areas.m = make(map[uintptr]*area)
	}
	areas.m[c.a.p] = c.a
	areas.mu.Unlock()
	keep()
	// As the end of another member that has it would.
	rt.Unwatch(c.a.handle[0])
	unix.Close(int(c.a.handle[0]))
	c.a.handle[0] = -1
	for c.src.Seen()&rt.Hup == 0 {
		time.Sleep(time.Millisecond)
	}
	if n, e := c.Read(make([]byte, 1)); n != 0 || e != linux.EAGAIN {
		t.Errorf("read while frozen: %d, %d", n, e)
	}
	read := make(chan linux.Errno)
	go func() {
		n, e := y.Read(make([]byte, 1))
		if n != 0 {
			e = linux.EIO
		}
		read <- e
	}()
	time.Sleep(20 * time.Millisecond) // that it waits already; if not, the test shows less
	thaw()
	select {
	case e := <-read:
		if e != 0 {
			t.Errorf("read: %d", e)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody has told it")
	}
	y.Put()
}
