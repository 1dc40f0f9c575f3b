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
//
// While the host is suspended, CLOCK_MONOTONIC stands still, and the TSC may go on,
// or start again from 0. A guest does not run before its runner does then: the freeze
// interrupts KVM_RUN. So before the guest runs again, refresh finds that the two do
// not agree any more, and what the guest would have made of the TSC, it has not seen.
type clock struct {
	host       clocks
	page       []byte
	first, cur sample // where the slope is measured from; what the page has
	mul        uint64 // ns per tick × 2^32, as in the page
	rate       uint64 // the same, as measured
	offset     uint64 // of the guest's TSC from the host's, in ticks
	base       int64  // the page's MonoBase
	looked     uint64 // the latest TSC read
	compared   uint64 // TSC when refresh last compared it with the clock
	paused     bool   // the guest has not run since it saw seen
	seen       int64
}

// clocks are the host's; tests have others.
type clocks struct {
	tsc    func() uint64
	mono   func() int64
	take   func() sample
	offset func() (uint64, error) // see tscOffset
}

func hostClocks(m *machine.Machine) clocks {
	return clocks{rdtsc, func() int64 { return gettime(unix.CLOCK_MONOTONIC) }, take, func() (uint64, error) { return tscOffset(m) }}
}

const (
	clockAge  = 1e9 // ns
	clockLook = 1e6 // ns of TSC between two comparisons of TSC and clock
	clockJump = 5e6 // ns by which they differ only if one has jumped
)

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
// not say. equal says that the guest's TSC is the host's.
func (c *clock) start(host clocks, page []byte, kHz uint64, equal bool) (err error) {
	c.host, c.page = host, page
	if !equal {
		if c.offset, err = host.offset(); err != nil {
			return err
		}
	}
	c.first = host.take()
	if kHz != 0 {
		c.rate = 1e6 << 32 / kHz
	} else {
		nanosleep(1e6)
		if s := host.take(); s.tsc > c.first.tsc {
			c.rate = uint64(s.mono-c.first.mono) << 32 / (s.tsc - c.first.tsc)
		}
	}
	c.cur, c.looked = c.first, c.first.tsc
	c.mul, c.base = c.rate, c.cur.mono
	c.write()
	return nil
}

// tscOffset is how far the guest's TSC is ahead of the host's, modulo 2^64. If the two
// were made equal, what is less than the time of a measurement is nothing.
func tscOffset(m *machine.Machine) (uint64, error) {
	before := rdtsc()
	guest, err := m.TSC()
	if err != nil {
		return 0, err
	}
	after := rdtsc()
	offset := guest - (before + (after-before)/2)
	if near := after - before; m.TSCEqual && offset+near <= 2*near {
		return 0, nil
	}
	return offset, nil
}

// extrapolate is the guest's computation.
func (c *clock) extrapolate(tsc uint64) int64 {
	hi, lo := bits.Mul64(tsc-c.cur.tsc, c.mul)
	return c.base + int64(hi<<32|lo>>32)
}

// pause notes that the guest does not run until the next refresh.
func (c *clock) pause() {
	c.looked = c.host.tsc()
	c.paused, c.seen = true, c.extrapolate(c.looked)
}

// moved is called in a forked runner, whose guest has another virtual processor.
func (c *clock) moved() error {
	offset, err := c.host.offset()
	if err == nil && offset != c.offset {
		c.offset = offset
		c.write()
	}
	return err
}

// ns is how long ticks take.
func ns(ticks, rate uint64) int64 {
	hi, lo := bits.Mul64(ticks, rate)
	return int64(hi<<32 | lo>>32)
}

// refresh writes a new base if the last one is old, or if clock and TSC do not agree
// any more. It never lets the guest's monotonic clock go backward: a guest that is
// ahead is slowed down until the host has caught up. It is called before the guest runs.
func (c *clock) refresh() {
	paused := c.paused
	c.paused = false
	t := c.host.tsc()
	reset := int64(t-c.looked) < 0
	soon := !reset && ns(t-c.compared, c.rate) < clockLook
	if c.looked = t; soon {
		return
	}
	c.compared = t
	if !reset {
		// The TSC was read first, so the difference is at least what lies between.
		now := c.host.mono()
		ahead := c.extrapolate(t) - now
		if ahead < clockJump && ahead > -clockJump && now-c.cur.mono < clockAge {
			return
		}
	}
	s := c.host.take()
	passed := s.mono - c.cur.mono
	// What the guest can have seen of the time: it ran while CLOCK_MONOTONIC did, and its
	// rate is right to a sixtieth; a small jump may not have been noticed.
	guest := c.base + passed + passed>>6 + clockJump
	if !reset {
		guest = min(guest, c.extrapolate(s.tsc))
	}
	if paused {
		guest = min(guest, c.seen)
	}
	if jump := ns(s.tsc-c.cur.tsc, c.rate) - passed; reset || jump > clockJump || jump < -clockJump {
		c.first = s
		if offset, err := c.host.offset(); err == nil {
			c.offset = offset // KVM makes up for a reset
		}
	}
	if d, passed := s.tsc-c.first.tsc, s.mono-c.first.mono; d > 0 && passed > clockAge/2 {
		hi, lo := uint64(passed)>>32, uint64(passed)<<32
		if hi < d {
			c.rate, _ = bits.Div64(hi, lo, d)
		}
		if passed > 60*clockAge {
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
