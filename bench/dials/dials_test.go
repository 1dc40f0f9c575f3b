package dials

import (
	"net"
	"testing"
	"time"
)

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go Serve(l)
	r := Dial(l.Addr().String(), 50, 5, nil)
	if r.Dials != 50 || r.Failed != 0 || r.Took <= 0 || r.Longest <= 0 {
		t.Errorf("%+v (%v), want 50 dials and no failure", r, r.First)
	}
	got, err := Parse(r.String())
	r.First = nil
	if err != nil || got != r {
		t.Errorf("%q is read as %+v, %v", r, got, err)
	}
	l.Close()
	if r := Dial(l.Addr().String(), 3, 1, nil); r.Failed != 3 || r.First == nil {
		t.Errorf("%+v, want 3 failures: nobody listens", r)
	}
}

// A server that takes connections and never answers is what a lost wake-up looks
// like; what matters here is that it is counted.
func TestHang(t *testing.T) {
	defer func(h, g time.Duration) { hang, giveUp = h, g }(hang, giveUp)
	hang, giveUp = 10*time.Millisecond, 200*time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if r := Dial(l.Addr().String(), 2, 2, nil); r.Hangs != 2 || r.Failed != 2 {
		t.Errorf("%+v, want 2 hangs", r)
	}
}
