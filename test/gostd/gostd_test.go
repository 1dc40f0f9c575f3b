// Package gostd runs the Go standard library's own tests natively and as pVMs and
// wants the same result, test by test. The differences that are meant are in
// differences.txt, each with its reason.
package gostd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"
)

var (
	which     = flag.String("gostd", "", `which packages: "quick", "all" or a comma-separated list; empty runs none`)
	isolation = flag.String("gostd.isolation", "process", "isolation of the pVMs: process or vm")
	noyauPath = flag.String("gostd.noyau", "", "noyau command to use; empty builds it")
)

// result of one test, as go test -json has it: pass, fail or skip.
type result struct {
	action string
	output []string
}

func TestStandardLibrary(t *testing.T) {
	if *which == "" {
		t.Skip("slow: builds and runs the standard library's tests twice; run with -gostd quick or -gostd all")
	}
	noyau := *noyauPath
	if noyau == "" {
		noyau = filepath.Join(t.TempDir(), "noyau")
		if out, err := exec.Command("go", "build", "-o", noyau, "noyau.dev/cmd/noyau").CombinedOutput(); err != nil {
			t.Fatalf("build noyau: %v\n%s", err, out)
		}
	}
	allowed := readDifferences(t)
	for _, pkg := range packages(t) {
		t.Run(pkg, func(t *testing.T) {
			native := goTest(t, "go", "test", "-short", "-json", pkg)
			pvm := goTest(t, noyau, "test", "--isolation", *isolation, "-short", "-json", pkg)
			compare(t, pkg, native, pvm, allowed)
		})
	}
}

// compare fails t for each test whose result differs without being allowed to.
func compare(t *testing.T, pkg string, native, pvm map[string]result, allowed map[string]string) {
	if len(native) == 0 {
		t.Fatalf("no native results")
	}
	for _, d := range differences(pkg, native, pvm, allowed) {
		t.Error(d)
	}
	t.Logf("%s: %d native results", pkg, len(native))
}

// differences describes the results that differ without being listed.
func differences(pkg string, native, pvm map[string]result, allowed map[string]string) []string {
	parents := map[string]bool{} // what may fail only since a listed part of it does
	for name := range native {
		if why(allowed, pkg, name) != "" {
			for p := name; strings.Contains(p, "/"); {
				p = p[:strings.LastIndexByte(p, '/')]
				parents[p] = true
			}
			parents[""] = true
		}
	}
	var out []string
	for name, n := range native {
		p, ok := pvm[name]
		if !ok || p.action == "" {
			p.action = "absent"
		}
		if p.action != n.action && why(allowed, pkg, name) == "" && !(parents[name] && p.action == "fail") {
			out = append(out, fmt.Sprintf("%s %s: natively %s, as a pVM %s\n%s", pkg, name, n.action, p.action, strings.Join(p.output, "")))
		}
	}
	for name, p := range pvm {
		if _, ok := native[name]; !ok && p.action == "fail" && why(allowed, pkg, name) == "" {
			out = append(out, fmt.Sprintf("%s %s: absent natively, as a pVM fail\n%s", pkg, name, strings.Join(p.output, "")))
		}
	}
	sort.Strings(out)
	return out
}

// why returns the reason listed for a test or one of its parents.
func why(allowed map[string]string, pkg, name string) string {
	for {
		if r, ok := allowed[pkg+" "+name]; ok && name != "" {
			return r
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return ""
		}
		name = name[:i]
	}
}

// addresses in names of tests differ from run to run.
var addresses = regexp.MustCompile(`0x[0-9a-f]{6,}`)

// goTest runs a go test -json command and returns the results by test name; ""
// is the package as a whole.
func goTest(t *testing.T, argv ...string) map[string]result {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // natively too: images have no cgo
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		t.Fatalf("%v: %v\n%s", argv, err, stderr.Bytes())
	}
	results := map[string]result{}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		var ev struct{ Action, Test, Output string }
		if json.Unmarshal(sc.Bytes(), &ev) != nil {
			continue
		}
		name := addresses.ReplaceAllString(ev.Test, "0xADDR")
		r := results[name]
		switch ev.Action {
		case "output":
			if len(r.output) < 200 {
				r.output = append(r.output, ev.Output)
			}
		case "pass", "fail", "skip":
			r.action = ev.Action
		}
		results[name] = r
	}
	return results
}

func packages(t *testing.T) []string {
	if *which != "quick" && *which != "all" {
		return strings.Split(*which, ",")
	}
	var out []string
	for _, f := range readFields(t, "packages.txt") {
		if *which == "all" || f[0] == "quick" {
			out = append(out, f[1])
		}
	}
	return out
}

// readDifferences reads differences.txt: package, test, reason.
func readDifferences(t *testing.T) map[string]string {
	out := map[string]string{}
	for i, f := range readFields(t, "differences.txt") {
		if len(f) < 3 {
			t.Fatalf("differences.txt: entry %d has no reason: %v", i+1, f)
		}
		out[f[0]+" "+f[1]] = strings.Join(f[2:], " ")
	}
	return out
}

func readFields(t *testing.T, name string) [][]string {
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			out = append(out, f)
		}
	}
	return out
}

// TestCompare shows that a difference that is not listed is found.
func TestCompare(t *testing.T) {
	native := map[string]result{"": {action: "pass"}, "TestA": {action: "pass"}, "TestB": {action: "pass"}}
	for _, c := range []struct {
		name    string
		pvm     map[string]result
		allowed map[string]string
		bad     bool
	}{
		{"same", native, nil, false},
		{"fails", map[string]result{"": {action: "fail"}, "TestA": {action: "fail"}, "TestB": {action: "pass"}}, nil, true},
		{"listed", map[string]result{"": {action: "fail"}, "TestA": {action: "fail"}, "TestB": {action: "pass"}}, map[string]string{"p TestA": "why"}, false},
		{"absent", map[string]result{"": {action: "pass"}, "TestA": {action: "pass"}}, nil, true},
	} {
		if found := differences("p", native, c.pvm, c.allowed); (len(found) > 0) != c.bad {
			t.Errorf("%s: found %q", c.name, found)
		}
	}
}
