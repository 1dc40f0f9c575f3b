package vm_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"noyau.dev/host/build"
	"noyau.dev/host/monitor"
	"noyau.dev/host/vm"
)

// once runs hello with WHO=who to its end and returns its stages.
func once(tb testing.TB, img, isolation, who string) *monitor.Timing {
	tb.Helper()
	var out bytes.Buffer
	c := monitor.Config{Image: img, Isolation: isolation, Args: []string{"to"}, Env: []string{"WHO=" + who}, Stdout: &out, Stderr: os.Stderr, Timing: new(monitor.Timing)}
	c.Timing.Mark("begin")
	inst, err := monitor.Start(context.Background(), c)
	if err != nil {
		tb.Fatal(err)
	}
	if e := inst.Wait(); e.Code != 0 || out.String() != "hello to "+who+"\n" {
		tb.Fatalf("exit code %d %s, output %q", e.Code, e.Reason, out.String())
	}
	return c.Timing
}

func stage(tm *monitor.Timing, name string) int64 {
	for _, s := range tm.Stages() {
		if s.Name == name {
			return s.At
		}
	}
	return 0
}

// stages is a Timing for a person: µs since the stage before.
func stages(tm *monitor.Timing) string {
	var b strings.Builder
	list := tm.Stages()
	for i, s := range list[1:] {
		fmt.Fprintf(&b, "%s +%d; ", s.Name, (s.At-list[i].At)/1000)
	}
	return b.String()
}

// TestShells: a pVM that runs in a shell is as any other, each shell serves one,
// and what was taken is replaced.
func TestShells(t *testing.T) {
	img := image(t, "hello")
	if err := vm.Keep(2, ""); err != nil {
		t.Fatal(err)
	}
	defer vm.Keep(0, "")
	used := 0
	for i := range 12 {
		tm := once(t, img, "vm", fmt.Sprint("number ", i))
		if stage(tm, "shell got its image") != 0 {
			used++
		}
		if stage(tm, "sealed: first instruction") == 0 || stage(tm, "guest ended") == 0 {
			t.Errorf("stages are missing: %v", tm.Stages())
		}
	}
	if used < 2 {
		t.Errorf("%d of 12 starts used a shell; 2 were ready", used)
	}
	// More than a shell takes, and limits that a shell does not have.
	if tm := once(t, img, "vm", strings.Repeat("x", 100<<10)); stage(tm, "guest ended") == 0 {
		t.Error("no stages with a large environment")
	}
	if err := vm.Keep(2, ""); err != nil || vm.Ready() != 2 {
		t.Fatalf("%d shells are ready, want 2 (%v)", vm.Ready(), err)
	}
	c := monitor.Config{Image: img, Isolation: "vm", Memory: 64 << 20, Timing: new(monitor.Timing)}
	inst, err := monitor.Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if e := inst.Wait(); e.Code != 0 || stage(c.Timing, "shell got its image") != 0 || vm.Ready() != 2 {
		t.Errorf("with a limit of memory: exit code %d, %d shells left; want a fresh runner", e.Code, vm.Ready())
	}
	vm.Keep(0, "")
	if vm.Ready() != 0 {
		t.Error("shells are left")
	}
	once(t, img, "vm", "nobody")
}

// TestShellsAgain: after a shell could not be made, and none is left, others are made again.
func TestShellsAgain(t *testing.T) {
	img := image(t, "hello")
	defer vm.Keep(0, "")
	defer vm.FailShells(nil)
	vm.FailShells(syscall.EMFILE)
	if err := vm.Keep(1, ""); err != syscall.EMFILE {
		t.Fatal(err)
	}
	vm.FailShells(nil)
	if err := vm.Keep(1, ""); err != nil {
		t.Fatal(err)
	}
	await := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not seen: ", what)
			}
		}
	}
	vm.FailShells(syscall.EMFILE)
	once(t, img, "vm", "one")
	await("a failure", func() bool { return vm.ShellsFailed() == syscall.EMFILE })
	vm.FailShells(nil)
	vm.EndPause()
	if n := vm.Ready(); n != 0 {
		t.Fatalf("%d are ready", n)
	}
	once(t, img, "vm", "two")
	await("another shell", func() bool { return vm.Ready() == 1 })
}

