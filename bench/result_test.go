package main

import (
	"strings"
	"testing"
)

func TestNewResult(t *testing.T) {
	r := newResult("x", "ms", []string{"a", "b", "c"}, [][]float64{{4, 1, 3, 2}, {10, 5, 0}, nil})
	for i, want := range []Series{
		{Subject: "a", Median: 2.5, Min: 1, Max: 4},
		{Subject: "b", Median: 5, Min: 0, Max: 10, Ratio: 2},
		{Subject: "c"},
	} {
		got := r.Series[i]
		if got.Subject != want.Subject || got.Median != want.Median || got.Min != want.Min || got.Max != want.Max || got.Ratio != want.Ratio {
			t.Errorf("series %d is %+v, want %+v", i, got, want)
		}
	}
	if s := r.Series[0].Samples; s[0] != 4 || s[3] != 2 {
		t.Errorf("the samples were sorted: %v", s)
	}
	many := make([]float64, 200)
	for i := range many {
		many[i] = float64(200 - i)
	}
	tail := newResult("y", "ms", []string{"a"}, [][]float64{many})
	if got := tail.Series[0].P99; got != 198 {
		t.Errorf("the 99th percentile of 1 … 200 is %v, want 198", got)
	}
	var out strings.Builder
	tail.print(&out)
	r.print(&out)
	for _, want := range []string{"x (ms, median of 4)", "×2.00", "[1 … 4]", "none", "p99 198"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("printed %q, which lacks %q", out.String(), want)
		}
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.12345: "0.1235", 1.5: "1.50", 123.456: "123.5", 12345.6: "12346", 7: "7"} {
		if got := figure(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}
