// Package cases is what the guests of the tests share: programs that do one of several
// things. It is linked into images and imports the standard library only.
package cases

import (
	"fmt"
	"os"
	"path/filepath"
)

// Run does what the first argument names, with the arguments after it. Without arguments
// the name of the program counts.
func Run(cases map[string]func(args []string)) {
	name := filepath.Base(os.Args[0])
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	f := cases[name]
	if f == nil {
		Die("no case", os.Args)
	}
	f(os.Args[min(2, len(os.Args)):])
}

// Die says why on standard error and exits with code 99.
func Die(v ...any) {
	fmt.Fprintln(os.Stderr, v...)
	os.Exit(99)
}

// Must panics if there is an error.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}

// Check panics with v if not ok.
func Check(ok bool, v ...any) {
	if !ok {
		panic(fmt.Sprintln(v...))
	}
}
