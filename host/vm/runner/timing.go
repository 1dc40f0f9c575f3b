package runner

import "encoding/binary"

// Timing is when each stage of a start was done, in nanoseconds of
// CLOCK_MONOTONIC. Begin is when Main was entered.
type Timing struct {
	Begin   int64
	Machine int64 // the machine exists: VM, vCPU, system area
	Loaded  int64 // image, region and stack are mapped
	Sealed  int64 // the sandbox is closed; the guest starts
	End     int64
}

func put64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }
