package machine

import (
	"encoding/binary"

	"noyau.dev/host/vm/kvm"
)

// Selectors. There is no 32-bit code segment and no gate that user code can
// use but that of INT3.
const (
	selKernelCS = 0x08
	UserSS      = 0x23
	UserCS      = 0x2b
	selTSS      = 0x30
)

const (
	tssOffset = 0x100
	tssLimit  = 0x67
	stubSize  = 8
	// vectorSyscall is the "vector" of the stub at LSTAR.
	vectorSyscall = 32
	vectors       = 32
)

// The supervisor's pages, as the guest's CPL 0 sees them.
const (
	superGDT   = superBase + pageGDT*page
	superIDT   = superBase + pageIDT*page
	superStub  = superBase + pageStub*page
	superStack = superBase + pageSuper*page
	stackTop   = superStack + page
)

// buildSystem writes the descriptor tables and the exception stubs: all that
// ever runs at CPL 0 is "out %al, $vector", which exits to the runner.
func buildSystem(mem []byte, t *tables) error {
	le := binary.LittleEndian
	gdt := mem[pageGDT*page:]
	base := uint64(superGDT + tssOffset)
	for i, d := range []uint64{
		0,
		0x00af9b000000ffff, // 08 code, CPL 0
		0x00cf93000000ffff, // 10 data, CPL 0
		0,                  // 18 no 32-bit code
		0x00cff3000000ffff, // 20 data, CPL 3
		0x00affb000000ffff, // 28 code, CPL 3
		tssLimit | base&0xffffff<<16 | 0x8b<<40 | base>>24&0xff<<56,
		base >> 32,
	} {
		le.PutUint64(gdt[8*i:], d)
	}
	tss := gdt[tssOffset:]
	for _, o := range []int{4, 36, 44, 52, 60, 68, 76, 84} { // RSP0, IST1–7
		le.PutUint64(tss[o:], stackTop)
	}
	le.PutUint16(tss[102:], tssLimit+1) // no I/O permission map

	for v := range uint64(vectors + 1) {
		copy(mem[pageStub*page+v*stubSize:], []byte{0xe6, byte(v), 0xeb, 0xfc}) // out %al, $v; jmp .-2
		if v == vectorSyscall {
			break
		}
		a := superStub + v*stubSize
		kind := uint64(0x8e)
		if v == 3 { // INT3 is for everybody
			kind = 0xee
		}
		g := mem[pageIDT*page+16*v:]
		le.PutUint64(g, a&0xffff|selKernelCS<<16|1<<32|kind<<40|a>>16&0xffff<<48)
		le.PutUint64(g[8:], a>>32)
	}
	for _, p := range []struct {
		n    uint64
		prot Prot
	}{{pageGDT, Read}, {pageIDT, Read}, {pageStub, Exec}, {pageSuper, Write}} {
		if err := t.mapPages(superBase+p.n*page, gpaSystem+p.n*page, page, p.prot.pte()); err != nil {
			return err
		}
	}
	return nil
}

// Control registers. CR0: PG AM WP NE ET MP PE. CR4: OSXSAVE FSGSBASE OSXMMEXCPT
// OSFXSR PAE, and SMAP SMEP UMIP where there are. EFER: NXE LMA LME SCE.
const (
	cr0     = 0x80050033
	cr4     = 0x50620
	cr4UMIP = 1 << 11
	cr4SMEP = 1 << 20
	cr4SMAP = 1 << 21
	efer    = 0xd01
	flags   = 2 // RFLAGS: interrupts off, IOPL 0

	msrTSC   = 0x10
	msrLSTAR = 0xc0000082
	msrFMASK = 0xc0000084
)

// userSregs turns s, as KVM made it, into the state of CPL 3.
func userSregs(s *kvm.Sregs, root, extraCR4 uint64) {
	data := kvm.Segment{Limit: 0xffffffff, Selector: UserSS, Type: 3, Present: 1, DPL: 3, DB: 1, S: 1, G: 1}
	s.CS = kvm.Segment{Limit: 0xffffffff, Selector: UserCS, Type: 11, Present: 1, DPL: 3, S: 1, L: 1, G: 1}
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.TR = kvm.Segment{Base: superGDT + tssOffset, Limit: tssLimit, Selector: selTSS, Type: 11, Present: 1}
	s.LDT = kvm.Segment{Unusable: 1}
	s.GDT = kvm.Table{Base: superGDT, Limit: 0x3f}
	s.IDT = kvm.Table{Base: superIDT, Limit: 16*vectors - 1}
	s.CR0, s.CR2, s.CR3, s.CR4, s.CR8, s.EFER = cr0, 0, root, cr4|extraCR4, 0, efer
}
