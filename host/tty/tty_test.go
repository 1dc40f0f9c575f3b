package tty_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/host/tty"
	"noyau.dev/host/tty/ttytest"
)

func TestState(t *testing.T) {
	_, f := ttytest.Open(t)
	s, err := tty.Get(f)
	if err != nil {
		t.Fatal(err)
	}
	b := s.Append(nil)
	if len(b) != tty.Size {
		t.Fatalf("%d bytes; want %d", len(b), tty.Size)
	}
	if again, ok := tty.Take(b); !ok || again != s {
		t.Error("does not read back what it writes")
	}
	for _, bad := range [][]byte{nil, b[:35], append(b[:36:36], 0)} {
		if _, ok := tty.Take(bad); ok {
			t.Errorf("%d bytes are taken", len(bad))
		}
	}
	b[12] &^= unix.ECHO // the local flags are the fourth word
	quiet, _ := tty.Take(b)
	if err := quiet.Set(f, unix.TCSETS); err != nil {
		t.Fatal(err)
	}
	if now, _ := tty.Get(f); now == s || now != quiet {
		t.Error("the settings did not change")
	}
	null, _ := os.Open(os.DevNull)
	defer null.Close()
	if _, err := tty.Get(null); err != unix.ENOTTY {
		t.Errorf("settings of /dev/null: %v", err)
	}
	if _, _, err := tty.WindowSize(f); err != nil {
		t.Error(err)
	}
}
