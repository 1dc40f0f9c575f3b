package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// many opens n descriptors and closes them at the end of the test.
func many(t *testing.T, n int) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if old.Max < uint64(n)+1000 {
		t.Skipf("the limit of open files is %d", old.Max)
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: old.Max, Max: old.Max})
	for range n {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
	}
}

// slots is the size of the descriptor table that the kernel has made for a process.
func slots(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(l, "FDSize:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(s))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no FDSize in /proc/PID/status")
	return 0
}

// TestWindow: what a launch copies does not depend on how many descriptors this process
// has, those of the launch are let go of, and images that are launched at once get
// their own.
func TestWindow(t *testing.T) {
	img := new(code).spin().file(t)
	run := func(files []*os.File) *Process {
		p, err := Start(Spec{Image: img, Files: files})
		if err != nil {
			t.Error(err)
			return nil
		}
		return p
	}
	end := func(p *Process) { p.Kill(); p.Wait() }
	p := run(testFiles(t))
	if p == nil {
		return
	}
	few := slots(t, p.PID())
	end(p)
	many(t, 5000)
	p = run(testFiles(t))
	if n := slots(t, p.PID()); n != few {
		t.Errorf("with 5000 descriptors more the table of an image has %d slots, else %d", n, few)
	}
	end(p)

	j, err := theJail()
	if err != nil {
		t.Fatal(err)
	}
	var filler unix.Stat_t
	if err := unix.Fstat(j.alive[0], &filler); err != nil {
		t.Fatal(err)
	}
	for n := j.window.base + j.window.kept; n < j.window.end(); n++ {
		var st unix.Stat_t
		if err := unix.Fstat(n, &st); err != nil || st.Ino != filler.Ino || st.Dev != filler.Dev {
			t.Errorf("descriptor %d is left in the window (%v)", n, err)
		}
	}

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				r, w, err := os.Pipe()
				if err != nil {
					t.Error(err)
					return
				}
				p := run([]*os.File{w, w, w, w, w, w})
				if p == nil {
					return
				}
				want, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", must(number(w))))
				for fd := range 6 {
					got, e := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.PID(), fd))
					if err != nil || e != nil || got != want {
						t.Errorf("descriptor %d of an image is %q, want %q (%v, %v)", fd, got, want, e, err)
					}
				}
				if list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID())); err != nil || len(list) != 6 {
					t.Errorf("an image has %d descriptors, want 6 (%v)", len(list), err)
				}
				end(p)
				w.Close()
				r.Close()
			}
		})
	}
	wg.Wait()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestWindowIsInTheWay: numbers that are taken are gone around.
func TestWindowIsInTheWay(t *testing.T) {
	filler, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(filler)
	first, err := newWindow(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	second, err := newWindow(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer second.close()
	if second.base < first.end() {
		t.Errorf("windows from %d and from %d overlap", first.base, second.base)
	}
	if _, _, err := second.place(&sources{image: filler, cgroup: -1, files: make([]int, windowSize)}); err == nil {
		t.Error("more files than the window has numbers were placed")
	}
	if _, _, err := second.place(&sources{image: 1 << 20, cgroup: -1}); err == nil {
		t.Error("a descriptor that is not open was placed")
	}
	src, done, err := second.place(&sources{image: filler, cgroup: -1})
	if err != nil || src.image != second.base || src.cgroup != -1 {
		t.Errorf("placed %+v, %v", src, err)
	}
	done()
}
