package monitor

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
)

// stopPatience bounds the time until a member of a family stands still for a snapshot, and
// that in which it writes nothing.
const stopPatience = 10 * time.Second

// A freeze has all members of a family stand still at one moment, and write themselves. A
// member that has stopped does nothing until all have written: neither does what it could
// have sent to another get lost, nor is it there twice.
type freeze struct {
	f      *family
	ctx    context.Context
	create func() (*os.File, error) // a file for a member to write to
	list   []*frozen
}

// A frozen is a member that was ordered to stop.
type frozen struct {
	m      *member
	draft  *os.File
	gate   *os.File     // by which we speak to it: see abi.SnapAlone
	its    *os.File     // the other end
	heard  chan []byte  // its message that it stands still; closed without one if it goes
	done   chan error   // of Broker.Snapshot
	areas  []uint64     // places of its pieces of shared memory
	writes []bool       // which of them it is to write
	state  broker.State // once it stands still
}

// release lets all go on.
func (z *freeze) release() {
	for _, x := range z.list {
		x.close()
	}
}

func (x *frozen) close() {
	x.gate.Close()
	x.its.Close()
	for _, k := range x.state.Kept {
		unix.Close(k.FD)
	}
	x.state.Kept = nil
}

// goOn lets all go on, and waits until they do.
func (z *freeze) goOn() {
	z.release()
	late := time.After(stopPatience)
	for _, x := range z.list {
		select {
		case <-x.done:
		case <-late:
			return
		case <-z.ctx.Done():
			return
		}
	}
}

// order tells m to stop.
func (z *freeze) order(m *member) error {
	draft, err := z.create()
	if err != nil {
		return err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	unix.SetNonblock(fds[0], true) // ours; the guest's waits
	x := &frozen{m: m, draft: draft, heard: make(chan []byte, 1), done: make(chan error, 1),
		gate: os.NewFile(uintptr(fds[0]), "gate"), its: os.NewFile(uintptr(fds[1]), "gate")}
	z.list = append(z.list, x)
	go func() {
		_, err := m.broker.Snapshot(z.ctx, draft, x.its)
		x.done <- err
	}()
	go func() {
		defer close(x.heard)
		b := make([]byte, abi.SnapGate)
		if n, err := x.gate.Read(b); err == nil && n > 0 {
			x.heard <- b[:n]
		}
	}()
	return nil
}

// roster is who lives, and a child that is just being born; nil if there is none.
func (f *family) roster() (list []*member, birth *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.living {
		switch {
		case m.proc != nil:
			list = append(list, m)
		case m.parent != nil && !m.ahead && m.parent.children[m.pid] != nil:
			birth = m
		}
	}
	slices.SortFunc(list, func(a, b *member) int { return cmp.Compare(a.pid, b.pid) })
	return list, birth
}

// stop returns when all members stand still. Those that are born meanwhile are among them:
// when all stand still of whom is known nobody can be born any more.
func (z *freeze) stop() error {
	late := time.NewTimer(stopPatience)
	defer late.Stop()
	z.f.first.UnlinkAll() // signals go by the monitor, which puts down what was not heard
	known := make(map[*member]*frozen)
	for {
		list, birth := z.f.roster()
		if len(list) == 0 || list[0] != z.f.first {
			return errors.New("the first of the family has ended; what it has left behind cannot be saved")
		}
		more := birth != nil
		for _, m := range list {
			if known[m] == nil {
				if err := z.order(m); err != nil {
					return err
				}
				known[m], more = z.list[len(z.list)-1], true
			}
		}
		for _, x := range slices.Clone(z.list) {
			if x.areas != nil {
				continue
			}
			if err := z.await(x, late.C); err == errGone {
				z.forget(x)
				more = true
			} else if err != nil {
				return err
			}
		}
		if birth != nil {
			select {
			case <-birth.known:
			case <-late.C:
				return fmt.Errorf("member %d is long to be born", birth.pid)
			case <-z.ctx.Done():
				return z.ctx.Err()
			}
		}
		if !more {
			return nil
		}
	}
}

var errGone = errors.New("it has ended")

// await waits until x stands still. errGone: it has left the family.
func (z *freeze) await(x *frozen, late <-chan time.Time) error {
	for {
		z.f.mu.Lock()
		moved, lives := z.f.moved, z.f.living[x.m.pid] == x.m
		z.f.mu.Unlock()
		if !lives {
			return errGone
		}
		select {
		case b, ok := <-x.heard:
			if !ok {
				x.heard = nil // it may be about to leave
				continue
			}
			return x.stands(b)
		case err := <-x.done:
			x.done = nil
			if err != nil && err != unix.ESRCH {
				return fmt.Errorf("member %d: %w", x.m.pid, err)
			}
		case <-moved:
		case <-late:
			return fmt.Errorf("member %d has not stopped within %v; it may be paused, or busy with something that cannot be interrupted", x.m.pid, stopPatience)
		case <-z.ctx.Done():
			return z.ctx.Err()
		}
	}
}

// stands takes the message of a member that stands still.
func (x *frozen) stands(b []byte) error {
	if err := x.takeAreas(b); err != nil {
		return err
	}
	x.its.Close() // so that its end is seen
	x.state = x.m.broker.State()
	return nil
}

// forget takes x off the list. Its draft goes with the others.
func (z *freeze) forget(x *frozen) {
	x.close()
	z.list = slices.DeleteFunc(z.list, func(y *frozen) bool { return y == x })
}

// write has all write themselves, and returns when they have. Shared memory is written by
// one of those who have it.
func (z *freeze) write() error {
	for _, x := range z.list {
		claim := binary.LittleEndian.AppendUint64(nil, abi.SnapAlone)
		if len(z.list) > 1 {
			claim = append(binary.LittleEndian.AppendUint64(nil, abi.SnapFamily), make([]byte, abi.SnapAreas/8)...)
			for i, its := range x.writes {
				if its {
					claim[8+i/8] |= 1 << (i % 8)
				}
			}
		}
		if _, err := x.gate.Write(claim); err != nil {
			return fmt.Errorf("member %d: %w", x.m.pid, errGone)
		}
	}
	for _, x := range z.list {
		if err := z.wrote(x); err != nil {
			return fmt.Errorf("member %d: %w", x.m.pid, err)
		}
	}
	return nil
}

// wrote waits for x to have written, as long as it makes progress.
func (z *freeze) wrote(x *frozen) error {
	var b [8]byte
	size, since := int64(-1), time.Now()
	for {
		x.gate.SetReadDeadline(time.Now().Add(time.Second / 4))
		n, err := x.gate.Read(b[:])
		switch {
		case err == nil && n == len(b):
			if e := unix.Errno(binary.LittleEndian.Uint64(b[:])); e != 0 {
				return e
			}
			return nil
		case z.ctx.Err() != nil:
			return z.ctx.Err()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return errGone
		}
		if st, err := x.draft.Stat(); err == nil && st.Size() != size {
			size, since = st.Size(), time.Now()
		}
		if time.Since(since) > stopPatience {
			return fmt.Errorf("it has written nothing for %v", stopPatience)
		}
	}
}
