// Package broker answers the control messages of one pVM. It trusts nothing
// that a message says: lengths are checked by the decoder, handles are looked
// up in a table of this pVM alone, paths are resolved by package volume strictly
// beneath their root, addresses are decided on by package policy.
//
// What a guest can make the monitor hold is bounded: handles (MaxHandles),
// requests under way (abi.MaxPending), name-service channels (maxChannels),
// threads in slow calls (maxSlow). A guest that does not read its replies is
// not read from either.
package broker

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/names"
	"noyau.dev/host/policy"
	"noyau.dev/host/volume"
)

// DefaultMaxHandles bounds the handles of a pVM if Config says nothing.
const DefaultMaxHandles = 16384

// Config is what a Broker works with. The Broker owns Control, Roots and Ports
// and closes them at its end.
type Config struct {
	Control  *os.File // the monitor's end of the control channel, nonblocking
	Guard    *policy.Guard
	Names    *names.Service // nil: no name service
	Roots    []*volume.Root // by volume number
	Ports    *Ports
	Terminal [3]*os.File // terminals behind the standard streams; nil: none

	// Family is what forks; nil: fork is not allowed.
	Family Family
	// Sockets are unix sockets by name; nil: none reaches out of the pVM.
	Sockets *Sockets
	// Release, if set, is called at the end in the place of closing Roots and Ports,
	// which are then shared with other brokers.
	Release func()

	MaxHandles int
	// Restored is what a pVM that goes on from a snapshot has open.
	Restored *Restored
	// Failed is called, once, if the broker met a bug of its own and gave up on
	// this pVM, which must then be killed.
	Failed func(error)
}

// A Broker serves one pVM.
type Broker struct {
	c      Config
	raw    syscall.RawConn // of c.Control
	ctx    context.Context
	cancel context.CancelFunc
	table  table
	events events
	slow   chan struct{} // a place per thread that this pVM may block

	work     sync.WaitGroup // goroutines that use roots or ports
	pending  atomic.Int32
	inflight inflight
	channels atomic.Int32

	requests, connects atomic.Uint64
	killedBy           atomic.Uint64
	failOnce           sync.Once
	narrowed           atomic.Uint32 // rights that were taken away
	narrowedBefore     uint32        // of them, those of a snapshot
	snap               snapshot

	births   births
	execs    map[uint64]*Exec // children that are prepared; of the goroutine that serves
	lastExec uint64
	done     chan struct{}
}

// New returns a Broker; call Serve.
func New(c Config) (*Broker, error) {
	raw, err := c.Control.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("control channel: %w", err)
	}
	if c.MaxHandles <= 0 {
		c.MaxHandles = DefaultMaxHandles
	}
	b := newBroker(c)
	b.raw = raw
	return b, nil
}

