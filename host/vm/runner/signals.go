package runner

import (
	"encoding/binary"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
	"noyau.dev/host/vm/machine"
)

// The runner plays the part of the kernel for signals: a fault of the guest, or
// a tick, becomes a Linux signal frame on the guest's stack and a call of the
// handler that the guest registered. All state is in guest memory, so that
// handlers nest and a snapshot at a host call is complete.

// Flags of a signal action.
const (
	saOnStack  = 0x08000000
	saNodefer  = 0x40000000
	saRestorer = 0x04000000
)

const (
	sigKill, sigStop = 9, 19

	ssOnStack, ssDisable = 1, 2
)

// action is Linux's struct sigaction for amd64.
type action struct{ handler, flags, restorer, mask uint64 }

// signals is the signal state of the guest that is not in its memory.
type signals struct {
	blocked uint64
	xsave   *kvm.XSave // scratch
}

// altStack is the guest's stack for handlers; size 0: none.
type altStack struct{ base, size uint64 }

// actionOf reads the guest's signal page, once.
func actionOf(m *machine.Machine, sig int32) (a action, alt altStack) {
	le, p := binary.LittleEndian, m.Signals()
	b := p[abi.VMSigActions+abi.VMSigAction*int(sig):]
	return action{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])},
		altStack{le.Uint64(p[abi.VMSigStack:]), le.Uint64(p[abi.VMSigSize:])}
}

// Offsets in the frame: struct rt_sigframe of Linux on amd64.
const (
	frUC      = 8
	ucStack   = frUC + 16
	ucRegs    = frUC + 40 // struct sigcontext: 18 registers, then:
	scSegs    = ucRegs + 18*8
	scErr     = ucRegs + 19*8
	scTrapno  = ucRegs + 20*8
	scOldmask = ucRegs + 21*8
	scCR2     = ucRegs + 22*8
	scFP      = ucRegs + 23*8
	ucMask    = ucRegs + 256
	frInfo    = ucMask + 8
	frSize    = frInfo + 128

	fpMagic1, fpMagic2 = 0x46505853, 0x46505845
	fpSW               = 464 // struct _fpx_sw_bytes in the legacy area
	xsHeader           = 512
)

// siginfo is what a handler learns about a signal.
type siginfo struct {
	sig, code          int32
	addr               uint64
	trapno, errno, cr2 uint64
}

// gprs lists the registers in the order of struct sigcontext.
func gprs(r *kvm.Regs) [18]*uint64 {
	return [18]*uint64{&r.R8, &r.R9, &r.R10, &r.R11, &r.R12, &r.R13, &r.R14, &r.R15,
		&r.RDI, &r.RSI, &r.RBP, &r.RBX, &r.RDX, &r.RAX, &r.RCX, &r.RSP, &r.RIP, &r.RFLAGS}
}

// Flags that a return from a handler can set; the rest stay as they are.
const (
	fixFlags    = 0x50dd5 // AC RF OF DF TF SF ZF AF PF CF
	handlerMask = 0x10500 // TF DF RF are cleared for a handler
)

