// Package docs holds what the documents of this repository say against the sources: tests,
// paths, links, flags, commands and numbers that they name exist.
package docs

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"noyau.dev/abi"
)

const root = "../.."

// documents are the texts, by their path in the repository.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "*/README.md", "test/*/README.md"} {
		list, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(root, f)
			docs[name] = string(b)
		}
	}
	if len(docs) < 16 {
		t.Fatalf("only %d documents", len(docs))
	}
	return docs
}

// sources are the contents of all files whose names end like this, by path.
func sources(t *testing.T, dir, suffix string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, suffix) {
			return err
		}
		b, err := os.ReadFile(p)
		name, _ := filepath.Rel(root, p)
		files[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// line is the number of the line in which the byte at is.
func line(s string, at int) int { return 1 + strings.Count(s[:at], "\n") }

// TestNamedTests: a promise that names its test names one that exists.
func TestNamedTests(t *testing.T) {
	defined := map[string]bool{}
	fn := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)
	for _, s := range sources(t, ".", "_test.go") {
		for _, m := range fn.FindAllStringSubmatch(s, -1) {
			defined[m[1]] = true
		}
	}
	n := 0
	named := regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Z]\w*`)
	for doc, s := range documents(t) {
		for _, at := range named.FindAllStringIndex(s, -1) {
			if n++; !defined[s[at[0]:at[1]]] {
				t.Errorf("%s:%d: there is no %s", doc, line(s, at[0]), s[at[0]:at[1]])
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d tests are named: is the pattern right?", n)
	}
}

// anchor is what a heading is called in links to it.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

// TestLinks: links lead to files and headings that are there.
func TestLinks(t *testing.T) {
	docs := documents(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	for doc, s := range docs {
		for _, m := range link.FindAllStringSubmatchIndex(s, -1) {
			to := s[m[2]:m[3]]
			if strings.Contains(to, "://") {
				continue
			}
			file, name, _ := strings.Cut(to, "#")
			target := doc
			if file != "" {
				target = path.Join(path.Dir(doc), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s:%d: %s: %v", doc, line(s, m[0]), to, err)
				continue
			}
			found := name == ""
			for _, h := range heading.FindAllStringSubmatch(docs[target], -1) {
				found = found || anchor(h[1]) == name
			}
			if !found {
				t.Errorf("%s:%d: %s has no heading #%s", doc, line(s, m[0]), target, name)
			}
		}
	}
}

// TestNamedPaths: what looks like a path of this repository is one.
func TestNamedPaths(t *testing.T) {
	named := regexp.MustCompile(`(?:^|[\s(\x60])((?:\./)?(?:abi|guest|host|runtime|pvm|cmd|examples|bench|test|docs|\.ci)/[\w./-]*\w)`)
	n := 0
	for doc, s := range documents(t) {
		for _, m := range named.FindAllStringSubmatchIndex(s, -1) {
			p := strings.TrimSuffix(s[m[2]:m[3]], "/...")
			if strings.HasPrefix(p, "test/binary") || strings.Contains(p, "@") {
				continue
			}
			n++
			if _, err := os.Stat(filepath.Join(root, p)); err == nil {
				continue
			}
			// A symbol of a package: guest/kernel.Syscall.
			if dir, _, ok := strings.Cut(p, "."); ok {
				if st, err := os.Stat(filepath.Join(root, dir)); err == nil && st.IsDir() {
					continue
				}
			}
			t.Errorf("%s:%d: there is no %s", doc, line(s, m[2]), p)
		}
	}
	if n < 50 {
		t.Errorf("only %d paths are named: is the pattern right?", n)
	}
}

// TestNamedFlags: a flag that the documents name is one of noyau, of the bench or of a test.
func TestNamedFlags(t *testing.T) {
	var own, tests, bench strings.Builder
	for name, s := range sources(t, "cmd/noyau", ".go") {
		if !strings.HasSuffix(name, "_test.go") {
			own.WriteString(s)
		}
	}
	for _, s := range sources(t, ".", "_test.go") {
		tests.WriteString(s)
	}
	for _, s := range sources(t, "bench", ".go") {
		bench.WriteString(s)
	}
	// Of cobra, of the go command's tests, of programs that documents show.
	others := map[string]bool{"help": true, "run": true, "bench": true, "benchtime": true, "v": true, "timeout": true, "count": true, "update": true,
		"short": true, "fuzz": true, "fuzztime": true, "kill": true, "long": true}
	double := regexp.MustCompile(`[\s\x60(]--([a-z][a-z-]*)`)
	dotted := regexp.MustCompile(`\s-([a-z]+\.[a-z]+)\b`)
	n := 0
	for doc, s := range documents(t) {
		for _, m := range double.FindAllStringSubmatchIndex(s, -1) {
			f := s[m[2]:m[3]]
			if n++; !others[f] && !strings.Contains(own.String(), `"`+f+`"`) {
				t.Errorf("%s:%d: noyau has no flag --%s", doc, line(s, m[0]), f)
			}
		}
		for _, m := range dotted.FindAllStringSubmatchIndex(s, -1) {
			f := s[m[2]:m[3]]
			if n++; !strings.Contains(tests.String(), `"`+f+`"`) {
				t.Errorf("%s:%d: no test has a flag -%s", doc, line(s, m[0]), f)
			}
		}
		for i, l := range strings.Split(s, "\n") {
			_, args, ok := strings.Cut(l, "./bench ")
			if !ok {
				continue
			}
			args, _, _ = strings.Cut(args, "`")
			for _, f := range strings.Fields(args) {
				if strings.HasPrefix(f, "-") && !strings.Contains(bench.String(), `"`+strings.TrimLeft(f, "-")+`"`) {
					t.Errorf("%s:%d: bench has no flag %s", doc, i+1, f)
				}
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d flags are named: is the pattern right?", n)
	}
}

// TestNamedCommands: `noyau X` is a command.
func TestNamedCommands(t *testing.T) {
	known := map[string]bool{"completion": true, "help": true}
	for _, m := range regexp.MustCompile(`\{"([a-z-]+)", "[a-z]*", (?:new|func)`).FindAllStringSubmatch(sources(t, "cmd/noyau", "main.go")["cmd/noyau/main.go"], -1) {
		known[m[1]] = true
	}
	if !known["run"] || !known["version"] {
		t.Fatalf("commands found: %v", slices.Sorted(maps.Keys(known)))
	}
	named := regexp.MustCompile("(?m)(?:`|^ +\\$ |^ {4})noyau ([a-z-]+)")
	for doc, s := range documents(t) {
		for _, m := range named.FindAllStringSubmatchIndex(s, -1) {
			if c := s[m[2]:m[3]]; !known[c] {
				t.Errorf("%s:%d: noyau has no command %s", doc, line(s, m[0]), c)
			}
		}
	}
	said := documents(t)["docs/CLI.md"]
	for c := range known {
		if hidden := c == "monitor" || c == "test-exec" || c == "help"; !hidden && !strings.Contains(said, "`"+c) {
			t.Errorf("docs/CLI.md does not name the command %s", c)
		}
	}
}

// TestABIPage: docs/ABI.md has the versions, and every message, event and record of package abi.
func TestABIPage(t *testing.T) {
	s := documents(t)["docs/ABI.md"]
	if want := fmt.Sprintf("Version %d:", abi.Version); !strings.Contains(s, want) {
		t.Errorf("it does not say %q", want)
	}
	if want := fmt.Sprintf("| 8 | version u32 | %d |", abi.Version); !strings.Contains(s, want) {
		t.Errorf("it does not say %q of the boot block", want)
	}
	rows := map[int]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(s, -1) {
		n, _ := strconv.Atoi(m[1])
		rows[n] = true
	}
	constant := regexp.MustCompile(`(?m)^(?:\t|const )(Op|Ev|Rec)([A-Z]\w*) +(?:uint\d+ +)?= (\d+)`)
	n := 0
	for file, src := range sources(t, "abi", ".go") {
		for _, m := range constant.FindAllStringSubmatch(src, -1) {
			v, _ := strconv.Atoi(m[3])
			n++
			if m[1] == "Ev" && !strings.Contains(s, fmt.Sprintf("**%d** ", v)) || m[1] != "Ev" && !rows[v] {
				t.Errorf("%s: it has no %s%s, which is %d", file, m[1], m[2], v)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d numbers found in package abi: is the pattern right?", n)
	}
}

// TestTables: no table is torn by an empty line.
func TestTables(t *testing.T) {
	for doc, s := range documents(t) {
		lines := strings.Split(s, "\n")
		row := func(i int) bool { return i >= 0 && i < len(lines) && strings.HasPrefix(lines[i], "|") }
		for i := range lines {
			if row(i) && !row(i-1) && !(row(i+1) && strings.HasPrefix(lines[i+1], "| ---")) {
				t.Errorf("%s:%d: a row without a head", doc, i+1)
			}
		}
	}
}
