package broker

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// linkFamily is a family of a guest and of member 9.
type linkFamily struct {
	fakeFamily
	mu    sync.Mutex
	last  uint64
	given []uint64 // links taken away
	all   int      // calls of UnlinkAll
}

func (f *linkFamily) Link(pid uint32) (LinkEnd, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pid != 9 {
		return LinkEnd{}, unix.ESRCH
	}
	f.last++
	a, b, err := NewLink(f.last, 7, pid)
	if err == nil {
		b.Close()
	}
	return a, err
}

func (f *linkFamily) Unlink(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given = append(f.given, id)
}

func (f *linkFamily) UnlinkAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all++
}

// TestLinkRequests: what a guest may ask for, and what it gets.
func TestLinkRequests(t *testing.T) {
	f := &linkFamily{}
	g := start(t, setup{family: f})
	g.closes = true
	for _, pid := range []uint64{0, 7, 1 << 32, 1<<64 - 1} {
		want := unix.ESRCH
		if pid >= 1<<32 {
			want = unix.EINVAL
		}
		g.refused(want, abi.Msg{Op: abi.OpSignalLink, A: pid}, nil)
	}
	before := openFDs(t)
	for i := range 100 {
		if r := g.must(abi.Msg{Op: abi.OpSignalLink, A: 9}, nil); r.B > 1 || r.C != uint64(i+1) {
			t.Fatalf("%+v", r)
		} else {
			for _, fd := range r.fds {
				unix.Close(fd)
			}
		}
	}
	noMore(t, before+4)
	g.must(abi.Msg{Op: abi.OpNarrow, A: abi.NarrowSignal}, nil)
	f.mu.Lock()
	if f.all != 1 {
		t.Error("links outlive the right to signal")
	}
	f.mu.Unlock()

	// Without a family there is nobody.
	g = start(t, setup{})
	g.refused(unix.ESRCH, abi.Msg{Op: abi.OpSignalLink, A: 9}, nil)
}

// TestLinkEvents: a guest that does not read makes the monitor hold little.
func TestLinkEvents(t *testing.T) {
	b := newBroker(Config{})
	b.events.sending = true // nobody sends
	before := openFDs(t)
	link := func(id uint64) error {
		a, other, err := NewLink(id, 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		if err = b.Linked(other); err != nil {
			other.Close()
		}
		return err
	}
	made := 0
	for id := range uint64(1000) {
		if link(id) == nil {
			made++
		}
	}
	if made != 2*abi.LinkMost {
		t.Errorf("%d links wait to be told, want %d", made, 2*abi.LinkMost)
	}
	// What was not told is taken back.
	for id := range uint64(made) {
		b.Unlinked(id, 2, false)
	}
	if n := len(b.events.links); n != 0 {
		t.Errorf("%d events wait", n)
	}
	if link(5000) != nil {
		t.Error("there is no room again")
	}
	b.events.closeLinks()
	if link(5001) == nil {
		t.Error("a link for a guest that is gone")
	}
	noMore(t, before)
}
