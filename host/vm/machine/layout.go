package machine

import "noyau.dev/abi"

// Addr is a guest-virtual address. It is not a pointer: Memory.Bytes alone
// turns one into memory.
type Addr uint64

const (
	page  = abi.PageSize
	chunk = 2 << 20 // granularity at which the region is mapped

	// Guest-virtual.
	imageLow  = 0x10000   // below it nothing is ever mapped: null pages
	imageHigh = 512 << 20 // images end below it
	superBase = 0xffff800000000000

	// Guest-physical. System area, image and region are one piece, as they are on the
	// host, so that one memory slot holds what every guest needs.
	gpaSystem    = 0
	systemSize   = 8 << 20
	gpaImage     = gpaSystem + systemSize
	imageRoom    = 56 << 20 // 32 MiB of an image that uses crypto/rand are a buffer of the standard library's
	gpaRegion    = gpaImage + imageRoom
	gpaHypercall = 0x5000000000 // no memory slot: a store there is an MMIO exit
	gpaLarge     = 0x5800000000 // an image of more than imageRoom
)

// Pages of the system area, in order. Page tables follow them and are mapped
// nowhere in the guest.
const (
	pageGDT      = 0 // and the TSS
	pageIDT      = 1
	pageStub     = 2
	pageSuper    = 3 // the stack of the exception stubs
	pageInfo     = 4
	pagePrefault = 5
	pageSignals  = 6
	pageStack    = 8 // VMStackSize bytes
	pageRing     = pageStack + abi.VMStackSize/page
	pageTable    = pageRing + abi.VMRingSize/page
)

// Memory slots. Each takes KVM a grace period of its own, tens of microseconds.
const (
	slotHome   = 1 + iota // system area, image, the first piece of the region
	slotLarge             // an image that has no room there
	slotRegion            // from here on: one for each further piece
)

// Bits of a page table entry.
const (
	ptePresent = 1 << 0
	pteWrite   = 1 << 1
	pteUser    = 1 << 2
	pteA       = 1 << 5
	pteD       = 1 << 6
	pteLarge   = 1 << 7
	pteNX      = 1 << 63
	pteAddr    = 0x000ffffffffff000
)

// Prot says what the guest may do with a page.
type Prot uint8

// Write and Exec are never granted together.
const (
	Read  Prot = 0
	Write Prot = 1
	Exec  Prot = 2
)

func (p Prot) pte() uint64 {
	e := uint64(ptePresent | pteA)
	if p&Write != 0 {
		e |= pteWrite | pteD
	}
	if p&Exec == 0 {
		e |= pteNX
	}
	return e
}
