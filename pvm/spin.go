package pvm

import (
	"runtime"
	"sync/atomic"
	"time"
)

// A spinner looks at a number for a while before its caller goes to sleep: to sleep and to
// be woken costs about as much as maxSpin, and what spins need not be woken. That is only
// of use while the member that will change the number runs on another processor, so the
// time is halved when nothing has come of it, down to none, and tried anew now and then.
type spinner struct {
	time  atomic.Int64 // ns; 0: as long as allowed; less than minSpin: not worth it
	skips atomic.Uint32
}

const (
	maxSpin = 25 * time.Microsecond
	minSpin = time.Microsecond
	retry   = 64 // waits without until it is tried again
)

// wait reports whether v is another number than old. Other goroutines run meanwhile.
func (s *spinner) wait(v *atomic.Uint32, old uint32) bool {
	if v.Load() != old {
		return true
	}
	limit := time.Duration(s.time.Load())
	switch {
	case limit == 0:
		limit = maxSpin
	case limit < minSpin:
		if s.skips.Add(1)%retry != 0 {
			return false
		}
		limit = maxSpin
	}
	for start := time.Now(); ; runtime.Gosched() {
		for range 64 {
			if v.Load() != old {
				s.time.Store(int64(min(2*limit, maxSpin)))
				return true
			}
		}
		if time.Since(start) >= limit {
			s.time.Store(int64(limit / 2))
			return false
		}
	}
}
