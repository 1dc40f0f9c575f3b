package runner

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

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
	minStack             = 2048
)

// action is Linux's struct sigaction for amd64.
type action struct{ handler, flags, restorer, mask uint64 }

// signals is the signal state of the guest.
type signals struct {
	actions [65]action
	altBase uint64
	altSize uint64 // 0: none
	blocked uint64
	xsave   *kvm.XSave // scratch
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
	act := &s.actions[si.sig]
	if act.handler <= 1 {
		return "with no handler"
	}
	if act.flags&saRestorer == 0 {
		return "with a handler that has no restorer"
	}
	r := m.VM.Regs()
	sp := r.RSP - 128 // the red zone
	onAlt := s.onAlt(r.RSP)
	if act.flags&saOnStack != 0 && s.altSize != 0 && !onAlt {
		sp = s.altBase + s.altSize
	}
	xsize := uint64(m.XSize)
	fp := (sp - xsize - 4) &^ 63
	frame := (fp-frSize)&^15 - 8
	if onAlt && frame < s.altBase || frame > sp {
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
	s.putStack(b[ucStack:], r.RSP)
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

func (s *signals) onAlt(sp uint64) bool {
	return s.altSize != 0 && sp > s.altBase && sp-s.altBase <= s.altSize
}

// putStack writes the guest's stack_t.
func (s *signals) putStack(b []byte, sp uint64) {
	flags := uint64(0)
	if s.altSize == 0 {
		flags = ssDisable
	} else if s.onAlt(sp) {
		flags = ssOnStack
	}
	binary.LittleEndian.PutUint64(b, s.altBase)
	binary.LittleEndian.PutUint64(b[8:], flags)
	binary.LittleEndian.PutUint64(b[16:], s.altSize)
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

// sigaction answers rt_sigaction(sig, act, old, 8).
func (s *signals) sigaction(m *machine.Machine, sig, act, old, size uint64) unix.Errno {
	if size != 8 || sig < 1 || sig > 64 || act != 0 && (sig == sigKill || sig == sigStop) {
		return unix.EINVAL
	}
	le := binary.LittleEndian
	prev, next := s.actions[sig], s.actions[sig]
	if act != 0 {
		b := m.Bytes(machine.Addr(act), 32, false)
		if b == nil {
			return unix.EFAULT
		}
		next = action{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])}
	}
	if old != 0 {
		b := m.Bytes(machine.Addr(old), 32, true)
		if b == nil {
			return unix.EFAULT
		}
		for i, v := range []uint64{prev.handler, prev.flags, prev.restorer, prev.mask} {
			le.PutUint64(b[8*i:], v)
		}
	}
	s.actions[sig] = next
	return 0
}

// sigaltstack answers sigaltstack(new, old).
func (s *signals) sigaltstack(m *machine.Machine, next, old uint64) unix.Errno {
	sp := m.VM.Regs().RSP
	le := binary.LittleEndian
	base, size := s.altBase, s.altSize
	if next != 0 {
		b := m.Bytes(machine.Addr(next), 24, false)
		if b == nil {
			return unix.EFAULT
		}
		if s.onAlt(sp) {
			return unix.EPERM
		}
		flags := le.Uint32(b[8:])
		base, size = le.Uint64(b), le.Uint64(b[16:])
		switch {
		case flags&ssDisable != 0:
			base, size = 0, 0
		case flags&^ssOnStack != 0:
			return unix.EINVAL
		case size < minStack:
			return unix.ENOMEM
		case base+size < base:
			return unix.EINVAL
		}
	}
	if old != 0 {
		b := m.Bytes(machine.Addr(old), 24, true)
		if b == nil {
			return unix.EFAULT
		}
		s.putStack(b, sp)
	}
	s.altBase, s.altSize = base, size
	return 0
}
