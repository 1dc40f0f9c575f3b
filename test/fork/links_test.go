package fork

import (
	"os"
	"testing"
	"time"

	"noyau.dev/test/internal/pvms"
)

func TestLinks(t *testing.T)       { done(t, config(t, "links")) }
func TestLinksNarrow(t *testing.T) { done(t, config(t, "links-narrow")) }

// TestLinkDirect: of many signals to and fro few come to the monitor.
func TestLinkDirect(t *testing.T) {
	c := config(t, "signal-trip", "1000")
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer hold.Close()
	c.Stdin = in
	out, said := pvms.Pipe(t)
	c.Stdout = out
	i := pvms.Start(t, c)
	pvms.Expect(t, said, 1, "done")
	// Those of the child are gone with it.
	s, err := i.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if s.Requests > 100 {
		t.Errorf("%d requests to the monitor for 1000 signals", s.Requests)
	}
	hold.Close()
	select {
	case <-i.Done():
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
}
