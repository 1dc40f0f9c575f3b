package monitor

import (
	"testing"

	"noyau.dev/host/broker"
	"noyau.dev/host/policy"
)

// What Start does besides the back-end's part.
func BenchmarkPrepare(b *testing.B) {
	c := guest("exit:0")
	if err := c.complete(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var l launch
		if err := l.prepare(&c); err != nil {
			b.Fatal(err)
		}
		br, err := broker.New(broker.Config{Control: l.control, Guard: policy.NewGuard(c.Net), Roots: l.roots, Ports: l.ports})
		if err != nil {
			b.Fatal(err)
		}
		l.closeGuests()
		br.Serve() // the guest is gone already
		l.stdin.Close()
		l.stdout.Close()
		l.stderr.Close()
	}
}
