package runner

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
)

// ringGuest plays a guest against a Runner whose system calls are real. Handles are
// numbers that stand for descriptors of this test.
type ringGuest struct {
	*Runner
	t   *testing.T
	fds map[uintptr]int
}

const (
	ringEvents = abi.RegionBase         // for CallPoll
	ringData   = abi.RegionBase + 8192  // for CallRecv and CallSend
	ringAddr   = abi.RegionBase + 65536 // and addresses, with their length
)

func newRingGuest(t *testing.T) *ringGuest {
	m := detached(t, 64<<20)
	g := &ringGuest{&Runner{m: m, handles: newHandles(6)}, t, map[uintptr]int{}}
	g.boot.Flags = abi.BootNetOut
	g.sig.xsave = new(kvm.XSave)
	g.sys = func(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64 {
		fd, ok := g.fds[a1]
		if !ok {
			t.Errorf("system call %d on handle %d", nr, a1)
			return fail(unix.EBADF)
		}
		switch nr {
		case unix.SYS_EPOLL_CTL:
			a3 = uintptr(g.fds[a3])
		case unix.SYS_CLOSE:
			delete(g.fds, a1)
		}
		return raw(nr, uintptr(fd), a2, a3, a4, a5, a6)
	}
	g.block = g.sys
	g.ring.start(g.Runner)
	if e := m.MapRegion(abi.RegionBase, 8<<20, true); e != 0 {
		t.Fatal(e)
	}
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ep) })
	g.fds[abi.HandlePoll] = ep
	return g
}

// add gives the guest a socket and watches it.
func (g *ringGuest) add(h uint64, fd int) {
	unix.SetNonblock(fd, true)
	g.fds[uintptr(h)] = fd
	g.handles.add(h)
	g.ring.added(h)
	ev := g.m.Bytes(ringEvents, 12, true)
	binary.LittleEndian.PutUint32(ev, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|1<<31)
	binary.LittleEndian.PutUint64(ev[4:], h)
	g.want(0, g.do(&call{nr: abi.CallWatch, a1: abi.HandlePoll, a2: unix.EPOLL_CTL_ADD, a3: h, a4: ringEvents}))
}

func (g *ringGuest) want(want int64, got uint64) {
	g.t.Helper()
	if int64(got) != want {
		g.t.Fatalf("result %d, want %d", int64(got), want)
	}
}

// pair is a connection of the guest's and its peer.
func (g *ringGuest) pair(h uint64, kind int) (peer int) {
	p, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	g.add(h, p[0])
	return p[1]
}

func (g *ringGuest) poll() int {
	return int(g.do(&call{nr: abi.CallPoll, a1: abi.HandlePoll, a2: ringEvents, a3: 64}))
}

// recv makes a call.
func (g *ringGuest) recv(h uint64) (string, int64) {
	v := int64(g.do(&call{nr: abi.CallRecv, a1: h, a2: ringData, a3: 16384}))
	return string(g.m.Bytes(ringData, uint64(max(v, 0)), false)), v
}

// queue appends a record, and the next exit sends it.
func (g *ringGuest) queue(h uint64, data, sa string) {
	o := int(g.ring.word(abi.VMRingUsed))
	rec := g.ring.mem[abi.VMRingOut+o:]
	g.ring.setWord(abi.VMRingOut+o, uint32(h)|uint32(len(sa))<<16)
	g.ring.setWord(abi.VMRingOut+o+4, uint32(len(data)))
	copy(rec[8:], sa)
	copy(rec[8+pad8(len(sa)):], data)
	g.ring.setWord(abi.VMRingUsed, uint32(o+8+pad8(len(sa))+pad8(len(data))))
}

func (g *ringGuest) mark(h uint64, datagrams bool) {
	g.ring.setBit(abi.VMRingBatched, h, true)
	g.ring.setBit(abi.VMRingDatagrams, h, datagrams)
}

