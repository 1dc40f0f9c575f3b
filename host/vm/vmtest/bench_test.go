package vmtest

import (
	"os"
	"slices"
	"testing"
	"time"

	"noyau.dev/abi"
)

// BenchmarkStart is the whole life of a runner whose guest exits at once.
func BenchmarkStart(b *testing.B) {
	if why := Available(); why != "" {
		b.Skip(why)
	}
	img := ELF(NewAsm().Exit(0), nil)
	var all []time.Duration
	for b.Loop() {
		r, err := Run(img, Options{Exe: os.Getenv("NOYAU_TEST_RUNNER")})
		if err != nil || r.Code != 0 {
			b.Fatal(err, r)
		}
		all = append(all, r.Wall)
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs/median")
}

// BenchmarkHypercall is one host call that does nothing.
func BenchmarkHypercall(b *testing.B) {
	if why := Available(); why != "" {
		b.Skip(why)
	}
	const n = 20000
	a := NewAsm().Mov(R14, n).Label("again").Hyper(500).
		Mov(RCX, 1).Sub(R14, RCX).Jnz("again").Exit(0)
	img := ELF(a, nil)
	var best time.Duration = 1 << 62
	for b.Loop() {
		r, err := Run(img, Options{})
		if err != nil || r.Code != 0 {
			b.Fatal(err, r)
		}
		best = min(best, r.Wall)
	}
	b.ReportMetric(float64(best.Nanoseconds())/n, "ns/call")
	_ = abi.Version
}
