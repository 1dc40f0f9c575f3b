package build

import (
	"fmt"
	"strconv"
	"strings"
)

// An edit replaces an exact text of a standard library file. The old text is the
// anchor: it must occur exactly count times, or the file is not the one that the
// patch was written for.
type edit struct {
	old, new string
	count    int
}

// parseEdits reads an .edit file: free text, then any number of
//
//	<<<<            (or "<<<< all N": N occurrences, all replaced;
//	                or "<<<< within N": likewise, of a part of a line)
//	old lines
//	====
//	new lines
//	>>>>
//
// Free text between edits says why.
func parseEdits(text string) ([]edit, error) {
	var edits []edit
	var cur *edit
	var buf strings.Builder
	const (
		outside = iota
		inOld
		inNew
	)
	state, within := outside, false
	for i, line := range strings.SplitAfter(text, "\n") {
		word := strings.TrimRight(line, "\n")
		switch {
		case state == outside && strings.HasPrefix(word, "<<<<"):
			cur = &edit{count: 1}
			within = false
			if arg := strings.Fields(word[4:]); len(arg) > 0 {
				n, err := strconv.Atoi(arg[len(arg)-1])
				within = arg[0] == "within"
				if err != nil || n < 1 || len(arg) != 2 || arg[0] != "all" && !within {
					return nil, fmt.Errorf("line %d: want <<<<, <<<< all N or <<<< within N, found %q", i+1, word)
				}
				cur.count = n
			}
			state = inOld
		case state == inOld && word == "====":
			cur.old = buf.String()
			buf.Reset()
			state = inNew
		case state == inNew && word == ">>>>":
			cur.new = buf.String()
			buf.Reset()
			if cur.old == "" {
				return nil, fmt.Errorf("line %d: an edit without old text", i+1)
			}
			if within {
				cur.old, cur.new = strings.TrimSuffix(cur.old, "\n"), strings.TrimSuffix(cur.new, "\n")
			}
			edits = append(edits, *cur)
			state = outside
		case state != outside:
			buf.WriteString(line)
		}
	}
	if state != outside {
		return nil, fmt.Errorf("the last edit has no >>>>")
	}
	return edits, nil
}

// apply makes the edits in order and returns an error that quotes the first anchor
// that does not fit.
func apply(src string, edits []edit) (string, error) {
	for _, e := range edits {
		if n := strings.Count(src, e.old); n != e.count {
			first, _, _ := strings.Cut(strings.TrimSpace(e.old), "\n")
			return "", fmt.Errorf("anchor %q occurs %d times, want %d", first, n, e.count)
		}
		src = strings.ReplaceAll(src, e.old, e.new)
	}
	return src, nil
}