func sendTo(t *testing.T, fd int, data string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, fd int) string {
	t.Helper()
	b := make([]byte, 1<<20)
	n, err := unix.Read(fd, b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// TestRingUnused is a guest that makes no use of the ring: all that arrives comes by
// calls, whatever polls have reported before.
func TestRingUnused(t *testing.T) {
	g := newRingGuest(t)
	for h := uint64(10); h < 10+2*abi.VMSlots; h++ {
		peer := g.pair(h, unix.SOCK_STREAM)
		g.poll() // there is room
		sendTo(t, peer, "hello")
		g.want(1, uint64(g.poll()))
		if got, v := g.recv(h); got != "hello" {
			t.Fatalf("handle %d: %q, %d", h, got, v)
		}
	}
	if n := g.Counts.Filled; n != 0 {
		t.Errorf("%d slots were filled for a guest that has marked no handle", n)
	}
}

// TestRingFill gives a marked connection its data with the poll, and says when there
// is no more.
func TestRingFill(t *testing.T) {
	g := newRingGuest(t)
	peer := g.pair(10, unix.SOCK_STREAM)
	g.mark(10, false)
	sendTo(t, peer, "hello")
	g.want(1, uint64(g.poll()))
	if h, n := g.ring.word(abi.VMRingHandles), g.ring.word(abi.VMRingLengths); h != 10 || string(g.ring.slot(0)[:n]) != "hello" {
		t.Fatalf("slot 0 belongs to %d and holds %d bytes", h, n)
	}
	if g.ring.bit(abi.VMRingReadable, 10) {
		t.Error("the connection is said to have more")
	}
	// What comes before the slot is free must be asked for, after it.
	sendTo(t, peer, "again")
	g.want(1, uint64(g.poll()))
	if !g.ring.bit(abi.VMRingReadable, 10) {
		t.Error("the connection is said to have no more")
	}
	if got, v := g.recv(10); got != "again" {
		t.Errorf("the call gave %q, %d", got, v)
	}
}

// TestRingSendFails loses no error: not that of a queued send, nor that of a receive
// that the guest has not made.
func TestRingSendFails(t *testing.T) {
	g := newRingGuest(t)
	peer := g.pair(10, unix.SOCK_STREAM)
	g.mark(10, false)
	unix.Shutdown(peer, unix.SHUT_RD)
	g.queue(10, "lost", "")
	g.ring.flush()
	if !g.ring.bit(abi.VMRingFailed, 10) {
		t.Error("the guest is not told to ask")
	}
	if _, v := g.recv(10); v != -int64(unix.EPIPE) {
		t.Errorf("the next call gave %d, want EPIPE", v)
	}
	if _, v := g.recv(10); v != -int64(unix.EAGAIN) {
		t.Errorf("the call after it gave %d, want EAGAIN", v)
	}

	l, c := tcpPair(t)
	g.add(11, c)
	g.mark(11, false)
	g.poll()
	unix.SetsockoptLinger(l, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(l) // a reset
	g.want(1, uint64(g.poll()))
	if _, v := g.recv(11); v != -int64(unix.ECONNRESET) {
		t.Errorf("after a reset the call gave %d, want ECONNRESET", v)
	}
}

// tcpPair is a connection over the loopback.
func tcpPair(t *testing.T) (a, b int) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	unix.Listen(l, 1)
	sa, _ := unix.Getsockname(l)
	b, _ = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err := unix.Connect(b, sa); err != nil {
		t.Fatal(err)
	}
	if a, _, err = unix.Accept(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(b) })
	return a, b
}

// TestRingStuck queues for a peer that does not read: nothing overtakes, a call says
// that there is no room, and a handle that is closed keeps what was sent on it.
func TestRingStuck(t *testing.T) {
	g := newRingGuest(t)
	peer := g.pair(10, unix.SOCK_STREAM)
	other := g.pair(11, unix.SOCK_STREAM)
	unix.SetsockoptInt(g.fds[10], unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
	want := ""
	for i := 0; g.ring.word(abi.VMRingBlocked) == 0; i++ {
		data := string(bytes.Repeat([]byte{byte('a' + i%26)}, 900+i))
		want += data
		g.queue(10, data, "")
		g.queue(11, "x", "")
		g.ring.flush()
		if got := read(t, other); got != "x" {
			t.Fatalf("the other connection got %q", got)
		}
	}
	g.want(-int64(unix.EAGAIN), g.do(&call{nr: abi.CallSend, a1: 10, a2: ringData, a3: 1}))
	g.want(0, g.do(&call{nr: abi.CallClose, a1: 10}))
	got := ""
	for len(got) < len(want) {
		got += read(t, peer)
		g.ring.flush()
	}
	if got != want {
		t.Errorf("the peer got %d bytes, want %d", len(got), len(want))
	}
	if _, open := g.fds[10]; open {
		t.Error("the descriptor is still open")
	}
	if g.ring.word(abi.VMRingBlocked) != 0 || g.ring.word(abi.VMRingUsed) != 0 {
		t.Error("the queue is not empty again")
	}
}

// TestRingClosedNumbers closes more handles with data in the queue than the runner
// remembers: what was queued for them never goes to a later one of the same number.
func TestRingClosedNumbers(t *testing.T) {
	g := newRingGuest(t)
	g.pair(9, unix.SOCK_STREAM)
	unix.SetsockoptInt(g.fds[9], unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
	fill := string(make([]byte, 60000))
	g.queue(9, fill, "")
	g.ring.flush()
	if g.ring.word(abi.VMRingBlocked) == 0 {
		t.Fatal("the queue is not blocked")
	}
	for i := range uint64(maxClosing) {
		g.ring.closing = append(g.ring.closing, 1000+i)
	}
	g.pair(10, unix.SOCK_STREAM)
	g.queue(10, "secret", "")
	g.want(0, g.do(&call{nr: abi.CallClose, a1: 10}))
	peer := g.pair(10, unix.SOCK_STREAM)
	g.ring.closing = g.ring.closing[:0]
	g.ring.flush()
	unix.SetNonblock(peer, true)
	if n, err := unix.Read(peer, make([]byte, 100)); err != unix.EAGAIN {
		t.Errorf("the new connection got %d bytes, %v", n, err)
	}
}

func udp(t *testing.T) (fd int, sa unix.Sockaddr) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err = unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, sa
}

// TestRingPackets batches a connection of packets: boundaries stay, and the end of it is not a
// packet without bytes.
func TestRingPackets(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		g := newRingGuest(t)
		peer := g.pair(10, unix.SOCK_SEQPACKET)
		g.mark(10, true)
		sendTo(t, peer, "one")
		sendTo(t, peer, "three")
		if atOnce {
			unix.Shutdown(peer, unix.SHUT_WR)
		}
		g.want(1, uint64(g.poll()))
		slot := g.ring.slot(0)[:g.ring.word(abi.VMRingLengths)]
		for _, want := range []string{"one", "three"} {
			alen, total := int(binary.LittleEndian.Uint16(slot[2:])), int(binary.LittleEndian.Uint32(slot[4:]))
			if got := string(slot[8+pad8(alen):][:total]); got != want {
				t.Fatalf("packet %q, want %q", got, want)
			}
			slot = slot[8+pad8(alen)+pad8(total):]
		}
		if len(slot) != 0 {
			t.Errorf("%d bytes are left", len(slot))
		}
		if g.ring.bit(abi.VMRingReadable, 10) != atOnce {
			t.Error("said to be readable:", !atOnce)
		}
		g.ring.setWord(abi.VMRingHandles, abi.VMSlotFree)
		if !atOnce {
			unix.Shutdown(peer, unix.SHUT_WR)
			g.want(1, uint64(g.poll()))
		}
		if w := g.ring.word(abi.VMRingHandles); w != abi.VMSlotFree {
			t.Errorf("the end fills a slot, of handle %d", w)
		}
		if got, v := g.recv(10); v != 0 || !g.ring.bit(abi.VMRingReadable, 10) {
			t.Errorf("the end: %q, %d", got, v)
		}
		g.queue(10, "answer", "")
		g.queue(10, "another", "")
		g.ring.flush()
		if a, b := read(t, peer), read(t, peer); a != "answer" || b != "another" {
			t.Errorf("sent %q, %q", a, b)
		}
	}
}

// TestRingDatagrams batches datagrams with their boundaries and addresses in both
// directions; one that does not fit into a slot is left whole for a call.
func TestRingDatagrams(t *testing.T) {
	g := newRingGuest(t)
	fd, sa := udp(t)
	g.add(10, fd)
	g.mark(10, true)
	peer, _ := udp(t)
	sizes := []int{0, 1, 7, 8, 500, 1400, 0, 300}
	for i, n := range sizes {
		if err := unix.Sendto(peer, bytes.Repeat([]byte{byte(i)}, n), 0, sa); err != nil {
			t.Fatal(err)
		}
	}
	unix.Sendto(peer, make([]byte, 9000), 0, sa)
	g.want(1, uint64(g.poll()))
	if g.ring.word(abi.VMRingHandles) != 10 {
		t.Fatal("slot 0 is not filled")
	}
	slot := g.ring.slot(0)[:g.ring.word(abi.VMRingLengths)]
	var from string
	for i, n := range sizes {
		alen, total := int(binary.LittleEndian.Uint16(slot[2:])), int(binary.LittleEndian.Uint32(slot[4:]))
		from = string(slot[8 : 8+alen])
		data := slot[8+pad8(alen):][:total]
		if alen != 16 || total != n || !bytes.Equal(data, bytes.Repeat([]byte{byte(i)}, n)) {
			t.Fatalf("datagram %d: %d bytes, an address of %d; want %d", i, total, alen, n)
		}
		slot = slot[8+pad8(alen)+pad8(total):]
	}
	if len(slot) != 0 {
		t.Errorf("%d bytes are left", len(slot))
	}
	if !g.ring.bit(abi.VMRingReadable, 10) {
		t.Error("the large datagram is not said to be there")
	}
	if got, v := g.recv(10); len(got) != 9000 {
		t.Errorf("the large datagram: %d", v)
	}

	g.queue(10, "one", from)
	g.queue(10, "", from)
	g.queue(10, "three", from)
	g.ring.flush()
	for _, want := range []string{"one", "", "three"} {
		b := make([]byte, 100)
		n, sender, err := unix.Recvfrom(peer, b, 0)
		if err != nil || string(b[:n]) != want || sender.(*unix.SockaddrInet4).Port != sa.(*unix.SockaddrInet4).Port {
			t.Errorf("got %q from %v, %v; want %q", b[:n], sender, err, want)
		}
	}

	// A pVM that may not name addresses cannot do so in the queue either.
	g.boot.Flags = 0
	g.queue(10, "forbidden", from)
	g.ring.flush()
	unix.SetNonblock(peer, true)
	if n, err := unix.Read(peer, make([]byte, 100)); err != unix.EAGAIN {
		t.Errorf("%d bytes came through, %v", n, err)
	}
	if _, v := g.recv(10); v != -int64(unix.EACCES) {
		t.Errorf("the next call gave %d, want EACCES", v)
	}
}

// TestRingRefused shows that an ICMP answer to one datagram does not cost the next.
func TestRingRefused(t *testing.T) {
	g := newRingGuest(t)
	fd, _ := udp(t)
	peer, sa := udp(t)
	if err := unix.Connect(fd, sa); err != nil {
		t.Fatal(err)
	}
	g.add(10, fd)
	g.mark(10, true)
	unix.Close(peer)
	g.queue(10, "to nobody", "")
	g.ring.flush()
	again, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	if err := unix.Bind(again, sa); err != nil {
		t.Fatal(err)
	}
	g.queue(10, "to somebody", "")
	g.ring.flush()
	if got := read(t, again); got != "to somebody" {
		t.Errorf("got %q", got)
	}
	if _, v := g.recv(10); v != -int64(unix.ECONNREFUSED) {
		t.Errorf("the next call gave %d, want ECONNREFUSED", v)
	}
}

// TestRingRecords feeds queues with records that claim more than there is.
func TestRingRecords(t *testing.T) {
	g := newRingGuest(t)
	peer := g.pair(10, unix.SOCK_STREAM)
	unix.SetNonblock(peer, true)
	for _, c := range []struct {
		name             string
		used, first, len uint32
	}{
		{"longer than the queue", 64, 10, 1000},
		{"longer than all", 64, 10, abi.VMRingOutSize + 1},
		{"huge", 64, 10, 1<<32 - 1},
		{"wraps with padding", 64, 10, 1<<32 - 9},
		{"a long address", 64, 10 | 40<<16, 4},
		{"an address beyond the end", 16, 10 | 32<<16, 0},
		{"used beyond the queue", abi.VMRingOutSize + 8, 10, 4},
		{"used huge", 1<<32 - 1, 10, 4},
		{"half a header", 4, 10, 4},
		{"not its handle", 64, 77, 4},
		{"not a handle", 64, abi.VMRecNobody, 4},
	} {
		g.ring.setWord(abi.VMRingUsed, c.used)
		g.ring.setWord(abi.VMRingOut, c.first)
		g.ring.setWord(abi.VMRingOut+4, c.len)
		for i := abi.VMRingOut + 8; i < abi.VMRingSlots; i++ {
			g.ring.mem[i] = 0xff
		}
		g.ring.flush()
		if n, err := unix.Read(peer, make([]byte, 100)); err != unix.EAGAIN {
			t.Errorf("%s: %d bytes were sent, %v", c.name, n, err)
		}
		g.ring.setWord(abi.VMRingUsed, 0)
	}
	// And still works.
	g.queue(10, "hello", "")
	g.ring.flush()
	if got := read(t, peer); got != "hello" {
		t.Errorf("got %q", got)
	}
}

// TestRingChild forks with data on its way in both directions: the child has no part in
// its parent's connections, and uses the ring for its own.
func TestRingChild(t *testing.T) {
	g := newRingGuest(t)
	parents := g.pair(10, unix.SOCK_STREAM)
	g.mark(10, false)
	sendTo(t, parents, "for the parent")
	g.want(1, uint64(g.poll()))
	g.queue(10, "from the parent", "")
	g.ring.setWord(abi.VMRingBlocked, 1)
	g.ring.blocked = true
	g.ring.fail(10, -int64(unix.EPIPE))
	g.ring.child(64)
	g.ring.flush()
	unix.SetNonblock(parents, true)
	if n, err := unix.Read(parents, make([]byte, 100)); err != unix.EAGAIN {
		t.Errorf("the child sent %d bytes for its parent, %v", n, err)
	}
	if g.ring.word(abi.VMRingFilled) != 0 || g.ring.word(abi.VMRingHandles) != abi.VMSlotFree || g.ring.bit(abi.VMRingBatched, 10) {
		t.Error("the child has its parent's slots")
	}
	if !g.ring.bit(abi.VMRingReadable, 10) {
		t.Error("the child does not ask")
	}
	peer := g.pair(11, unix.SOCK_STREAM)
	g.mark(11, false)
	g.poll()
	g.queue(11, "mine", "")
	sendTo(t, peer, "yours")
	g.want(1, uint64(g.poll()))
	g.ring.flush()
	if got := read(t, peer); got != "mine" {
		t.Errorf("the child sent %q", got)
	}
	if h := g.ring.word(abi.VMRingHandles); h != 11 {
		t.Errorf("slot 0 is of handle %d", h)
	}
}
