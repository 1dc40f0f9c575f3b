// Package layers holds the directions in which packages of this module may
// import each other: see docs/ARCHITECTURE.md.
package layers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// belowSyscall is what package syscall itself may import, and so the library OS.
var belowSyscall = map[string]bool{
	"bytes": true, "cmp": true, "errors": true, "io": true, "iter": true, "math": true, "math/bits": true,
	"slices": true, "sort": true, "strconv": true, "strings": true, "sync": true, "sync/atomic": true,
	"unicode": true, "unicode/utf8": true, "unsafe": true, "maps": true, "runtime": true,
}

// imports returns the direct imports of each package of this module, as the images
// are built: with the tag noyau for guest packages.
func imports(t *testing.T, tags, pattern string) map[string][]string {
	out, err := exec.Command("go", "list", "-tags", tags, "-f", "{{.ImportPath}} {{join .Imports \" \"}}", pattern).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pattern, err)
	}
	m := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.Fields(line)
		m[f[0]] = f[1:]
	}
	if len(m) == 0 {
		t.Fatalf("go list %s lists nothing", pattern)
	}
	return m
}

func ours(path, dir string) bool {
	return path == "noyau.dev/"+dir || strings.HasPrefix(path, "noyau.dev/"+dir+"/")
}

func TestABIImportsNothing(t *testing.T) {
	for pkg, deps := range imports(t, "noyau", "noyau.dev/abi/...") {
		for _, d := range deps {
			t.Errorf("%s imports %s; abi is data and imports nothing", pkg, d)
		}
	}
}

func TestGuestLiesBelowSyscall(t *testing.T) {
	for pkg, deps := range imports(t, "noyau", "noyau.dev/guest/...") {
		if ours(pkg, "guest/guesttest") {
			continue // helpers of the native tests: never in an image
		}
		for _, d := range deps {
			if !belowSyscall[d] && !ours(d, "guest") && !ours(d, "abi") || ours(d, "guest/guesttest") {
				t.Errorf("%s imports %s: not possible below package syscall, or not the guest's", pkg, d)
			}
		}
	}
}

func TestHostAndGuestAreStrangers(t *testing.T) {
	for _, pattern := range []string{"noyau.dev/host/...", "noyau.dev/cmd/..."} {
		for pkg, deps := range imports(t, "", pattern) {
			for _, d := range deps {
				if ours(d, "guest") || d == "noyau.dev/pvm" {
					t.Errorf("%s imports %s: host code never imports guest code", pkg, d)
				}
				if ours(pkg, "host") && ours(d, "cmd") {
					t.Errorf("%s imports %s: the library must not need the command", pkg, d)
				}
			}
		}
	}
}

// TestCommandIsSmall: what is slow to load is not in every command, see docs/RATIONALE.md.
func TestCommandIsSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "noyau.dev/cmd/noyau").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		switch p {
		case "net/http", "crypto/tls", "html/template", "encoding/xml":
			t.Errorf("the noyau command is linked with %s", p)
		}
	}
}

// TestParkFunctions: a goroutine of the runtime's own files puts itself where others find and wake it
// in the function that gopark calls when it has stopped. Until then it may be preempted,
// and who wakes it would find one that does not wait.
func TestParkFunctions(t *testing.T) {
	files, err := filepath.Glob("../../runtime/*/_src/runtime/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "gopark(nil,") {
			t.Errorf("%s parks without a function", f)
		}
	}
}
