package machine

import (
	"errors"
	"fmt"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
)

// prefaultPage is where the guest-virtual code of Prefault is, in machines that
// were prefaulted: a page that every guest could as well have in its text.
const prefaultPage = 0x7fffffeb0000

// prefaultCode reads one byte of each page from RDI to RSI and makes a host call.
var prefaultCode = []byte{
	0x8a, 0x07, // mov (%rdi), %al
	0x48, 0x81, 0xc7, 0, 0x10, 0, 0, // add $4096, %rdi
	0x48, 0x39, 0xf7, // cmp %rsi, %rdi
	0x72, 0xf2, // jb to the start
	0x89, 0x02, // mov %eax, (%rdx)
	0xeb, 0xfe,
}

// Prefault touches the pages of the image that are read-only from inside the
// guest, up to a bound, so that its program finds them in KVM's tables: there is
// no other way to fill these with shadow paging. Then Start may be called.
func (m *Machine) Prefault() error {
	code := m.system[pagePrefault*page:][:page]
	copy(code, prefaultCode)
	if err := m.t.mapPages(prefaultPage, gpaSystem+pagePrefault*page, page, Exec.pte()); err != nil {
		return err
	}
	for _, s := range m.segments {
		if s.prot&Write != 0 {
			continue
		}
		*m.VM.Regs() = kvm.Regs{RIP: prefaultPage, RFLAGS: flags, RDI: s.base, RSI: s.base + min(s.size, firstText), RDX: abi.VMHypercallPage}
		m.VM.Changed()
		for done := false; !done; {
			switch ev := m.Run(); ev.Kind {
			case Hypercall:
				done = true
			case Interrupt:
			case Dead:
				return errors.New("vm: prefault: " + ev.Reason)
			default:
				return fmt.Errorf("vm: prefault: exception %d, code %#x, address %#x", ev.Vector, ev.Code, ev.CR2)
			}
		}
		m.VM.Finish()
	}
	return nil
}
