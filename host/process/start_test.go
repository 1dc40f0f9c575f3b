package process

import "testing"

// start launches a guest and waits for it.
func start(t testing.TB, c *code, s Spec) Status {
	t.Helper()
	s.Image = c.file(t)
	if s.Files == nil {
		s.Files = testFiles(t)
	}
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := p.Wait()
	return st
}

func TestExitCode(t *testing.T) {
	for _, n := range []int{0, 1, 42, 255} {
		if st := start(t, new(code).exit(uint64(n)), Spec{}); st != (Status{Code: n}) {
			t.Errorf("exit code %d: got %+v", n, st)
		}
	}
}

func TestReport(t *testing.T) {
	p, err := Start(Spec{Image: new(code).exit(0).file(t), Files: testFiles(t)})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	for _, s := range p.Sandbox().InForce {
		t.Log("in force:", s)
	}
	for _, s := range p.Sandbox().Missing {
		t.Log("missing:", s)
	}
}
