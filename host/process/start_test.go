package process

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"os"
	"testing"
)

// start launches a guest and waits for it.
func start(t testing.TB, c *code, s Spec) Status {
	t.Helper()
	s.Image = c.file(t)
	defer s.Image.Close()
	defer os.Remove(s.Image.Name())
	if s.Files == nil {
		s.Files = testFiles(t)
		defer closeAll(s.Files)
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

func closeAll(list []*os.File) {
	for _, f := range list {
		f.Close()
	}
}

// spin is an endless loop.
func (c *code) spin() *code { return c.raw(0xeb, 0xfe) }

// The tick interrupts a loop that makes no call; before the image has a handler
// it is ignored.
func TestTick(t *testing.T) {
	// Code before the table: rt_sigaction(SIGPROF, table); spin. Handler: exit(7).
	build := func(table, handler uint64) (c, h *code) {
		c = new(code).sys(unix.SYS_RT_SIGACTION, uint64(unix.SIGPROF), table, 0, 8).spin()
		return c, new(code).exit(7)
	}
	const text = guestBase + 64 + 2*56
	c, h := build(0, 0)
	table := uint64(text + c.Len() + h.Len())
	handler := uint64(text + c.Len())
	c, h = build(table, handler)
	c.Write(h.Bytes())
	for _, v := range []uint64{handler, 0x04000000, handler, 0} { // SA_RESTORER
		binary.Write(c, binary.LittleEndian, v)
	}
	if st := start(t, c, Spec{Tick: 5 * time.Millisecond}); st != (Status{Code: 7}) {
		t.Errorf("got %+v, want the exit code of the handler", st)
	}
}

func TestTickIsIgnoredAtFirst(t *testing.T) {
	// 2^28 rounds of a loop take many ticks.
	loop := new(code).raw(0xb9, 0, 0, 0, 0x10, 0xff, 0xc9, 0x75, 0xfc).exit(survived)
	if st := start(t, loop, Spec{Tick: time.Millisecond}); st != (Status{Code: survived}) {
		t.Errorf("got %+v", st)
	}
}

func TestErrors(t *testing.T) {
	image := new(code).exit(0).file(t)
	files := testFiles(t)
	text := imageFile(t, []byte("no program"), 0o755)
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{"no image", Spec{Files: files}, "process: no image"},
		{"a directory", Spec{Image: dir}, "process: the image is no regular file"},
		{"not a program", Spec{Image: text, Files: files}, "process: execveat: exec format error"},
		{"a hole", Spec{Image: image, Files: []*os.File{files[0], nil}}, "process: no file for descriptor 1"},
		{"zero byte", Spec{Image: image, Args: []string{"a\x00b"}}, `process: "a\x00b" has a zero byte: not possible in arguments and environment`},
		{"few handles", Spec{Image: image, Files: files, Handles: 6}, "process: a limit of 6 open descriptors, at least 8 are needed"},
		{"many files", Spec{Image: image, Files: make([]*os.File, 40)}, "process: 40 files for an image, at most 28 are possible"},
		{"long arguments", Spec{Image: image, Files: files, Args: []string{strings.Repeat("x", 1<<20)}}, "process: execveat: argument list too long"},
		{"bad group", Spec{Image: image, Files: files, Memory: 1 << 20, Cgroup: "../x"}, `process: "../x" is no name for a control group`},
	}
	before := 0
	for round := range 2 {
		for _, tt := range tests {
			p, err := Start(tt.spec)
			if err == nil {
				p.Kill()
				p.Wait()
				t.Errorf("%s: no error", tt.name)
			} else if err.Error() != tt.want {
				t.Errorf("%s: error %q, want %q", tt.name, err, tt.want)
			}
		}
		if round == 0 {
			before = openFiles(t)
		}
	}
	if now := openFiles(t); now != before {
		t.Errorf("failed launches leave %d descriptors", now-before)
	}
	if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err != unix.ECHILD {
		t.Errorf("failed launches leave children: %v", err)
	}
}

// An image that only its owner may execute runs from a sealed copy if the launch
// gives up being that owner.
func TestPrivateImage(t *testing.T) {
	image := imageFile(t, new(code).exit(survived).elf(), 0o700)
	p, err := Start(Spec{Image: image, Files: testFiles(t)})
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := p.Wait(); st.Code != survived {
		t.Errorf("got %+v", st)
	}
}

func TestManyAtOnce(t *testing.T) {
	image := new(code).exit(survived).file(t)
	files := testFiles(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				p, err := Start(Spec{Image: image, Files: files})
				if err != nil {
					t.Error(err)
					return
				}
				if st, _ := p.Wait(); st != (Status{Code: survived}) {
					t.Errorf("got %+v", st)
				}
			}
		})
	}
	wg.Wait()
}

// A machine may refuse any part of the isolation. What is left still works, and
// the report says what is missing.
func TestFallbacks(t *testing.T) {
	whole, err := theJail()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(j *jail)
		want   string // in Report.Missing
	}{
		{"no clone3", func(j *jail) { j.clone3 = false }, ""},
		{"no pid namespace", func(j *jail) { j.pidNS = false }, ""},
		{"no mount namespace", func(j *jail) { j.spaces = without(j.spaces, "mount") }, ""},
		{"no namespaces", func(j *jail) { j.spaces, j.chroot = nil, os.Geteuid() == 0 }, ""},
		{"a namespace cannot be joined", func(j *jail) { j.spaces = broken(j.spaces, "network") }, "network namespace: bad file descriptor"},
		{"no root either", func(j *jail) { j.spaces, j.chroot = nil, false }, "no file system"},
	}
	for _, tt := range tests {
		copied := *whole
		j := &copied
		tt.change(j)
		s := Spec{Image: new(code).exit(survived).file(t), Files: testFiles(t)}
		if err := check(&s); err != nil {
			t.Fatal(err)
		}
		g, _ := newGroup(&s)
		p, err := launch(&s, j, g)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if st, _ := p.Wait(); st != (Status{Code: survived}) {
			t.Errorf("%s: got %+v", tt.name, st)
		}
		if tt.want != "" && len(whole.spaces) == 0 {
			continue // nothing to break
		}
		if missing := strings.Join(p.Sandbox().Missing, "; "); !strings.Contains(missing, tt.want) {
			t.Errorf("%s: the report misses %q: %q", tt.name, tt.want, missing)
		}
	}
}

// broken is list with a descriptor that is none.
func broken(list []space, name string) []space {
	list = slices.Clone(list)
	for i := range list {
		if list[i].name == name {
			list[i].fd = 1 << 20
		}
	}
	return list
}

func without(list []space, name string) (rest []space) {
	for _, s := range list {
		if s.name != name {
			rest = append(rest, s)
		}
	}
	return rest
}
