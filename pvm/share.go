package pvm

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// A Memory is memory that is the same in a pVM and in all that it forks after Share.
// What lies in it is bytes and numbers: a Go pointer means nothing in another member, and
// the garbage collector does not look there. The usual rules hold for what several
// goroutines use: sync/atomic works on it, between members too; a sync.Mutex does not.
type Memory struct {
	bytes []byte
	head  *shareHead
	bells [2]bell
	spin  spinner
}

// A bell wakes those that wait: a byte for each of them.
type bell struct{ ear, hand *os.File }

// shareHead lies before the bytes.
type shareHead struct {
	// state is the number of calls of Wake that rang (high half), and how many
	// goroutines of all members have announced since that they wait.
	state atomic.Uint64
	_     [56]byte
}

// Share makes a Memory of n bytes, all 0. It exists as long as a member of the family.
func Share(n int) (*Memory, error) {
	if n <= 0 {
		return nil, fail("share", syscall.EINVAL)
	}
	var at uintptr
	size := uintptr(n) + unsafe.Sizeof(shareHead{})
	if _, _, errno := syscall.Syscall(sysShare, size, uintptr(unsafe.Pointer(&at)), 0); errno != 0 {
		return nil, fail("share", errno)
	}
	m := new(Memory)
	var err error
	for i := range m.bells {
		if m.bells[i].ear, m.bells[i].hand, err = Pair(); err != nil {
			return nil, err
		}
	}
	p := *(*unsafe.Pointer)(unsafe.Pointer(&at)) // outside of the Go heap
	m.head = (*shareHead)(p)
	m.bytes = unsafe.Slice((*byte)(unsafe.Add(p, unsafe.Sizeof(shareHead{}))), n)
	return m, nil
}

// Bytes is the memory. It begins at a multiple of 64.
func (m *Memory) Bytes() []byte { return m.bytes }

// Uint32 is the number at an offset that is a multiple of 4, for atomic use.
func (m *Memory) Uint32(offset int) *atomic.Uint32 {
	if offset < 0 || offset%4 != 0 || offset+4 > len(m.bytes) {
		panic(fmt.Sprintf("pvm: no aligned uint32 at %d of %d bytes", offset, len(m.bytes)))
	}
	return (*atomic.Uint32)(unsafe.Pointer(&m.bytes[offset]))
}

// Uint64 is the number at an offset that is a multiple of 8, for atomic use.
func (m *Memory) Uint64(offset int) *atomic.Uint64 {
	if offset < 0 || offset%8 != 0 || offset+8 > len(m.bytes) {
		panic(fmt.Sprintf("pvm: no aligned uint64 at %d of %d bytes", offset, len(m.bytes)))
	}
	return (*atomic.Uint64)(unsafe.Pointer(&m.bytes[offset]))
}

// Wait returns when v, a number in m, is not old. Whoever changes it calls Wake.
//
// A waiter announces itself and looks again; Wake rings once for all that are announced.
// Those that announce after a ring listen to the other bell, so that they do not hear
// what is meant for others. One that hears too much all the same, since it is two rings
// late or since another was killed while it waited, passes it on.
func (m *Memory) Wait(v *atomic.Uint32, old uint32) error {
	if m.spin.wait(v, old) {
		return nil
	}
	var b [1]byte
	for v.Load() == old {
		ring := uint32(m.head.state.Add(1) >> 32)
		if v.Load() != old && m.retract(ring) {
			return nil
		}
		bell := &m.bells[ring%2]
		for delay := 50 * time.Microsecond; ; delay = min(2*delay, 20*time.Millisecond) {
			if _, err := bell.ear.Read(b[:]); err != nil {
				return err
			}
			if uint32(m.head.state.Load()>>32) != ring {
				break
			}
			if _, err := bell.hand.Write(b[:]); err != nil {
				return err
			}
			time.Sleep(delay)
		}
	}
	return nil
}

// retract takes back an announcement; false if it was rung for already.
func (m *Memory) retract(ring uint32) bool {
	for {
		s := m.head.state.Load()
		if uint32(s>>32) != ring {
			return false
		}
		if m.head.state.CompareAndSwap(s, s-1) {
			return true
		}
	}
}

// Wake makes all that Wait look at their numbers again.
func (m *Memory) Wake() error {
	s := m.head.state.Load()
	for uint32(s) != 0 && !m.head.state.CompareAndSwap(s, (s>>32+1)<<32) {
		s = m.head.state.Load()
	}
	for n := uint32(s); n > 0; {
		k, err := m.bells[s>>32%2].hand.Write(rings[:min(n, uint32(len(rings)))])
		if err != nil {
			return err
		}
		n -= uint32(k)
	}
	return nil
}

var rings [256]byte
