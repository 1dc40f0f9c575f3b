package machine

import (
	"golang.org/x/sys/unix"

	"noyau.dev/host/vm/kvm"
)

// saved is the state of the vCPU between Save and Reborn. There is one machine in a
// process, and what lies here needs no memory when it is wanted.
var saved kvm.State

// CanFork reports whether the machine can be made anew in a fork of this process.
func (m *Machine) CanFork() bool { return m.VM.CanRemake() }

// Save reads the state of the vCPU for Reborn. The guest has just made a host call.
func (m *Machine) Save() error { return m.VM.Save(&saved) }

// Reborn makes the machine anew, as it was at Save, in a fork of this process, which has
// a copy of its memory. A virtual machine belongs to the address space that it was
// made in, so that of the parent is of no use here. It does not allocate, and returns
// what failed and why.
func (m *Machine) Reborn() (failed string, e unix.Errno) {
	if failed, e = m.VM.Remake(&saved); e != 0 {
		return failed, e
	}
	g := &m.region
	home := 1
	for home < len(g.slots) && g.slots[home] != 0 {
		home++ // what lies behind one another needs one slot
	}
	if e := m.VM.AddMemory(slotHome, gpaSystem, m.all[:gpaRegion+home*slotSize]); e != 0 {
		return "add the guest's memory", e
	}
	if m.gpaImage == gpaLarge {
		if e := m.VM.AddMemory(slotLarge, gpaLarge, m.image); e != 0 {
			return "add the memory of the image", e
		}
	}
	for _, i := range g.made {
		if i := uint64(i); i >= uint64(home) {
			if e := m.VM.AddMemory(g.slots[i], gpaRegion+i*slotSize, g.slot(i)); e != 0 {
				return "add the memory of the region", e
			}
		}
	}
	return "", 0
}
