package monitor

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestBackoff: the pause doubles up to its bound, and begins anew after what has worked.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Backoff
		if !b.Over() || b.Err() != nil {
			t.Error("a pause before a failure")
		}
		failure := errors.New("a failure")
		for n, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			b.Failed(failure)
			time.Sleep(want*time.Second - 1)
			if b.Over() || b.Err() != failure {
				t.Errorf("pause %d is over before %d s", n, want)
			}
			time.Sleep(1)
			if !b.Over() {
				t.Errorf("pause %d is not over after %d s", n, want)
			}
		}
		b.Worked()
		if b.Failed(failure); b.pause != backoffMin {
			t.Errorf("the first pause is %v", b.pause)
		}
	})
}

// idleWarm waits for ever.
type idleWarm struct{}

func (idleWarm) Alive() bool                         { return true }
func (idleWarm) Touch([]uint64) error                { return nil }
func (idleWarm) Begin(*Spec, []int) (Process, error) { return nil, errors.New("not now") }
func (idleWarm) Discard()                            {}

// TestTemplateAgain: after a standby could not be made, the first one who asks after a pause
// has it tried again.
func TestTemplateAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failure error
		tried := 0
		tmpl := &Template{want: 1, writes: new(workingSet)}
		tmpl.idle.L = &tmpl.mu
		tmpl.make = func() (*standby, error) {
			tried++
			if failure != nil {
				return nil, failure
			}
			return &standby{w: idleWarm{}}, nil
		}
		take := func(there bool, tries, ready int) {
			t.Helper()
			tried = 0
			if s := tmpl.take(&Config{}); (s != nil) != there {
				t.Errorf("taken: %v, want %v", s != nil, there)
			}
			time.Sleep(2 * refillAfter)
			synctest.Wait()
			if n := tmpl.Ready(); tried != tries || n != ready {
				t.Errorf("tried %d times, %d are ready; want %d and %d", tried, n, tries, ready)
			}
		}
		take(false, 1, 1)
		failure = errors.New("too many open files")
		take(true, 1, 0)
		take(false, 0, 0) // not so soon
		time.Sleep(backoffMin)
		take(false, 1, 0)
		time.Sleep(backoffMin)
		take(false, 0, 0) // the pause grows
		failure = nil
		time.Sleep(backoffMax)
		take(false, 1, 1)
		take(true, 1, 1)
		tmpl.Close()
		take(false, 0, 0)
	})
}
