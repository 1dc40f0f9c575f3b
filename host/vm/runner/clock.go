package runner

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

func rdtsc() uint64

// A sample is one reading of the host's clocks, in TSC ticks and nanoseconds.
type sample struct {
	tsc        uint64
	mono, wall int64
}

// clock keeps the info page's clock in step with the host's. The guest
// extrapolates from it by TSC, without an exit; the runner writes a new base
// whenever it is in control and the last one is older than clockAge.
type clock struct {
	page       []byte
	first, cur sample // where the slope is measured from; what the page has
	mul        uint64 // ns per tick × 2^32, as in the page
	rate       uint64 // the same, as measured
	offset     uint64 // of the guest's TSC from the host's, in ticks
	base       int64  // the page's MonoBase
}

const clockAge = 1e9 // ns

func gettime(id int32) int64 {
	var t unix.Timespec
	clockGettime(uintptr(id), &t)
	return t.Nano()
}

// take reads the clocks. The tightest of a few tries counts: a try is loose if
// the thread was interrupted in between.
func take() (s sample) {
	best := ^uint64(0)
	for range 3 {
		a := rdtsc()
		mono, wall := gettime(unix.CLOCK_MONOTONIC), gettime(unix.CLOCK_REALTIME)
		if b := rdtsc(); b-a < best {
			best = b - a
			s = sample{a + best/2, mono, wall}
		}
	}
	return s
}

// start writes the first base. kHz is the frequency of the TSC as KVM has it, 0: it does
// not say. offset is that of the guest's TSC from the host's.
func (c *clock) start(page []byte, kHz, offset uint64) {
	c.page, c.offset = page, offset
	c.first = take()
	if kHz != 0 {
		c.rate = 1e6 << 32 / kHz
	} else {
		nanosleep(1e6)
		if s := take(); s.tsc > c.first.tsc {
			c.rate = uint64(s.mono-c.first.mono) << 32 / (s.tsc - c.first.tsc)
		}
	}
	c.cur = c.first
	c.mul, c.base = c.rate, c.cur.mono
	c.write()
}

// tscOffset is how far the guest's TSC is ahead of the host's, modulo 2^64.
func tscOffset(m *machine.Machine) (uint64, error) {
	if m.TSCEqual {
		return 0, nil
	}
	before := rdtsc()
	guest, err := m.TSC()
	if err != nil {
		return 0, err
	}
	after := rdtsc()
	return guest - (before + (after-before)/2), nil
}

// extrapolate is the guest's computation.
func (c *clock) extrapolate(tsc uint64) int64 {
	hi, lo := bits.Mul64(tsc-c.cur.tsc, c.mul)
	return c.base + int64(hi<<32|lo>>32)
}

// refresh writes a new base if the last one is old. It never lets the guest's
// monotonic clock go backward: a guest that is ahead is slowed down until the
// host has caught up.
func (c *clock) refresh() {
	t := rdtsc()
	if d := t - c.cur.tsc; int64(d) >= 0 {
		if hi, lo := bits.Mul64(d, c.rate); hi<<32|lo>>32 < clockAge {
			return
		}
	}
	s := take()
	guest := s.mono
	if s.tsc > c.cur.tsc {
		guest = c.extrapolate(s.tsc)
	} else {
		c.first = s // the TSC was reset, as a suspend does
		guest = max(s.mono, c.base)
	}
	if d, ns := s.tsc-c.first.tsc, s.mono-c.first.mono; d > 0 && ns > clockAge/2 {
		hi, lo := uint64(ns)>>32, uint64(ns)<<32
		if hi < d {
			c.rate, _ = bits.Div64(hi, lo, d)
		}
		if ns > 60*clockAge {
			c.first = s
		}
	}
	c.cur, c.mul, c.base = s, c.rate, s.mono
	if guest > s.mono {
		c.base = guest
		c.mul -= c.rate / 1000
	}
	c.write()
}

func (c *clock) write() {
	le := binary.LittleEndian
	seq := le.Uint64(c.page[abi.VMInfoSeq:])
	le.PutUint64(c.page[abi.VMInfoSeq:], seq|1)
	le.PutUint64(c.page[abi.VMInfoTSCBase:], c.cur.tsc+c.offset)
	le.PutUint64(c.page[abi.VMInfoTSCMul:], c.mul)
	le.PutUint64(c.page[abi.VMInfoMonoBase:], uint64(c.base))
	le.PutUint64(c.page[abi.VMInfoWallBase:], uint64(c.cur.wall))
	le.PutUint64(c.page[abi.VMInfoSeq:], (seq|1)+1)
}
