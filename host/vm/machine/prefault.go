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

// Prefault touches from inside the guest what a program touches first, as far as it is there
// already: constants of the image, and what populate has given memory, its variables, the
// region and the system area. So the program finds it in KVM's tables: there is no other way
// to fill these with shadow paging. It only reads, and KVM lets the guest write where the
// host's page can be written. With constants, only these. Then Start may be called, or
// Prefault again, for an image that was mapped since.
func (m *Machine) Prefault(constants bool) error {
	again := m.prefault
	if err := m.prefaulter(); err != nil {
		return err
	}
	for _, s := range m.segments {
		n := min(s.size, firstText)
		if s.prot&Write != 0 {
			if n = min(s.size, firstData); constants {
				continue
			}
		}
		if err := m.touch(s.base, n); err != nil {
			return err
		}
	}
	if constants || again {
		return nil
	}
	if err := m.touchSystem(); err != nil {
		return err
	}
	if m.region.lo != 0 || m.region.hi < abi.RegionLow+firstHeap {
		return nil
	}
	for _, p := range firstMeta {
		if err := m.touch(abi.RegionBase+p.at, p.n); err != nil {
			return err
		}
	}
	return m.touch(abi.RegionBase+abi.RegionLow, firstHeap)
}

// Warm does of Attach and Prefault what is the same for every guest, and with room for the heap
// of any snapshot. What is mapped afterwards costs a little more.
func (m *Machine) Warm() error {
	m.settle(mostHome)
	if err := m.prefaulter(); err != nil {
		return err
	}
	return m.touchSystem()
}

// prefaulter makes it possible to touch.
func (m *Machine) prefaulter() error {
	if m.prefault {
		return nil
	}
	m.prefault = true
	copy(m.system[pagePrefault*page:][:page], prefaultCode)
	if err := m.t.mapPages(prefaultPage, gpaSystem+pagePrefault*page, page, Exec.pte()); err != nil {
		return err
	}
	return m.Attach()
}

// touchSystem touches what the machine has for every guest.
func (m *Machine) touchSystem() error {
	for _, s := range []struct{ at, n uint64 }{
		{abi.VMInfoPage, page}, {abi.VMSignals, page}, {abi.VMStackBase + abi.VMStackSize - page, page}, {abi.VMRing, 2 * page},
	} {
		if err := m.touch(s.at, s.n); err != nil {
			return err
		}
	}
	return nil
}

// touch makes the guest read a byte of each page of the n bytes at a.
func (m *Machine) touch(a, n uint64) error {
	*m.VM.Regs() = kvm.Regs{RIP: prefaultPage, RFLAGS: flags, RDI: a, RSI: a + n, RDX: abi.VMHypercallPage}
	m.VM.Changed()
	for {
		switch ev := m.Run(); ev.Kind {
		case Hypercall:
			m.VM.Finish()
			return nil
		case Interrupt:
		case Dead:
			return errors.New("vm: prefault: " + ev.Reason)
		default:
			return fmt.Errorf("vm: prefault: exception %d, code %#x, address %#x", ev.Vector, ev.Code, ev.CR2)
		}
	}
}
