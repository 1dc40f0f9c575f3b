package host

import (
	"bytes"
	"testing"
	"unsafe"

	"noyau.dev/abi"
	"noyau.dev/guest/linux"
)

// fakeRing plays the monitor: an info page and a ring in which all slots are free.
func fakeRing(t *testing.T) uintptr {
	info := make([]uint64, 512)
	mem := make([]uint64, abi.VMRingSize/8)
	base := uintptr(unsafe.Pointer(&mem[0]))
	info[abi.VMInfoRing/8] = uint64(base)
	nativeInfo = uintptr(unsafe.Pointer(&info[0]))
	t.Cleanup(func() {
		nativeInfo = 0
		info[0], mem[0] = 0, 0 // alive until here
	})
	for i := uintptr(0); i < abi.VMSlots; i++ {
		*ringWord(base, abi.VMRingHandles+4*i) = abi.VMSlotFree
	}
	return base
}

// fillSlot puts data into slot i for handle.
func fillSlot(base uintptr, i uintptr, handle int32, data []byte) {
	copy(bytesAt(base+abi.VMRingSlots+i*abi.VMSlotSize, abi.VMSlotSize), data)
	*ringWord(base, abi.VMRingLengths+4*i) = uint32(len(data))
	*ringWord(base, abi.VMRingHandles+4*i) = uint32(handle)
	*ringWord(base, abi.VMRingFilled) = 1
}

// appendRecord is a datagram in a slot.
func appendRecord(b []byte, handle uint16, sa, data string) []byte {
	b = abi.Append16(b, handle)
	b = abi.Append16(b, uint16(len(sa)))
	b = abi.Append32(b, uint32(len(data)))
	b = append(b, sa...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	b = append(b, data...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestRingStream(t *testing.T) {
	base := fakeRing(t)
	if Batch(70, false); ringOf(70) == 0 || ringOf(71) != 0 {
		t.Fatal("only handle 70 is part of the ring")
	}
	b := make([]byte, 4)
	if _, e, ok := take(70, b, 0); !ok || e != linux.EAGAIN {
		t.Errorf("nothing to receive: %v, %v", e, ok)
	}
	setRingBit(base, abi.VMRingReadable, 70, true)
	if _, _, ok := take(70, b, 0); ok {
		t.Error("the monitor is not asked for what is there")
	}
	fillSlot(base, 3, 70, []byte("hello, world"))
	if n, _, ok := take(70, b, linux.MSG_PEEK); !ok || string(b[:n]) != "hell" {
		t.Errorf("peek: %q, %v", b[:n], ok)
	}
	var got []byte
	for {
		n, _, ok := take(70, b, 0)
		if !ok {
			break
		}
		got = append(got, b[:n]...)
	}
	if string(got) != "hello, world" || *ringWord(base, abi.VMRingHandles+12) != abi.VMSlotFree {
		t.Errorf("got %q", got)
	}
	// What is closed with data in its slot leaves nothing to the next of its number.
	fillSlot(base, 3, 70, []byte("old"))
	take(70, b[:1], 0)
	unbatch(70)
	Batch(70, false)
	fillSlot(base, 3, 70, []byte("new"))
	if n, _, _ := take(70, b, 0); string(b[:n]) != "new" {
		t.Errorf("got %q", b[:n])
	}
}

func TestRingDatagrams(t *testing.T) {
	base := fakeRing(t)
	Batch(9, true)
	from := "0123456789abcdef"
	var slot []byte
	for _, s := range []string{"one", "", "a long datagram"} {
		slot = appendRecord(slot, 9, from, s)
	}
	fillSlot(base, 0, 9, slot)
	b, sa := make([]byte, 8), make([]byte, 28)
	for _, c := range []struct {
		peek  bool
		got   string
		total int
	}{{true, "one", 3}, {false, "one", 3}, {false, "", 0}, {true, "a long d", 15}, {false, "a long d", 15}} {
		n, total, salen, e, ok := takeFrom(9, b, c.peek, sa)
		if !ok || e != 0 || string(b[:n]) != c.got || total != c.total || string(sa[:salen]) != from {
			t.Errorf("%+v: got %q of %d bytes from %q, %v, %v", c, b[:n], total, sa[:salen], e, ok)
		}
	}
	if _, _, _, e, ok := takeFrom(9, b, false, sa); !ok || e != linux.EAGAIN {
		t.Errorf("at the end: %v, %v", e, ok)
	}
}

func TestRingQueue(t *testing.T) {
	base := fakeRing(t)
	Batch(9, false)
	if !queue(9, []byte("hello"), nil) || !queue(9, nil, nil) || !queue(9, []byte("bye"), []byte("0123456789abcdef")) {
		t.Fatal("not queued")
	}
	want := appendRecord(appendRecord(appendRecord(nil, 9, "", "hello"), 9, "", ""), 9, "0123456789abcdef", "bye")
	if got := bytesAt(base+abi.VMRingOut, uintptr(*ringWord(base, abi.VMRingUsed))); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	for n := 0; queue(9, make([]byte, 1000), nil); n++ {
		if n > abi.VMRingOutSize/1000 {
			t.Fatal("the queue takes more than it holds")
		}
	}
	*ringWord(base, abi.VMRingUsed) = 0
	for _, c := range []struct {
		name string
		set  func(on bool)
	}{
		{"somebody writes", func(on bool) { *ringWord(base, abi.VMRingWriting) = map[bool]uint32{true: 1}[on] }},
		{"blocked", func(on bool) { *ringWord(base, abi.VMRingBlocked) = map[bool]uint32{true: 1}[on] }},
		{"an error waits", func(on bool) { setRingBit(base, abi.VMRingFailed, 9, on) }},
	} {
		c.set(true)
		if queue(9, []byte("x"), nil) {
			t.Errorf("queued although %s", c.name)
		}
		c.set(false)
		if !queue(9, []byte("x"), nil) {
			t.Errorf("not queued after %s", c.name)
		}
	}
	if queue(9, make([]byte, abi.VMQueued+1), nil) || queue(abi.VMRingHandlesMax, []byte("x"), nil) || queue(9, nil, make([]byte, 40)) {
		t.Error("queued what is too large")
	}
}
