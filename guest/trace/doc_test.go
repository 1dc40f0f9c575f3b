package trace

import (
	"os"
	"regexp"
	"strings"
	"testing"

	_ "noyau.dev/guest/fs"
	"noyau.dev/guest/kernel"
	_ "noyau.dev/guest/mem"
	_ "noyau.dev/guest/sock"
	_ "noyau.dev/guest/volume"
)

// TestDocument compares docs/SYSCALLS.md with what the bricks register.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/SYSCALLS.md")
	if err != nil {
		t.Skip("the document is not beside the sources:", err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllSubmatch(doc, -1) {
		named[string(m[1])] = true
	}
	for nr := range 450 {
		name, _, _ := strings.Cut(word(calls, nr), ":")
		if name == "" {
			continue
		}
		if answered := kernel.Registered(nr) != nil; answered != named[name] {
			t.Errorf("%s: answered %v, in the document %v", name, answered, named[name])
		}
	}
}
