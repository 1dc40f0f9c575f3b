// Command tally reads the output of go test -json, prints what a reader needs
// of it (packages, failures with their output, skips with their reason), and
// keeps count.
//
//	go test -json ./... | tally -to counts      count; exit 1 if anything failed
//	tally -to counts -pass NAME                 count a step that is no go test
//	tally -to counts -fail NAME
//	tally -to counts -skip NAME
//	tally -sum counts                           print "N passed, N failed, N skipped"
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
	// Only in events of builds.
	ImportPath string
}

type counts struct{ passed, failed, skipped int }

func main() {
	to := flag.String("to", "", "add the counts to this `file`")
	pass := flag.String("pass", "", "count a step that passed")
	fail := flag.String("fail", "", "count a step that failed")
	skip := flag.String("skip", "", "count a step that was skipped")
	sum := flag.String("sum", "", "print the sum of this `file`")
	flag.Parse()
	if *sum != "" {
		c, err := add(*sum)
		check(err)
		fmt.Printf("%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
		if c.failed > 0 || c.passed == 0 {
			os.Exit(1)
		}
		return
	}
	var c counts
	switch {
	case *pass != "":
		c.passed = 1
		fmt.Println("ok  \t" + *pass)
	case *fail != "":
		c.failed = 1
		fmt.Println("FAIL\t" + *fail)
	case *skip != "":
		c.skipped = 1
		fmt.Println("SKIP\t" + *skip)
	default:
		var err error
		c, err = read(os.Stdin, os.Stdout)
		check(err)
	}
	f, err := os.OpenFile(*to, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	check(err)
	_, err = fmt.Fprintln(f, c.passed, c.failed, c.skipped)
	check(err)
	check(f.Close())
	if c.failed > 0 {
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

// add sums up the lines of a file.
func add(file string) (sum counts, err error) {
	f, err := os.Open(file)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	for {
		var c counts
		n, err := fmt.Fscanln(f, &c.passed, &c.failed, &c.skipped)
		if n == 0 && err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, fmt.Errorf("%s: %w", file, err)
		}
		sum.passed += c.passed
		sum.failed += c.failed
		sum.skipped += c.skipped
	}
}

// read counts the tests in a stream of events.
func read(in io.Reader, out io.Writer) (counts, error) {
	var c counts
	output := map[string]*strings.Builder{} // of tests and packages under way
	failedIn := map[string]int{}            // package -> failed tests
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
				io.WriteString(out, line) // go's own words, such as downloads
			} else {
				e.count(&c, output, failedIn, out)
			}
		}
		if err == io.EOF {
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
}

func (e *event) count(c *counts, output map[string]*strings.Builder, failedIn map[string]int, out io.Writer) {
	key := e.Package + "\n" + e.Test
	switch e.Action {
	case "output":
		if output[key] == nil {
			output[key] = &strings.Builder{}
		}
		output[key].WriteString(e.Output)
		return
	case "build-output":
		io.WriteString(out, e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	said := ""
	if output[key] != nil {
		said = output[key].String()
		delete(output, key)
	}
	switch {
	case e.Action == "fail" && e.Test != "":
		c.failed++
		failedIn[e.Package]++
		fmt.Fprintf(out, "--- FAIL: %s %s (%.2fs)\n%s", e.Package, e.Test, e.Elapsed, said)
	case e.Action == "fail":
		if failedIn[e.Package] == 0 { // it did not build, ended, or hung
			c.failed++
		}
		fmt.Fprintf(out, "%sFAIL\t%s\t%.3fs\n", cut(said), e.Package, e.Elapsed)
		// What was under way says where.
		for k, v := range output {
			if p, test, _ := strings.Cut(k, "\n"); p == e.Package {
				fmt.Fprintf(out, "--- under way: %s\n%s", test, v)
				delete(output, k)
			}
		}
	case e.Action == "skip" && e.Test != "":
		c.skipped++
		fmt.Fprintf(out, "--- SKIP: %s %s\n%s", e.Package, e.Test, said)
	case e.Action == "pass" && e.Test != "":
		c.passed++
	case e.Action == "pass":
		fmt.Fprintf(out, "ok  \t%s\t%.3fs\n", e.Package, e.Elapsed)
	}
}

// cut leaves the end of long output.
func cut(s string) string {
	const most = 64 << 10
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}
