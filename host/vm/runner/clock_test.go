package runner

import (
	"encoding/binary"
	"math/bits"
	"math/rand"
	"testing"

	"noyau.dev/abi"
)

// machineClock is a host whose clocks a test turns.
type machineClock struct {
	tsc, offset uint64
	mono, wall  int64
	khz         uint64
}

// run lets ns nanoseconds pass.
func (m *machineClock) run(ns int64) {
	m.tsc += uint64(ns) * m.khz / 1e6
	m.mono += ns
	m.wall += ns
}

// suspend lets ns pass in which CLOCK_MONOTONIC stands still; the TSC goes on, or starts
// again, and KVM makes up for it, as it does if the TSC has gone backward.
func (m *machineClock) suspend(ns int64, reset bool) {
	m.wall += ns
	if reset {
		old := m.tsc
		m.tsc = 1000
		m.offset += old - m.tsc
	} else {
		m.tsc += uint64(ns) * m.khz / 1e6
	}
}

func (m *machineClock) clocks() clocks {
	return clocks{
		tsc:    func() uint64 { return m.tsc },
		mono:   func() int64 { return m.mono },
		take:   func() sample { return sample{m.tsc, m.mono, m.wall} },
		offset: func() (uint64, error) { return m.offset, nil },
	}
}

// guest reads the clocks as a guest does.
func (m *machineClock) guest(page []byte) (mono, wall int64) {
	at := func(o int) uint64 { return binary.LittleEndian.Uint64(page[o:]) }
	hi, lo := bits.Mul64(m.tsc+m.offset-at(abi.VMInfoTSCBase), at(abi.VMInfoTSCMul))
	d := int64(hi<<32 | lo>>32)
	return int64(at(abi.VMInfoMonoBase)) + d, int64(at(abi.VMInfoWallBase)) + d
}

// TestClockSuspend suspends the host while a guest runs or sleeps: its monotonic clock
// stands still as the host's does and never goes backward, and its wall clock is right.
func TestClockSuspend(t *testing.T) {
	for seed := range int64(40) {
		rnd := rand.New(rand.NewSource(seed))
		m := &machineClock{tsc: 1 << 44, mono: 1e12, wall: 1.7e18, khz: uint64(1e6 + rnd.Intn(3e6))}
		var c clock
		page := make([]byte, abi.PageSize)
		if err := c.start(m.clocks(), page, m.khz+uint64(rnd.Intn(200))-100, true); err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		look := func(what string) {
			t.Helper()
			mono, wall := m.guest(page)
			if mono < last {
				t.Fatalf("seed %d, %s: the monotonic clock went back by %d ns", seed, what, last-mono)
			}
			if d := mono - m.mono; d < -1e6 || d > 30e6 {
				t.Fatalf("seed %d, %s: the monotonic clock is %d ns off", seed, what, d)
			}
			if d := wall - m.wall; d < -5e6 || d > 5e6 {
				t.Fatalf("seed %d, %s: the wall clock is %d ns off", seed, what, d)
			}
			last = mono
		}
		for range 3000 {
			// The guest runs, up to a tick and a bit.
			m.run(int64(rnd.Intn(11e6)))
			c.refresh()
			m.run(int64(rnd.Intn(11e6)))
			look("running")
			slept := rnd.Intn(3) == 0
			if slept {
				c.pause()
				m.run(int64(rnd.Intn(2)) * int64(rnd.Intn(3600)) * 1e9)
			}
			if rnd.Intn(20) == 0 {
				m.suspend(int64(1+rnd.Intn(1<<rnd.Intn(20)))*1e6, rnd.Intn(2) == 0)
			}
			if slept {
				m.run(int64(rnd.Intn(1e6)))
			}
			c.refresh()
			look("after an exit")
		}
	}
}

// TestClockAlone is a guest that stays on the processor for long.
func TestClockAlone(t *testing.T) {
	m := &machineClock{tsc: 1 << 40, mono: 1e12, wall: 1.7e18, khz: 2.5e6, offset: ^uint64(12345)}
	var c clock
	page := make([]byte, abi.PageSize)
	if err := c.start(m.clocks(), page, 0, false); err == nil && c.rate == 0 {
		c.rate = 1e6 << 32 / m.khz // a clock that stands still has no rate
		c.mul = c.rate
		c.write()
	}
	for range 1000 {
		m.run(10e6)
		c.refresh()
		if mono, _ := m.guest(page); mono-m.mono > 1e6 || mono-m.mono < -1e6 {
			t.Fatalf("%d ns off", mono-m.mono)
		}
	}
}
