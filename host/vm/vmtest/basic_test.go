package vmtest

import (
	"os"
	"testing"

	"noyau.dev/host/vm/runner"
)

func TestMain(m *testing.M) {
	if runner.Wanted() {
		runner.Main()
	}
	os.Exit(m.Run())
}

// run runs a guest and fails the test if the runner itself went wrong.
func run(t *testing.T, a *Asm, data []byte, o Options) *Result {
	t.Helper()
	return runELF(t, ELF(a, data), o)
}

// runELF is run for an image.
func runELF(t *testing.T, elf []byte, o Options) *Result {
	t.Helper()
	if why := Available(); why != "" {
		t.Skip(why)
	}
	r, err := Run(elf, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code == 125 {
		t.Fatalf("the runner failed: %s", r.Err)
	}
	return r
}

func TestExitCode(t *testing.T) {
	for _, code := range []uint64{0, 1, 42, 255} {
		r := run(t, NewAsm().Exit(code), nil, Options{})
		if r.Code != int(code) || len(r.Err) != 0 {
			t.Errorf("exit_group(%d): code %d, stderr %q", code, r.Code, r.Err)
		}
	}
}

func TestPrint(t *testing.T) {
	r := run(t, NewAsm().Print(Data, 6).Exit(0), []byte("hello\n"), Options{})
	if string(r.Out) != "hello\n" || r.Code != 0 {
		t.Errorf("out %q, code %d, stderr %q", r.Out, r.Code, r.Err)
	}
}
