package abi

// Narrowing: what a pVM and its descendants may ask of the monitor can be made less, and
// never more again. What is open stays open.
const (
	SysNarrow = 0x4e03 // narrow(rights to give up, process id of a descendant or 0: oneself)

	OpNarrow = 88 // A=rights to take away (NarrowNet …), B=process id of a descendant, 0: oneself. EPERM: it is none
	OpLast   = OpUnshare
)

// Rights that can be given up. Bits of OpNarrow's A, of SysFork's argument and of OpForked's D.
const (
	NarrowNet     = 1 << iota // connect, send datagrams, look up names
	NarrowListen              // published ports
	NarrowVolumes             // open or change anything on volumes
	NarrowWrite               // change anything on volumes
	NarrowFork                // fork
	NarrowExec                // start images
	NarrowNames               // unix sockets of other members, channels
	NarrowSignal              // signal others than descendants
	NarrowAll     = 1<<iota - 1
)
