package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"noyau.dev/examples/internal/try"
)

func TestMain(m *testing.M) { try.Main(m) }

// words is the count in another way than the program's.
func words(text string) counts {
	c := counts{}
	for _, w := range strings.FieldsFunc(text, func(r rune) bool { return r < 0x80 && !letter(byte(r)) }) {
		c[w]++
	}
	return c
}

// TestWords: whatever the number of workers, no word is lost or counted twice.
func TestWords(t *testing.T) {
	want := words(string(invent(4 << 20)))
	all, most := 0, ""
	for w, n := range want {
		all += n
		if n > want[most] || n == want[most] && w < most {
			most = w
		}
	}
	begin := fmt.Sprintf("%d words, %d different\n%d %s\n", all, len(want), want[most], most)
	for _, workers := range []string{"1", "2", "7"} {
		out, code := try.Output(t, try.Options{Args: []string{"-mb", "4", "-workers", workers}})
		if code != 0 || !strings.HasPrefix(out, begin) || strings.Count(out, "\n") != 11 {
			t.Errorf("%s workers: exit code %d, %q; want a beginning of %q", workers, code, out, begin)
		}
	}
}

// TestFile: text of a file.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("one, two; two: three three three été"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "text")
	o := try.Options{Args: []string{"-workers", "3", file}, Run: []string{"-v", dir + ":" + dir}}
	want := "7 words, 4 different\n3 three\n2 two\n1 one\n1 été\n"
	if out, code := try.Output(t, o); code != 0 || out != want {
		t.Errorf("exit code %d, %q, want %q", code, out, want)
	}
}

// TestMessages: what is encoded is what is decoded; what makes no sense is refused.
func TestMessages(t *testing.T) {
	want := words(string(invent(100 << 10)))
	got := counts{}
	var one []byte
	n := 0
	if err := want.encode(1000, func(m []byte) error {
		if len(m) > 1000 {
			t.Errorf("a message of %d bytes", len(m))
		}
		n++
		one = slices.Clone(m)
		return got.decode(m)
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || n < 2 {
		t.Fatalf("%d words in %d messages, want %d", len(got), n, len(want))
	}
	for w := range want {
		if got[w] != want[w] {
			t.Errorf("%q: %d, want %d", w, got[w], want[w])
		}
	}
	if err := (counts{}).decode(one[:len(one)-1]); err == nil {
		t.Error("a message that was cut is taken")
	}
	if err := (counts{"long": 1, strings.Repeat("x", 2000): 1}).encode(1000, func([]byte) error { return nil }); err == nil {
		t.Error("a word longer than a message is taken")
	}
}