// deliver enters the guest's handler for the signal in si. It reports why it
// cannot, as an end of a sentence.
func (s *signals) deliver(m *machine.Machine, si *siginfo) (why string) {
	act, alt := actionOf(m, si.sig)
	if act.handler <= 1 {
		return "with no handler"
	}
	if act.flags&saRestorer == 0 {
		return "with a handler that has no restorer"
	}
	r := m.VM.Regs()
	sp := r.RSP - 128 // the red zone
	onAlt := alt.has(r.RSP)
	if act.flags&saOnStack != 0 && alt.size != 0 && !onAlt {
		sp, onAlt = alt.base+alt.size, true
	}
	xsize := uint64(m.XSize)
	fp := (sp - xsize - 4) &^ 63
	frame := (fp-frSize)&^15 - 8
	if onAlt && frame < alt.base || frame > sp {
		return "with no room on the signal stack"
	}
	b := m.Bytes(machine.Addr(frame), frSize, true)
	x := m.Bytes(machine.Addr(fp), xsize+4, true)
	if b == nil || x == nil {
		return "with a signal stack that is no memory"
	}
	if err := m.VM.XSave(s.xsave); err != nil {
		return err.Error()
	}
	le := binary.LittleEndian
	clear(b)
	copy(x, s.xsave[:xsize])
	le.PutUint32(x[fpSW:], fpMagic1)
	le.PutUint32(x[fpSW+4:], uint32(xsize)+4)
	le.PutUint64(x[fpSW+8:], m.XCR0)
	le.PutUint32(x[fpSW+16:], uint32(xsize))
	le.PutUint32(x[xsize:], fpMagic2)

	le.PutUint64(b, act.restorer)
	le.PutUint64(b[frUC:], 7) // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
	alt.put(b[ucStack:], r.RSP)
	for i, p := range gprs(r) {
		le.PutUint64(b[ucRegs+8*i:], *p)
	}
	le.PutUint16(b[scSegs:], machine.UserCS)
	le.PutUint16(b[scSegs+6:], machine.UserSS)
	le.PutUint64(b[scErr:], si.errno)
	le.PutUint64(b[scTrapno:], si.trapno)
	le.PutUint64(b[scOldmask:], s.blocked)
	le.PutUint64(b[scCR2:], si.cr2)
	le.PutUint64(b[scFP:], fp)
	le.PutUint64(b[ucMask:], s.blocked)
	le.PutUint32(b[frInfo:], uint32(si.sig))
	le.PutUint32(b[frInfo+8:], uint32(si.code))
	le.PutUint64(b[frInfo+16:], si.addr)

	s.blocked |= act.mask
	if act.flags&saNodefer == 0 {
		s.blocked |= 1 << (si.sig - 1)
	}
	s.blocked &^= 1<<(sigKill-1) | 1<<(sigStop-1)
	r.RDI, r.RSI, r.RDX, r.RAX = uint64(si.sig), frame+frInfo, frame+frUC, 0
	r.RIP, r.RSP = act.handler, frame
	r.RFLAGS &^= handlerMask
	m.VM.Changed()
	return ""
}

func (a *altStack) has(sp uint64) bool { return a.size != 0 && sp > a.base && sp-a.base <= a.size }

// put writes the guest's stack_t.
func (a *altStack) put(b []byte, sp uint64) {
	flags := uint64(0)
	if a.size == 0 {
		flags = ssDisable
	} else if a.has(sp) {
		flags = ssOnStack
	}
	binary.LittleEndian.PutUint64(b, a.base)
	binary.LittleEndian.PutUint64(b[8:], flags)
	binary.LittleEndian.PutUint64(b[16:], a.size)
}

// sigreturn goes back to what the frame at the stack pointer says. The guest may
// have written anything there: it gets user registers and nothing else, since
// segments and system registers are not taken from the frame.
func (s *signals) sigreturn(m *machine.Machine) (why string) {
	r := m.VM.Regs()
	b := m.Bytes(machine.Addr(r.RSP-8), frSize, false)
	if b == nil {
		return "rt_sigreturn with a frame that is no memory"
	}
	le := binary.LittleEndian
	old := r.RFLAGS
	for i, p := range gprs(r) {
		*p = le.Uint64(b[ucRegs+8*i:])
	}
	r.RFLAGS = old&^fixFlags | r.RFLAGS&fixFlags
	s.blocked = le.Uint64(b[ucMask:]) &^ (1<<(sigKill-1) | 1<<(sigStop-1))
	m.VM.Changed()
	return s.restoreFP(m, le.Uint64(b[scFP:]))
}

func (s *signals) restoreFP(m *machine.Machine, fp uint64) (why string) {
	le := binary.LittleEndian
	x := s.xsave
	clear(x[:])
	if fp != 0 {
		from := m.Bytes(machine.Addr(fp), uint64(m.XSize), false)
		if from == nil {
			return "rt_sigreturn with an extended state that is no memory"
		}
		copy(x[:], from)
		clear(x[fpSW:xsHeader])
		have := le.Uint64(x[xsHeader:]) & m.XCR0
		clear(x[xsHeader : xsHeader+64])
		le.PutUint64(x[xsHeader:], have)
	} else {
		le.PutUint16(x[0:], 0x37f)
		le.PutUint32(x[24:], 0x1f80)
	}
	le.PutUint32(x[24:], le.Uint32(x[24:])&0xffff)
	if err := m.VM.SetXSave(x); err != nil {
		return "rt_sigreturn with a malformed extended state"
	}
	return ""
}
