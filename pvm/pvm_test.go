package pvm

import (
	"errors"
	"testing"
)

// TestNative: an ordinary process learns that it is none, and goes on.
func TestNative(t *testing.T) {
	_, fork := Fork()
	_, _, pair := Pair()
	_, queue := NewQueue()
	_, share := Share(1)
	for what, err := range map[string]error{"Fork": fork, "Pair": pair, "NewQueue": queue, "Share": share} {
		if !errors.Is(err, ErrNotPVM) {
			t.Errorf("%s: %v, want ErrNotPVM", what, err)
		}
	}
	if _, err := Wait(1 << 30); err == nil {
		t.Error("a wait for nobody went well")
	}
	if Signal(-1, 0) == nil || Signal(0, 0) == nil {
		t.Error("a signal to a group went well")
	}
}
