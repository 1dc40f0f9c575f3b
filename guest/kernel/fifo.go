package kernel

import "noyau.dev/guest/linux"

// A Fifo is what those share who have a named pipe open.
type Fifo interface {
	Open(flags uint32) (File, linux.Errno)
}

// NewFifo makes the pipe behind a name. The events brick sets it, which every program
// has that can make such a name.
var NewFifo func() Fifo
