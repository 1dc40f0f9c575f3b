package runner

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Timing is when each stage of a start was done, in nanoseconds of
// CLOCK_MONOTONIC.
type Timing struct {
	Begin   int64 // Main was entered
	Machine int64 // the machine exists: VM, vCPU, system area
	Order   int64 // a shell has got its image; 0 for others
	Loaded  int64 // image, region and stack are mapped
	Sealed  int64 // the sandbox is closed; the guest starts
	End     int64 // the guest has ended
}

// TimingSize is the size in bytes of the memory file through which a monitor can
// read a runner's Timing: its fields in order.
const TimingSize = 4096

func (t *Timing) fields() []*int64 {
	return []*int64{&t.Begin, &t.Machine, &t.Order, &t.Loaded, &t.Sealed, &t.End}
}

// Take reads a Timing from what the runner has published so far.
func (t *Timing) Take(b []byte) {
	for i, p := range t.fields() {
		*p = int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
}

func (t *Timing) publish(page []byte) {
	if page == nil {
		return
	}
	for i, p := range t.fields() {
		store64(page[8*i:], *p)
	}
}

// mapTiming maps the memory file behind fd, and closes it.
func mapTiming(fd int) ([]byte, error) {
	b, e := mapShared(fd, TimingSize)
	if e != 0 {
		return nil, fmt.Errorf("vm: map the timing page: %w", e)
	}
	raw(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0)
	return b, nil
}

func put64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }
