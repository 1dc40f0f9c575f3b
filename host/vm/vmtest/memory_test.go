package vmtest

import (
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

const mapFlags = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_FIXED | unix.MAP_NORESERVE

// grow asks for n bytes at the start of the region.
func grow(a *Asm, n uint64) *Asm {
	return a.CallN(abi.CallMap, abi.RegionBase, n, 3, mapFlags, ^uint64(0), 0).
		Mov(RBX, abi.RegionBase).Cmp(RAX, RBX).Jnz("bad")
}

// TestRegion writes to the first, middle and last word of the region, releases
// the middle and finds zeros there and the rest unharmed.
func TestRegion(t *testing.T) {
	const n = 128 << 20
	spots := []uint64{abi.RegionBase, abi.RegionBase + n/2, abi.RegionBase + n - 8}
	a := grow(NewAsm(), n)
	for i, s := range spots {
		a.Mov(RBX, s).Mov(RAX, uint64(i)+100).Store(RBX, 0, RAX)
	}
	a.CallN(abi.CallMap, spots[1], 4096, 3, mapFlags, ^uint64(0), 0)
	for i, s := range spots {
		want := uint64(i) + 100
		if i == 1 {
			want = 0
		}
		a.Mov(RBX, s).Load(RAX, RBX, 0).Mov(RCX, want).Cmp(RAX, RCX).Jnz("bad")
	}
	a.Exit(0).Label("bad").Exit(1)
	if r := run(t, a, nil, Options{Memory: 256 << 20}); r.Code != 0 {
		t.Errorf("code %d, stderr %q", r.Code, r.Err)
	}
}

// TestHugeRegion asks for all that there can be, and uses both ends.
func TestHugeRegion(t *testing.T) {
	a := grow(NewAsm(), abi.RegionMax)
	for _, s := range []uint64{abi.RegionBase, abi.RegionBase + abi.RegionMax/2, abi.RegionBase + abi.RegionMax - 8} {
		a.Mov(RBX, s).Mov(RAX, 7).Store(RBX, 0, RAX).Load(RCX, RBX, 0).Cmp(RAX, RCX).Jnz("bad")
	}
	a.Exit(0).Label("bad").Exit(1)
	if r := run(t, a, nil, Options{Memory: 1 << 40}); r.Code != 0 {
		t.Errorf("code %d, stderr %q", r.Code, r.Err)
	}
}

// TestCallIntoUntouchedMemory: a host call may fill memory that the guest has
// asked for and not touched.
func TestCallIntoUntouchedMemory(t *testing.T) {
	const p = abi.RegionBase + 70<<20
	a := grow(NewAsm(), 128<<20).CallN(abi.CallPread, abi.HandleBoot, p, 8, 0)
	a.Mov(RBX, p).Load(RAX, RBX, 0).Mov(RCX, abi.Magic).Cmp(RAX, RCX).Jnz("bad").Exit(0).Label("bad").Exit(1)
	if r := run(t, a, nil, Options{Memory: 256 << 20}); r.Code != 0 {
		t.Errorf("code %d, stderr %q", r.Code, r.Err)
	}
}
