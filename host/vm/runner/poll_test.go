package runner

import "testing"

// TestSpinner: asking before a sleep is given up where it is in vain, tried less and less
// often, and done at once again where it pays.
func TestSpinner(t *testing.T) {
	var s spinner
	tries := func(n int) (k int) {
		for range n {
			if s.worth() {
				s.inVain()
				k++
			}
			s.short()
		}
		return k
	}
	if k := tries(100); k < 3 || k > 10 {
		t.Errorf("%d tries in 100 short sleeps, want a few", k)
	}
	tries(10_000)
	if k := tries(10_000); k < 5 || k > 20 {
		t.Errorf("%d tries in 10,000 short sleeps, want about ten", k)
	}
	for !s.worth() {
		s.short()
	}
	s.paid()
	for range spinCredit {
		if !s.worth() {
			t.Fatal("given up too soon after it paid")
		}
		s.inVain()
	}
	if s.worth() {
		t.Error("not given up")
	}
}
