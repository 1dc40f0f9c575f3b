package vmtest

import "testing"

// TestTimingStages shows where the time of a start goes; it asserts no time.
func TestTimingStages(t *testing.T) {
	for range 5 {
		r := run(t, NewAsm().Exit(0), nil, Options{Stats: true})
		t.Logf("wall %v: %s", r.Wall, r.Err)
	}
}
