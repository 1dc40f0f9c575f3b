package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"noyau.dev/host/state"
)

func TestStatusText(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		s    state.Status
		want string
	}{
		{state.Status{Phase: state.Running, Started: now.Add(-3 * time.Minute)}, "Up 3 minutes"},
		{state.Status{Phase: state.Running, Paused: true, Started: now.Add(-3 * time.Minute)}, "Up 3 minutes (Paused)"},
		{state.Status{Phase: state.Exited, ExitCode: 137, Finished: now.Add(-2 * time.Hour)}, "Exited (137) 2 hours ago"},
		{state.Status{Phase: state.Dead}, "Dead"},
		{state.Status{Phase: state.Created}, "Created"},
	} {
		if got := statusText(&state.Entry{Status: tt.s}, now); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestPrintRows(t *testing.T) {
	type row struct{ A, B string }
	rows := []row{{"1", "<x>"}, {"long", "y"}}
	for spec, want := range map[string]string{
		"table":         "A      B\n1      <x>\nlong   y\n",
		"json":          `{"A":"1","B":"<x>"}` + "\n" + `{"A":"long","B":"y"}` + "\n",
		"{{.B}}-{{.A}}": "<x>-1\ny-long\n",
	} {
		f, err := parseFormat(spec)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := printRows(&b, f, rows, []string{"A", "B"}, func(r row) []string { return []string{r.A, r.B} }); err != nil || b.String() != want {
			t.Errorf("%s: %v\n%q, want\n%q", spec, err, b.String(), want)
		}
	}
	for _, bad := range []string{"yaml", "{{", ""} {
		if _, err := parseFormat(bad); err == nil {
			t.Errorf("format %q was accepted", bad)
		}
	}
	f, _ := parseFormat("{{.None}}")
	if err := printRows(&bytes.Buffer{}, f, rows, nil, nil); err == nil || !strings.Contains(err.Error(), "None") {
		t.Errorf("unknown field: %v", err)
	}
}

func TestLastLines(t *testing.T) {
	rec := func(stream, s string) state.Record { return state.Record{Stream: stream, Log: s} }
	in := []state.Record{rec("stdout", "1\n"), rec("stdout", "2 be"), rec("stdout", "gin\n"), rec("stderr", "3"), rec("stdout", "4\n"), rec("stdout", "5 open")}
	for n, want := range map[int]string{0: "", 1: "5 open", 2: "4\n5 open", 4: "2 begin\n34\n5 open", 99: "1\n2 begin\n34\n5 open"} {
		var lines [][]state.Record
		for _, r := range in {
			lines = lastLines(lines, r, n)
		}
		var b strings.Builder
		for _, l := range lines {
			for _, r := range l {
				b.Write(r.Data())
			}
		}
		if b.String() != want {
			t.Errorf("last %d: %q, want %q", n, b.String(), want)
		}
	}
}

func TestTimestamps(t *testing.T) {
	var out, err bytes.Buffer
	p := &logPrinter{out: &out, err: &err, times: true}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, r := range []state.Record{{Stream: "stdout", Log: "a"}, {Stream: "stderr", Log: "e\n"}, {Stream: "stdout", Log: "b\n"}, {Stream: "stdout", Log: "c\n"}} {
		r.Time = at
		p.print(r)
	}
	if out.String() != "2026-01-02T03:04:05Z ab\n2026-01-02T03:04:05Z c\n" || err.String() != "2026-01-02T03:04:05Z e\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), err.String())
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	if got, err := parseSince("10m", now); err != nil || !got.Equal(now.Add(-10*time.Minute)) {
		t.Errorf("%v %v", got, err)
	}
	if got, err := parseSince("2026-01-02T03:04:05Z", now); err != nil || got.Unix() != time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Unix() {
		t.Errorf("%v %v", got, err)
	}
	if _, err := parseSince("yesterday", now); err == nil {
		t.Error("yesterday was accepted")
	}
}
