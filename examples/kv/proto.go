package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxLine bounds a request, in bytes.
const maxLine = 1 << 20

// Serve answers the requests of one client until it leaves.
func Serve(c io.ReadWriter, s *Store) {
	in := bufio.NewScanner(c)
	in.Buffer(nil, maxLine)
	out := bufio.NewWriter(c)
	for in.Scan() {
		fmt.Fprintln(out, answer(s, in.Text()))
		if out.Flush() != nil {
			return
		}
	}
	if in.Err() == bufio.ErrTooLong {
		fmt.Fprintf(out, "ERROR a request has at most %d bytes\n", maxLine)
		out.Flush()
	}
}

// answer is the reply to one request.
func answer(s *Store, line string) string {
	verb, rest, _ := strings.Cut(strings.TrimRight(line, "\r"), " ")
	key, value, hasValue := strings.Cut(rest, " ")
	if verb != "COUNT" && key == "" {
		return "ERROR want SET key value, GET key, DEL key or COUNT"
	}
	switch verb {
	case "SET":
		if !hasValue {
			return "ERROR SET needs a value"
		}
		if err := s.Set(key, value); err != nil {
			return "ERROR " + err.Error()
		}
		return "OK"
	case "GET":
		value, ok, err := s.Get(key)
		switch {
		case err != nil:
			return "ERROR " + err.Error()
		case !ok:
			return "NONE"
		}
		return "VALUE " + value
	case "DEL":
		ok, err := s.Delete(key)
		switch {
		case err != nil:
			return "ERROR " + err.Error()
		case !ok:
			return "NONE"
		}
		return "OK"
	case "COUNT":
		n, err := s.Count()
		if err != nil {
			return "ERROR " + err.Error()
		}
		return fmt.Sprint("COUNT ", n)
	}
	return fmt.Sprintf("ERROR %q is not known", verb)
}