// TestExits: a guest reaches main without an exit; then there are its output and its end.
func TestExits(t *testing.T) {
	var out, said bytes.Buffer
	c := monitor.Config{Image: image(t, "hello"), Isolation: "vm", Options: map[string]string{"stats": "1"}, Stdout: &out, Stderr: &said}
	inst, err := monitor.Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if e := inst.Wait(); e.Code != 0 || out.Len() == 0 {
		t.Fatalf("exit code %d %s, output %q", e.Code, e.Reason, out.String())
	}
	var exits, touches, faults, ticks int
	if _, err := fmt.Sscanf(said.String(), "noyau: vm: exits %d touches %d faults %d ticks %d", &exits, &touches, &faults, &ticks); err != nil {
		t.Fatalf("%v: %q", err, said.String())
	}
	// A tick counts as two exits, and its handler's return as one; a host that is busy may
	// have any number.
	if n := exits - 3*ticks; n > 2 || touches != 0 || faults != 0 {
		t.Errorf("%d exits, want at most 2 without ticks: %s", n, said.String())
	}
}

// TestLayouts: images run whether their segments lie apart, as noyau build has it, or behind
// one another, as in older images; the first time and later, when there may be a copy in
// large pages.
func TestLayouts(t *testing.T) {
	image(t, "hello") // skips where there is no KVM
	for _, flags := range [][]string{nil, {"-ldflags=-R=4096"}} {
		img := filepath.Join(t.TempDir(), "hello")
		var said bytes.Buffer
		if _, err := build.Build(context.Background(), build.Options{Package: ".", Dir: "testdata/hello", Output: img, GoFlags: flags, Stdout: &said, Stderr: &said}); err != nil {
			t.Fatalf("build: %v\n%s", err, said.Bytes())
		}
		for i := range 4 {
			once(t, img, "vm", fmt.Sprint(i))
		}
	}
}

// TestLoadedShells: shells that have loaded an image serve it, and no other.
func TestLoadedShells(t *testing.T) {
	img := image(t, "hello")
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := vm.Keep(2, img); err != nil {
		t.Fatal(err)
	}
	defer vm.Keep(0, "")
	if tm := once(t, other, "vm", "another"); stage(tm, "shell got its image") != 0 || vm.Ready() != 2 {
		t.Errorf("a copy of the image ran in a shell that had loaded the original; %d left", vm.Ready())
	}
	for i := range 6 {
		if err := vm.Keep(2, img); err != nil {
			t.Fatal(err)
		}
		if tm := once(t, img, "vm", fmt.Sprint(i)); stage(tm, "shell got its image") == 0 {
			t.Error("the shell was not used")
		}
	}
	// A file that has changed since is another image.
	now := time.Now().Add(time.Hour)
	if err := os.Chtimes(img, now, now); err != nil {
		t.Fatal(err)
	}
	if tm := once(t, img, "vm", "changed"); stage(tm, "shell got its image") != 0 {
		t.Error("a shell with the image of before was used")
	}
	if err := vm.Keep(1, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("shells for an image that does not exist")
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("no image"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := vm.Keep(1, bad); err == nil || !strings.Contains(err.Error(), "not an image") {
		t.Errorf("shells for a file that is no image: %v", err)
	}
}

// BenchmarkStart is one run of hello in a monitor that goes on: µs to the first
// output, which stands for main, and to the end.
func BenchmarkStart(b *testing.B) {
	img := image(b, "hello")
	for _, how := range []string{"process", "vm", "zygote", "spare", "shell", "loaded"} {
		b.Run(how, func(b *testing.B) {
			vm.NoSpares(how != "spare")
			defer vm.NoSpares(false)
			if err := vm.Zygote(how == "zygote" || how == "spare"); err != nil {
				b.Fatal(err)
			}
			if how == "spare" {
				once(b, img, "vm", "world") // there is none before the first start
			}
			isolation := how
			if how != "process" {
				isolation = "vm"
			}
			var main, end, exec []int64
			var last *monitor.Timing
			for range b.N {
				if how == "spare" {
					b.StopTimer()
					waitSpare(b)
					b.StartTimer()
				}
				if how == "shell" || how == "loaded" {
					b.StopTimer()
					with := ""
					if how == "loaded" {
						with = img
					}
					if err := vm.Keep(1, with); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				tm := once(b, img, isolation, "world")
				last = tm
				from := stage(tm, "begin")
				main = append(main, stage(tm, "first output")-from)
				end = append(end, stage(tm, "all closed")-from)
				exec = append(exec, stage(tm, "first output")-stage(tm, "handles and volumes opened"))
			}
			if testing.Verbose() {
				b.Log(stages(last))
			}
			b.ReportMetric(median(exec), "launch-main-µs")
			b.ReportMetric(median(main), "main-µs")
			b.ReportMetric(float64(slices.Min(exec))/1e3, "best-launch-main-µs")
			b.ReportMetric(median(end), "end-µs")
		})
	}
	vm.Keep(0, "")
}
