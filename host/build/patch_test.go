package build

import (
	"strings"
	"testing"
)

func TestApply(t *testing.T) {
	const src = "a\nb\na\nc\n"
	for _, c := range []struct {
		name, edits, want, err string
	}{
		{"once", "why\n<<<<\nb\n====\nB\n>>>>\n", "a\nB\na\nc\n", ""},
		{"all", "<<<< all 2\na\n====\nA\n>>>>\n", "A\nb\nA\nc\n", ""},
		{"part of a line", "<<<<\nb\n====\nbee(1)\n>>>>\n<<<< within 1\nbee(\n====\nB(\n>>>>\n", "a\nB(1)\na\nc\n", ""},
		{"within wrong count", "<<<< within 1\na\n====\nx\n>>>>\n", "", "occurs 2 times, want 1"},
		{"within without count", "<<<< within\na\n====\nx\n>>>>\n", "", "want <<<<"},
		{"in order", "<<<<\nb\n====\nx\n>>>>\n<<<<\nx\n====\ny\n>>>>\n", "a\ny\na\nc\n", ""},
		{"delete", "<<<<\nb\n====\n>>>>\n", "a\na\nc\n", ""},
		{"missing anchor", "<<<<\nq\n====\nx\n>>>>\n", "", `anchor "q" occurs 0 times, want 1`},
		{"anchor not unique", "<<<<\na\n====\nx\n>>>>\n", "", `anchor "a" occurs 2 times, want 1`},
		{"wrong count", "<<<< all 3\na\n====\nx\n>>>>\n", "", "occurs 2 times, want 3"},
		{"not closed", "<<<<\na\n====\nx\n", "", "no >>>>"},
		{"no old text", "<<<<\n====\nx\n>>>>\n", "", "without old text"},
		{"bad count", "<<<< all x\na\n====\nb\n>>>>\n", "", "want <<<<"},
	} {
		edits, err := parseEdits(c.edits)
		got := ""
		if err == nil {
			got, err = apply(src, edits)
		}
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.err)
		}
	}
}

func TestUnsupportedRelease(t *testing.T) {
	_, err := loadPatches("go1.24.3")
	if err == nil || !strings.Contains(err.Error(), "go1.24.3 is not supported") || !strings.Contains(err.Error(), "go1.26") {
		t.Errorf("error %v; want one that names the supported releases", err)
	}
}

// TestUnknownFile changes a file that the patches touch: it must be refused although
// every anchor is still there.
func TestUnknownFile(t *testing.T) {
	ps, err := loadPatches("go1.26.8")
	if err != nil {
		t.Fatal(err)
	}
	err = ps.check("runtime/proc.go", []byte("package runtime\n"), "go1.26.99")
	if err == nil || !strings.Contains(err.Error(), "runtime/go1.26/sums") {
		t.Errorf("error %v; want one that names the list of sums", err)
	}
}

func TestGoFlags(t *testing.T) {
	for _, c := range []struct {
		flags []string
		env   string
		tags  string
		rest  string
		bad   bool
	}{
		{nil, "", "-tags=noyau", "", false},
		{[]string{"-tags", "a,b"}, "", "-tags=noyau,a,b", "", false},
		{[]string{"-tags=a b"}, "", "-tags=noyau,a,b", "", false},
		{nil, "-mod=mod -tags=c", "-tags=noyau,c", "", false},
		{[]string{"-tags=a"}, "-tags=c", "-tags=noyau,a", "", false},
		{[]string{"-ldflags", "-s -w"}, "", "-tags=noyau", "-ldflags=-R=0x200000 -s -w", false},
		{[]string{"-ldflags= -X 'main.a=b c'", "-v"}, "", "-tags=noyau", "-ldflags=-R=0x200000 -X 'main.a=b c' -v", false},
		{[]string{"-ldflags=all=-s"}, "", "-tags=noyau", "-ldflags=all=-R=0x200000 -s", false},
		{[]string{"--ldflags=-s"}, "'-ldflags=-X main.a=b -w' -v", "-tags=noyau", "-ldflags=-R=0x200000 -X main.a=b -w -ldflags=-R=0x200000 -s", false},
		{[]string{"-race"}, "", "", "", true},
		{[]string{"-buildmode=pie"}, "", "", "", true},
	} {
		got, err := goFlags(c.flags, c.env)
		if (err != nil) != c.bad {
			t.Errorf("%q: error %v", c.flags, err)
		}
		if err != nil {
			continue
		}
		n, ours := len(got)-1, 2
		if got[0] != "-gcflags=std=-dwarf=false" || got[1] != "-ldflags=-R=0x200000" {
			t.Errorf("%q begins without our own flags", got)
		}
		if got[n] != c.tags || strings.Join(got[ours:n], " ") != c.rest {
			t.Errorf("%q with GOFLAGS=%q: %q, want %q and %q", c.flags, c.env, got, c.rest, c.tags)
		}
	}
}

func TestDefaultName(t *testing.T) {
	for in, want := range map[string]string{
		"example.org/cmd/tool":           "tool",
		"example.org/tool/v2":            "tool",
		"example.org/tool/v2@v2.1.0":     "tool",
		"example.org/tool@latest":        "tool",
		"./x/main.go":                    "main",
		"./cmd/server":                   "server",
		"/abs/dir/app":                   "app",
		"github.com/x/server/v2/cmd/srv": "srv",
	} {
		if got := DefaultName(in, "/w"); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
