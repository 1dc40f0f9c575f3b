package abi

import (
	"encoding/hex"
	"testing"
	"unsafe"
)

// TestGolden pins the bytes that image and monitor exchange. If one of these moves,
// Version must change: an image and a monitor of different layouts would meet.
func TestGolden(t *testing.T) {
	if Version != 5 {
		t.Fatal("a new Version: make new golden values")
	}
	var msg [MsgSize]byte
	(&Msg{ID: 1, Op: OpOpen, Flags: 3, Handle: 4, Errno: -5, A: 6, B: 7, C: 8, D: 9}).Put(msg[:])
	var boot [BootSize]byte
	h := BootHeader{Magic: Magic, Version: Version, Flags: BootVM | BootFork, Size: 128, Memory: 1 << 20, ID: 2, PID: 3, PPID: 4, UID: 5, GID: 6, TickUS: 10000}
	h.Seed[0], h.Seed[31] = 0xaa, 0xbb
	h.Put(boot[:])
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"message", msg[:], "01000000" + "1400" + "0300" + "04000000" + "fbffffff" + "0600000000000000" + "0700000000000000" + "0800000000000000" + "0900000000000000"},
		{"address", AppendAddr(nil, Addr{Family: 4, Port: 0x1234, Zone: 5, IP: [16]byte{10, 0, 2, 15}}), "0400" + "3412" + "05000000" + "0a00020f" + "000000000000000000000000"},
		{"string", AppendString(nil, "hi"), "0200" + "6869"},
		{"record", AppendRecord(nil, RecDir, []byte("abc")), "0200" + "0000" + "03000000" + "6162630000000000"},
		{"boot header", boot[:64], "4e4f5941554f4c31" + "05000000" + hexOf32(BootVM|BootFork) + "8000000000000000" + "0000100000000000" + "0200000000000000" +
			"03000000" + "04000000" + "05000000" + "06000000" + "10270000" + "00000000"},
		{"seed", boot[64:96], "aa" + "000000000000000000000000000000000000000000000000000000000000" + "bb"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s\n     want %s", c.name, got, c.want)
		}
	}
	for name, v := range map[string][2]uintptr{
		"Stat": {uintptr(len(AppendStat(nil, &Stat{}))), StatSize}, "Statfs": {uintptr(len(AppendStatfs(nil, &Statfs{}))), StatfsSize},
		"SnapHeader": {unsafe.Sizeof(SnapHeader{}), SnapHeaderSize},
	} {
		if v[0] != v[1] {
			t.Errorf("%s has %d bytes, want %d", name, v[0], v[1])
		}
	}
}

func hexOf32(v uint32) string { return hex.EncodeToString(Append32(nil, v)) }

// TestShort decodes every prefix of each encoding: short input is not ok and never
// indexes past its end.
func TestShort(t *testing.T) {
	stat := AppendStat(nil, &Stat{Size: 1, Mtime: 2})
	addr := AppendAddr(nil, Addr{Family: 6})
	record := AppendRecord(nil, 1, make([]byte, 13))
	for n := 0; n < 128; n++ {
		if _, _, ok := TakeStat(stat[:min(n, len(stat))]); ok != (n >= StatSize) {
			t.Errorf("stat of %d bytes: %v", n, ok)
		}
		if _, _, ok := TakeAddr(addr[:min(n, len(addr))]); ok != (n >= AddrSize) {
			t.Errorf("address of %d bytes: %v", n, ok)
		}
		if _, _, _, ok := TakeRecord(record[:min(n, len(record))]); ok != (n >= 8+13) {
			t.Errorf("record of %d bytes: %v", n, ok)
		}
		if _, _, ok := TakeMsg(make([]byte, n)); ok != (n >= MsgSize) {
			t.Errorf("message of %d bytes: %v", n, ok)
		}
		var h BootHeader
		if h.Take(make([]byte, n)) {
			t.Errorf("%d zero bytes are a boot header", n)
		}
	}
	if _, _, ok := TakeString([]byte{5, 0, 'a'}); ok {
		t.Error("a string longer than its input is ok")
	}
	if _, _, ok := TakeMsg(make([]byte, MaxMsg+1)); ok {
		t.Error("a message longer than MaxMsg is ok")
	}
	if _, _, _, ok := TakeRecord([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0}); ok {
		t.Error("a record longer than its input is ok")
	}
}

func FuzzTake(f *testing.F) {
	f.Add(AppendRecord(nil, RecVolume, AppendString(nil, "/data")))
	f.Add(AppendStat(AppendAddr(nil, Addr{Family: 4}), &Stat{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		TakeMsg(b)
		TakeAddr(b)
		TakeStat(b)
		TakeStatfs(b)
		TakeString(b)
		var h BootHeader
		h.Take(b)
		for rest, ok := b, true; ok && len(rest) > 0; {
			before := len(rest)
			if _, _, rest, ok = TakeRecord(rest); ok && len(rest) >= before {
				t.Fatal("a record takes nothing")
			}
		}
	})
}
