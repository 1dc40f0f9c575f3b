package main

import (
	"strings"
	"testing"

	"noyau.dev/examples/internal/try"
)

func TestHello(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "Hello, world! "},
		{[]string{"Noyau"}, "Hello, Noyau! "},
	} {
		out, code := try.Output(t, try.Options{Args: c.args})
		if !strings.HasPrefix(out, c.want) || strings.Count(out, "\n") != 1 || code != 0 {
			t.Errorf("hello %q printed %q and ended with %d, want one line that begins with %q, and 0", c.args, out, code, c.want)
		}
	}
}

func TestMain(m *testing.M) { try.Main(m) }
