package exec

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/ipc"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/proc"
	"noyau.dev/guest/rt"
)

// A pump moves what a child writes to one of this pVM's files, or the other way: pipes,
// files and connections inside a pVM are memory of it, which the child does not have.
// It has a reference to the file, as the child would have.
type pump struct {
	d       *kernel.Desc
	ch      *ipc.Channel
	in, out bool // to the child, from the child

	mu sync.Mutex // of out: one at a time
	sides
}

// sides counts the goroutines that are left.
type sides struct {
	sync.Mutex
	n int
}

// pumps are those that write into files, by child: what the child has written must be
// there when who waits for it learns of its end.
var pumps struct {
	mu sync.Mutex
	m  map[uint32][]*pump
}

func init() { proc.Reaped = reaped }

// newPump makes a pump of end 1 of a pair.
func newPump(handle int32, pair uint64, d *kernel.Desc, n uint64) (*pump, linux.Errno) {
	if handle < 0 {
		return nil, linux.EIO
	}
	ch, e := ipc.NewChannel(handle, pair, 1)
	if e != 0 {
		host.Close(handle)
		return nil, e
	}
	p := &pump{d: d, ch: ch}
	switch {
	case !d.Writable():
		p.in = true
	case !d.Readable() || n == 1 || n == 2 || d.Queue() == nil && n != 0:
		p.out = true
	case n == 0:
		p.in = true
	default:
		p.in, p.out = true, true
	}
	if !d.Hold() {
		ch.Release()
		return nil, linux.EBADF
	}
	return p, 0
}

// drop ends a child that never was.
func (s *starting) drop() {
	for _, p := range s.pumps {
		p.ch.Release()
		p.d.Put()
	}
}

// begin lets the pumps of a child run. pumps.mu is held.
func (s *starting) begin(pid uint32) {
	for _, p := range s.pumps {
		if p.out && p.d.Queue() == nil {
			if pumps.m == nil {
				pumps.m = make(map[uint32][]*pump)
			}
			pumps.m[pid] = append(pumps.m[pid], p)
		}
		if p.in && p.out {
			p.n = 2
			rt.Spawn(p.toChild)
			rt.Spawn(p.fromChild)
			continue
		}
		p.n = 1
		if p.in {
			rt.Spawn(p.toChild)
		} else {
			rt.Spawn(p.fromChild)
		}
	}
}

// reaped moves what a child that has ended left behind.
func reaped(pid uint32) {
	pumps.mu.Lock()
	list := pumps.m[pid]
	delete(pumps.m, pid)
	pumps.mu.Unlock()
	for _, p := range list {
		b := kernel.GetBuffer(pumpSize)
		for p.move(*b) == 0 {
		}
		kernel.PutBuffer(b)
	}
}

const pumpSize = 32 << 10

// over ends one direction.
func (p *pump) over() {
	p.sides.Lock()
	p.n--
	last := p.n == 0
	p.sides.Unlock()
	if last {
		// reaped may be at it.
		p.mu.Lock()
		ch := p.ch
		p.ch = nil
		p.mu.Unlock()
		ch.Release()
		p.d.Put()
	}
}

// move moves a piece of what the child has written. EPIPE is the end.
func (p *pump) move(b []byte) linux.Errno {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch == nil {
		return linux.EPIPE
	}
	n, e := p.ch.Read(b)
	if e != 0 {
		return e
	}
	if n == 0 {
		return linux.EPIPE
	}
	for b = b[:n]; len(b) > 0; {
		n, e := p.d.File.Write(b)
		switch {
		case e == linux.EAGAIN:
			kernel.Wait(p.d.File, rt.Out, 0)
		case e != 0 || n == 0:
			return linux.EPIPE
		}
		b = b[n:]
	}
	return 0
}

func (p *pump) fromChild() {
	defer p.over()
	ch := p.ch
	for {
		b := kernel.GetBuffer(pumpSize)
		e := p.move(*b)
		kernel.PutBuffer(b)
		switch e {
		case 0:
		case linux.EAGAIN:
			if !p.awaitChild(ch) {
				return
			}
		default:
			return
		}
	}
}

// toChild ends when the file does, or when the child reads no more.
func (p *pump) toChild() {
	defer p.over()
	if p.out {
		defer p.endInput()
	}
	for {
		b := kernel.GetBuffer(pumpSize)
		n, e := p.d.File.Read(*b)
		if e == linux.EAGAIN {
			kernel.PutBuffer(b)
			if !p.await() {
				return
			}
			continue
		}
		if n <= 0 || e != 0 {
			kernel.PutBuffer(b)
			return
		}
		ok := p.give((*b)[:n])
		kernel.PutBuffer(b)
		if !ok {
			return
		}
	}
}

// endInput lets the child read the end, while it may still write.
func (p *pump) endInput() {
	for e := linux.EINTR; e == linux.EINTR; { // of a restored pVM, whose child waits for it
		h, _ := p.ch.HostStream()
		_, e = host.RequestWith(abi.Msg{Op: abi.OpShut, A: linux.SHUT_WR}, h)
	}
}

// give sends b to the child.
func (p *pump) give(b []byte) bool {
	for len(b) > 0 {
		n, e := p.ch.Write(b)
		switch {
		case e == linux.EAGAIN:
			kernel.Wait(p.ch, rt.Out, 0)
		case e != 0:
			return false
		}
		b = b[n:]
	}
	return true
}

// awaitChild waits until the child has written something, or nobody is left to read it.
func (p *pump) awaitChild(ch *ipc.Channel) bool {
	q := p.d.Queue()
	if q == nil {
		kernel.Wait(ch, rt.In, 0)
		return true
	}
	k := kernel.GetParker()
	defer k.Put()
	data, broken := &kernel.Watcher{Mask: rt.In, To: k}, &kernel.Watcher{To: k}
	ch.Queue().Add(data)
	defer ch.Queue().Remove(data)
	q.Add(broken)
	defer q.Remove(broken)
	for {
		if ch.Ready()&(rt.In|kernel.Always) != 0 {
			return true
		}
		if p.d.Ready()&rt.Err != 0 {
			return false
		}
		k.Park(0)
	}
}

// await waits until there is something to read, or the child is gone.
func (p *pump) await() bool {
	q := p.d.Queue()
	if q == nil {
		return false
	}
	k := kernel.GetParker()
	defer k.Put()
	data, gone := &kernel.Watcher{Mask: rt.In, To: k}, &kernel.Watcher{Mask: rt.Hup | rt.RdHup, To: k}
	q.Add(data)
	defer q.Remove(data)
	p.ch.Queue().Add(gone)
	defer p.ch.Queue().Remove(gone)
	for {
		if p.ch.Ready()&rt.Hup != 0 {
			return false
		}
		if p.d.Ready()&(rt.In|kernel.Always) != 0 {
			return true
		}
		k.Park(0)
	}
}
