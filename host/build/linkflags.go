package build

import "strings"

// segmentAlign makes the linker begin each segment at a multiple of 2 MiB. Page table
// entries of that size, of which a virtual machine needs few, then hold nothing
// but text or nothing but read-only data, and the latter is never executable. The
// file does not get larger: see image.Compact.
const segmentAlign = "-R=0x200000"

// linkFlags is a -ldflags flag of value v, with ours before the user's.
func linkFlags(v string) string {
	v = strings.TrimSpace(v)
	pattern := ""
	if v != "" && v[0] != '-' {
		if p, rest, ok := strings.Cut(v, "="); ok {
			pattern, v = p+"=", rest
		} else {
			return "-ldflags=" + v // the go command says what is wrong
		}
	}
	return "-ldflags=" + strings.TrimSpace(pattern+segmentAlign+" "+v)
}

// flagValue is the value of flag if it is -name=value.
func flagValue(flag, name string) (string, bool) {
	v, ok := strings.CutPrefix(flag, "-")
	if !ok {
		return "", false
	}
	return strings.CutPrefix(strings.TrimPrefix(v, "-"), name+"=")
}

// splitQuoted splits at spaces as the go command does with GOFLAGS: a word that begins
// with a quotation mark ends with the next one.
func splitQuoted(s string) []string {
	var out []string
	for s = strings.TrimLeft(s, " \t\r\n"); s != ""; s = strings.TrimLeft(s, " \t\r\n") {
		if s[0] == '\'' || s[0] == '"' {
			if word, rest, ok := strings.Cut(s[1:], s[:1]); ok {
				out, s = append(out, word), rest
				continue
			}
		}
		n := strings.IndexAny(s, " \t\r\n")
		if n < 0 {
			n = len(s)
		}
		out, s = append(out, s[:n]), s[n:]
	}
	return out
}
