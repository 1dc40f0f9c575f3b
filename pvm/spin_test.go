package pvm

import (
	"sync/atomic"
	"testing"
)

// TestSpinner: it sees a change, gives up in vain, stops trying and tries anew.
func TestSpinner(t *testing.T) {
	var s spinner
	var v atomic.Uint32
	for range 10 {
		if s.wait(&v, 0) {
			t.Fatal("a change that nobody made")
		}
	}
	if s.time.Load() >= int64(minSpin) {
		t.Errorf("after 10 waits in vain it still looks for %d ns", s.time.Load())
	}
	for range retry - int(s.skips.Load()) - 1 {
		s.wait(&v, 0)
	}
	quiet := s.time.Load()
	s.wait(&v, 0)
	if s.time.Load() <= quiet {
		t.Errorf("it is not tried anew: %d ns", s.time.Load())
	}
	v.Store(1)
	if !s.wait(&v, 0) {
		t.Error("a change was not seen")
	}
	v.Store(0)
	s.time.Store(int64(maxSpin))
	for range 1000 {
		go v.Store(1)
		for !s.wait(&v, 0) {
		}
		v.Store(0)
	}
}