func newBroker(c Config) *Broker {
	b := &Broker{c: c, done: make(chan struct{}), slow: make(chan struct{}, maxSlow)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.table.max = c.MaxHandles
	b.table.restore(c.Restored)
	if r := c.Restored; r != nil {
		b.narrowedBefore = r.Rights & abi.NarrowAll
		b.narrowed.Store(b.narrowedBefore)
	}
	return b
}

// Serve reads and answers messages until the guest is gone or Close is called,
// then releases everything.
func (b *Broker) Serve() {
	defer close(b.done)
	func() {
		defer b.wall()
		for {
			if err := b.receive(b.handlePacket); err != nil && err != errWoken {
				return
			}
		}
	}()
	b.cancel()
	b.c.Control.Close()
	b.work.Wait()
	for pid := range b.births.m {
		b.born(pid, true, 0) // killed while it forked: the child may live
	}
	for _, x := range b.execs {
		x.Close()
	}
	b.events.closeLinks()
	b.table.closeAll()
	if b.c.Release != nil {
		b.c.Release()
		return
	}
	b.c.Ports.Close()
	for _, r := range b.c.Roots {
		r.Close()
	}
}

// Close makes Serve end. It does not wait for it: see Done.
func (b *Broker) Close() {
	b.cancel()
	b.c.Control.Close()
}

// Discard gives back what a Broker has that never serves.
func (b *Broker) Discard() {
	b.Close()
	b.table.closeAll()
}

// Done is closed when everything that the pVM held has been released.
func (b *Broker) Done() <-chan struct{} { return b.done }

// wall is the last wall, deferred by every goroutine that works for a guest: a
// bug in a handler ends this pVM, not the monitor and its other pVMs.
func (b *Broker) wall() {
	if v := recover(); v != nil {
		b.fail(fmt.Errorf("the monitor failed on a request of this pVM (a bug in Noyau): %v\n%s", v, debug.Stack()))
	}
}

func (b *Broker) fail(err error) {
	b.failOnce.Do(func() {
		b.Close()
		if b.c.Failed != nil {
			b.c.Failed(err)
		}
	})
}

// KilledBy is the signal by which the guest said it would end; 0 if it did not.
func (b *Broker) KilledBy() unix.Signal { return unix.Signal(b.killedBy.Load()) }

// Figures are counts for Stats.
type Figures struct {
	Handles, Pending   int
	Requests, Connects uint64
}

// Figures returns counts of this moment.
func (b *Broker) Figures() Figures {
	return Figures{
		Handles: b.table.len(), Pending: int(b.pending.Load()),
		Requests: b.requests.Load(), Connects: b.connects.Load(),
	}
}

// handlePacket answers one packet. fds are the descriptors that came beside
// it, which it owns. p is only valid during the call.
func (b *Broker) handlePacket(p []byte, whole bool, fds []int) {
	r := request{b: b, fd: -1}
	for i, fd := range fds {
		if i == 0 && len(fds) == 1 {
			r.fd = fd
		} else {
			unix.Close(fd)
		}
	}
	var ok bool
	r.msg, r.payload, ok = abi.TakeMsg(p)
	if !ok || r.msg.ID == 0 && !silent(r.msg.Op) {
		r.closeFD() // nothing to answer to
		return
	}
	b.requests.Add(1)
	switch {
	case !whole:
		r.finish(reply{}, unix.EMSGSIZE)
	case len(fds) > 1:
		r.finish(reply{}, unix.EINVAL)
	case int(r.msg.Op) >= len(ops) || ops[r.msg.Op].do == nil:
		r.finish(reply{}, unix.ENOSYS)
	default:
		b.run(&r, &ops[r.msg.Op])
	}
	if b.snap.holds {
		b.hold()
	}
}

// silent says whether a message makes sense without an answer.
func silent(op uint16) bool {
	switch op {
	case abi.OpDrop, abi.OpKilled, abi.OpSendTo, abi.OpForked, abi.OpSnapshotted, abi.OpExecDrop, abi.OpRejoin,
		abi.OpUnshare, abi.OpSignalUnlink:
		return true
	}
	return false
}

func (b *Broker) run(r *request, op *op) {
	if err := r.allowed(); err != nil {
		r.finish(reply{}, err)
		return
	}
	if !op.waits {
		rep, err := op.do(r)
		if err == errLater { // it turned out that it has to wait
			b.background(r, op.wait)
			return
		}
		r.finish(rep, err)
		return
	}
	b.background(r, op.do)
}

// background runs do on a goroutine of its own.
func (b *Broker) background(r *request, do func(*request) (reply, error)) {
	if len(r.payload) > maxWaitPayload {
		r.finish(reply{}, unix.EINVAL)
		return
	}
	if b.pending.Add(1) > abi.MaxPending {
		b.pending.Add(-1)
		r.finish(reply{}, unix.EAGAIN)
		return
	}
	own := *r
	own.payload = append([]byte(nil), r.payload...)
	own.ctx, own.stop = context.WithCancel(b.ctx)
	b.inflight.add(&own)
	b.work.Add(1)
	go func() {
		defer b.work.Done()
		defer b.wall()
		defer b.pending.Add(-1)
		defer own.stop()
		defer b.inflight.remove(&own)
		defer own.heard()
		rep, err := do(&own)
		own.finish(rep, err)
	}()
}
