package machine

import "noyau.dev/host/vm/kvm"

// xcr0Allowed: x87, SSE, AVX, AVX-512. No AMX, no protection keys.
const xcr0Allowed = 0xe7

// leafMask is what a guest may see of a CPUID leaf (index -1: any index).
type leafMask struct {
	leaf               uint32
	index              int64
	eax, ebx, ecx, edx uint32
}

const all = 0xffffffff

func bits(n ...uint) (m uint32) {
	for _, b := range n {
		m |= 1 << b
	}
	return
}

// cpuidAllowed lists all that a guest sees. What is not here reads as zero: no
// virtualization, no performance counters, no MONITOR, no x2APIC, no
// paravirtual interface.
var cpuidAllowed = []leafMask{
	{0, -1, all, all, all, all},
	{1, -1, all, 0xff00, // of EBX only the size of a cache line
		bits(0, 1, 9, 12, 13, 19, 20, 22, 23, 25, 26, 27, 28, 29, 30),
		bits(0, 2, 3, 4, 5, 6, 8, 13, 15, 16, 17, 19, 23, 24, 25, 26)},
	{7, 0, 1,
		bits(0, 3, 5, 7, 8, 9, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31),
		bits(1, 2, 6, 8, 9, 10, 11, 12, 14, 22),
		bits(4)},
	{7, 1, bits(4, 5), 0, 0, 0},
	{0xd, 0, xcr0Allowed, all, all, 0},
	{0xd, 1, bits(0, 1, 2), 0, 0, 0},
	{0xd, 2, all, all, 0, 0},
	{0xd, 5, all, all, 0, 0},
	{0xd, 6, all, all, 0, 0},
	{0xd, 7, all, all, 0, 0},
	{0x15, -1, all, all, all, 0},
	{0x16, -1, all, all, all, 0},
	{0x80000000, -1, all, all, all, all},
	{0x80000001, -1, all, 0,
		bits(0, 5, 6, 7, 8),
		bits(11, 20, 22, 26, 27, 29) | bits(0, 2, 3, 4, 5, 6, 8, 13, 15, 16, 17, 23, 24)},
	{0x80000002, -1, all, all, all, all}, // the name of the processor
	{0x80000003, -1, all, all, all, all},
	{0x80000004, -1, all, all, all, all},
	{0x80000007, -1, 0, 0, 0, bits(8)}, // invariant TSC
	{0x80000008, -1, 0xffff, 0, 0, 0},
}

// HostCPUID returns what guests may see of this host's processor, from the
// descriptor of /dev/kvm. It does not change while the host is up, and takes
// half a millisecond where CPUID itself exits to a hypervisor.
func HostCPUID(dev int) ([]kvm.CPUIDEntry, error) {
	host, err := kvm.SupportedCPUID(dev)
	if err != nil {
		return nil, err
	}
	list, _, _ := filterCPUID(host)
	return list, nil
}

// filterCPUID cuts what the host offers down to the allow-list.
func filterCPUID(host []kvm.CPUIDEntry) (list []kvm.CPUIDEntry, xcr0 uint64, extraCR4 uint64) {
	for _, e := range host {
		for _, m := range cpuidAllowed {
			if e.Function != m.leaf || m.index >= 0 && int64(e.Index) != m.index {
				continue
			}
			e.EAX, e.EBX, e.ECX, e.EDX = e.EAX&m.eax, e.EBX&m.ebx, e.ECX&m.ecx, e.EDX&m.edx
			switch {
			case e.Function == 0:
				e.EAX = min(e.EAX, 0x16)
			case e.Function == 0x80000000:
				e.EAX = min(e.EAX, 0x80000008)
			case e.Function == 7 && e.Index == 0:
				if e.EBX&(1<<7) != 0 {
					extraCR4 |= cr4SMEP
				}
				if e.EBX&(1<<20) != 0 {
					extraCR4 |= cr4SMAP
				}
				if e.ECX&(1<<2) != 0 {
					extraCR4 |= cr4UMIP
				}
			case e.Function == 0xd && e.Index == 0:
				xcr0 = uint64(e.EAX)
			}
			list = append(list, e)
			break
		}
	}
	return list, xcr0, extraCR4
}
