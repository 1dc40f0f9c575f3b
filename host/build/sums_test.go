package build

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

var addSums = flag.Bool("addsums", false, "print the sums lines for the installed Go release")

// TestSums prints the hashes of all files that the patch set touches, for
// runtime/goX.Y/sums: go test ./host/build -run TestSums -addsums
func TestSums(t *testing.T) {
	if !*addSums {
		t.Skip("only a tool: run with -addsums to print the hashes of the installed Go release")
	}
	out, err := exec.Command("go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(out))
	ps, err := loadPatches(f[1])
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for n := range ps.edits {
		names = append(names, n)
	}
	for n := range ps.drop {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		data, err := os.ReadFile(filepath.Join(f[0], "src", n))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%x %s %s\n", sha256.Sum256(data), n, f[1])
	}
}
