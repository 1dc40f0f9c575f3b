package monitor

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/broker"
	"noyau.dev/host/snapshot"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// says is what a member that stands still says of its shared memory.
func says(m *member, places ...uint64) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(places)))
	for _, at := range places {
		b = binary.LittleEndian.AppendUint64(b, at)
	}
	x := &frozen{m: m}
	return x.takeAreas(b)
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// TestGiven: a member has the memory that it was given, a fork that which its parent had at that
// moment, and nobody else's.
func TestGiven(t *testing.T) {
	const not = "that it was not given"
	f := &family{}
	first := &member{f: f, pid: 1}
	before, pair, err := first.NewShare(100, true)
	if err != nil || pair != 1 {
		t.Fatal(pair, err)
	}
	early := &member{f: f, pid: 2, parent: first}
	early.settle()
	after, _, err := first.NewShare(abi.PageSize+1, false)
	if err != nil || after != before+abi.PageSize {
		t.Fatal(after, err)
	}
	program := &member{f: f, pid: 3, parent: first} // which was started, not forked
	wantError(t, "the first", says(first, after, before), "")
	wantError(t, "a fork", says(early, before), "")
	wantError(t, "a fork, of what came later", says(early, before, after), "member 2 says that it has shared memory "+not)
	wantError(t, "a program", says(program, before), not)
	wantError(t, "within a piece", says(first, before, after+abi.PageSize), not)
	wantError(t, "twice", says(first, before, before), "twice")
	first.Unshare(before, 0)
	wantError(t, "after it was given back", says(first, before), not)
	wantError(t, "a fork, after its parent has given it back", says(early, before), "")
	early.Unshare(after, 0) // which is not its own
	wantError(t, "the first", says(first, after), "")
}

// TestGivenEnds: what a member says of a connection that it was not given makes the snapshot fail, also
// where nobody else has that end any more.
func TestGivenEnds(t *testing.T) {
	f := &family{}
	a, b := &member{f: f, pid: 1}, &member{f: f, pid: 2}
	plain := must(a.NewPair())(t)
	_, withMemory, err := a.NewShare(1, true)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	learn := func(m *member, k broker.Kept) error {
		w := wiring{f: f, fam: &snapshot.Family{}, known: make(map[uint64]end), at: make(map[end]uint64), fds: make(map[end]int)}
		return w.learn(&frozen{m: m, state: broker.State{Kept: []broker.Kept{k}}})
	}
	for _, id := range []uint64{plain, withMemory} {
		k := broker.Kept{Handle: 9, Pair: id, End: 1, FD: fds[1]}
		wantError(t, "who was given it", learn(a, k), "")
		wantError(t, "another", learn(b, k), "member 2 says that it has a connection that it was not given")
	}
	wantError(t, "of none", learn(a, broker.Kept{Handle: 9, Pair: 77, FD: fds[0]}), "not given")
	wantError(t, "not known", learn(b, broker.Kept{Handle: 9, FD: fds[0]}), "")
	b.given = map[uint32]end{5: {plain, 0}}
	wantError(t, "from the start", learn(b, broker.Kept{Handle: 5, FD: fds[0]}), "")
	c := &member{f: f, pid: 3, parent: a}
	c.settle()
	a.Unshare(abi.ShareNowhere, plain)
	wantError(t, "who has closed it", learn(a, broker.Kept{Handle: 9, Pair: plain, FD: fds[0]}), "not given")
	wantError(t, "its fork", learn(c, broker.Kept{Handle: 9, Pair: plain, FD: fds[0]}), "")
}

// TestGivenMost: what is kept of one member is bounded.
func TestGivenMost(t *testing.T) {
	m := &member{f: &family{}}
	for range abi.ShareMost {
		must(m.NewPair())(t)
		if _, _, err := m.NewShare(1, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.NewPair(); err != unix.EMFILE {
		t.Errorf("one more pair: %v", err)
	}
	if _, _, err := m.NewShare(1, false); err != unix.EMFILE {
		t.Errorf("one more piece: %v", err)
	}
	m.Unshare(0, 1)
	must(m.NewPair())(t)
	if _, _, err := m.NewShare(1, false); err != nil {
		t.Error("after one was given back:", err)
	}
}
