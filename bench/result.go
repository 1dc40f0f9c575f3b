package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// A Result is one thing measured on several subjects. The first is what the
// others are compared with.
type Result struct {
	Measure string   `json:"measure"`
	What    string   `json:"what"`
	Unit    string   `json:"unit"`
	Series  []Series `json:"series"`
	Notes   []string `json:"notes,omitempty"`
}

// A Series is the samples of one subject, and what is to be said of them.
type Series struct {
	Subject string    `json:"subject"`
	Median  float64   `json:"median"`
	P99     float64   `json:"p99"` // 99 of 100 samples are not larger
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Ratio   float64   `json:"ratio"` // of the median to the first subject's; 0: none
	Samples []float64 `json:"samples"`
}

// newResult computes a Result of samples[i] of subjects[i].
func newResult(what, unit string, subjects []string, samples [][]float64, notes ...string) Result {
	r := Result{What: what, Unit: unit, Notes: notes}
	for i, name := range subjects {
		s := Series{Subject: name, Samples: samples[i]}
		if len(samples[i]) > 0 {
			sorted := slices.Sorted(slices.Values(samples[i]))
			s.Min, s.Max = sorted[0], sorted[len(sorted)-1]
			s.Median = sorted[len(sorted)/2]
			if len(sorted)%2 == 0 {
				s.Median = (s.Median + sorted[len(sorted)/2-1]) / 2
			}
			s.P99 = sorted[(len(sorted)*99+99)/100-1]
		}
		if len(r.Series) > 0 && r.Series[0].Median != 0 {
			s.Ratio = s.Median / r.Series[0].Median
		}
		r.Series = append(r.Series, s)
	}
	return r
}

func (r *Result) print(w io.Writer) {
	n := 0
	for _, s := range r.Series {
		n = max(n, len(s.Samples))
	}
	fmt.Fprintf(w, "\n%s (%s", r.What, r.Unit)
	if n > 1 {
		fmt.Fprintf(w, ", median of %d", n)
	}
	fmt.Fprintln(w, ")")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, s := range r.Series {
		spread, tail, ratio := "", "", ""
		if len(s.Samples) > 1 {
			spread = fmt.Sprintf("[%s … %s]", figure(s.Min), figure(s.Max))
		}
		if len(s.Samples) >= 20 { // of fewer it is hardly another than the largest
			tail = "p99 " + figure(s.P99)
		}
		if s.Ratio != 0 {
			ratio = fmt.Sprintf("×%.2f", s.Ratio)
		}
		value := figure(s.Median)
		if len(s.Samples) == 0 {
			value = "none"
		}
		fmt.Fprintf(t, "%-28s\t%s\t%s\t%s\t%s\t\n", s.Subject, value, ratio, tail, spread)
	}
	t.Flush()
	for _, note := range r.Notes {
		fmt.Fprintln(w, "  -", note)
	}
}

// figure writes v with about four digits.
func figure(v float64) string {
	switch {
	case v >= 1000 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

// A Report is the whole run.
type Report struct {
	Command string   `json:"command"` // flags
	Facts   *Facts   `json:"facts"`
	Results []Result `json:"results"`
	Failed  []string `json:"failed,omitempty"`
}

func (r *Report) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
