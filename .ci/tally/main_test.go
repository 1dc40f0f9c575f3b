package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     counts
		says     []string
	}{
		{"nothing", "", counts{}, nil},
		{"pass, skip, fail", `{"Action":"output","Package":"p","Test":"A","Output":"fine\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"B","Output":"no kvm\n"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"output","Package":"p","Test":"C","Output":"wrong\n"}
{"Action":"fail","Package":"p","Test":"C"}
{"Action":"fail","Package":"p"}
`, counts{1, 1, 1}, []string{"no kvm", "wrong", "FAIL\tp"}},
		{"does not build", `{"ImportPath":"q","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"q","Action":"build-fail"}
{"Action":"fail","Package":"q"}
`, counts{0, 1, 0}, []string{"undefined: x", "FAIL\tq"}},
		{"panics", `{"Action":"output","Package":"p","Test":"A","Output":"half\n"}
{"Action":"output","Package":"p","Output":"panic: x\n"}
{"Action":"fail","Package":"p"}
`, counts{0, 1, 0}, []string{"panic: x", "under way: A", "half"}},
		{"without tests", `{"Action":"skip","Package":"p"}
`, counts{}, nil},
		{"words of go", "go: downloading x\n", counts{}, []string{"downloading"}},
	} {
		var out strings.Builder
		got, err := read(strings.NewReader(c.in), &out)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
		for _, s := range c.says {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%s: printed %q, which lacks %q", c.name, out.String(), s)
			}
		}
	}
}

func TestAdd(t *testing.T) {
	f := filepath.Join(t.TempDir(), "c")
	os.WriteFile(f, []byte("1 2 3\n10 20 30\n"), 0o644)
	if got, err := add(f); err != nil || got != (counts{11, 22, 33}) {
		t.Errorf("%+v, %v", got, err)
	}
	os.WriteFile(f, []byte("1 2\n"), 0o644)
	if _, err := add(f); err == nil {
		t.Error("a damaged file is taken for a sum")
	}
}
