// Package exec tests os/exec in pVMs: programs that start themselves and helpers. The
// same program runs natively and under each isolation.
package exec

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/host/volume"
	"noyau.dev/test/internal/pvms"
)

// native builds the guest as an ordinary program, with "helper" beside it.
var native = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "noyau-exec-")
	if err != nil {
		return "", err
	}
	nativeDir = dir
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "guest"), "./guest").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
		return "", err
	}
	return dir, os.Link(filepath.Join(dir, "guest"), filepath.Join(dir, "helper"))
})

var nativeDir string // "": not made

func TestMain(m *testing.M) {
	code := pvms.Main(m)
	os.RemoveAll(nativeDir)
	os.Exit(code)
}

// result is what is seen of a run.
type result struct {
	out  string
	code int
}

func runNative(t *testing.T, input string, args ...string) result {
	dir, err := native()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(filepath.Join(dir, "guest"), args...)
	var out bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, os.Stderr
	c.Env = append(os.Environ(), "PATH="+dir, "TMPDIR="+t.TempDir())
	c.Run()
	return result{out.String(), c.ProcessState.ExitCode()}
}

// config is how the guest is run.
func config(t *testing.T, isolation, input string, args ...string) monitor.Config {
	c := pvms.Config(t, isolation, args...)
	c.Stdin, c.Env = strings.NewReader(input), []string{"PATH=/usr/bin:/bin"}
	c.Exec = []monitor.Exec{{Name: monitor.ExecSelf}, {Name: "helper", Image: c.Image}}
	return c
}

func run(t *testing.T, c monitor.Config) result {
	out, e := pvms.Run(t, c)
	return result{out, e.Code}
}

func TestExec(t *testing.T) {
	for _, c := range []struct{ name, input string }{
		{"run", ""}, {"helper", ""}, {"pipes", ""}, {"files", ""}, {"signals", ""}, {"extra", ""}, {"deaf", ""},
		{"nested", ""}, {"refused", ""}, {"large", ""}, {"parallel", ""}, {"wait", ""}, {"inherit", "some input\n"},
		{"orphan", ""}, {"deathsig", ""}, {"closed", ""}, {"streams", "more\n"}, {"order", ""}, {"killed", ""}, {"groups", ""}, {"listener", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := runNative(t, c.input, c.name)
			if want.code != 0 {
				t.Fatalf("natively: %+v", want)
			}
			pvms.Isolations(t, func(t *testing.T, isolation string) {
				if got := run(t, config(t, isolation, c.input, c.name)); got != want {
					t.Errorf("%+v, natively %+v", got, want)
				}
			})
		})
	}
}

func TestVolume(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "", "files", "/data")
		c.Volumes = []monitor.Volume{volume.Spec{Host: t.TempDir(), Guest: "/data"}}
		if got := run(t, c); got != (result{"done\n", 0}) {
			t.Errorf("%+v", got)
		}
	})
}

// TestBomb: the family's bound holds, and what is beneath it works again.
func TestBomb(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "", "bomb")
		c.Forks = -1
		if got := run(t, c); got != (result{"63\ndone\n", 0}) {
			t.Errorf("%+v", got)
		}
	})
}

// TestKill: a family that is killed leaves nobody.
func TestKill(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "", "streams")
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		defer out.Close()
		var said bytes.Buffer
		c.Stdin, c.Stdout = in, &said
		i, err := monitor.Start(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		for { // until the first has gone
			m := i.Members()
			if len(m) == 1 && m[0].PID != 1 {
				break
			}
			select {
			case <-i.Done():
				t.Fatal("the child has ended too")
			default:
				time.Sleep(time.Millisecond)
			}
		}
		i.Kill()
		if e := i.Wait(); e.Code != 0 {
			t.Errorf("%+v", e)
		}
		if len(i.Members()) != 0 {
			t.Error(i.Members())
		}
	})
}

// TestLeak starts many and looks at the monitor.
func TestLeak(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		count := func() int {
			list, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Skip(err)
			}
			return len(list)
		}
		run(t, config(t, isolation, "", "many", "2"))
		before := count()
		if got := run(t, config(t, isolation, "", "many", "50")); got != (result{"done\n", 0}) {
			t.Errorf("%+v", got)
		}
		if after := count(); after > before+2 {
			t.Errorf("%d descriptors, before %d", after, before)
		}
	})
}

// TestNotGranted: without the permission there is nothing to start.
func TestNotGranted(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "", "run")
		c.Exec = nil
		var errs bytes.Buffer
		c.Stderr = &errs
		if got := run(t, c); got.code == 0 || !strings.Contains(errs.String(), "no such file") && !strings.Contains(errs.String(), "permission denied") {
			t.Errorf("%+v: %s", got, errs.String())
		}
	})
}

// TestHandover: a server starts its successor with its listener, and no connection is
// refused meanwhile.
func TestHandover(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		const generations = 4
		c := config(t, isolation, "", "handover", "0", strconv.Itoa(generations))
		pvms.Publish(&c)
		out, said := pvms.Pipe(t)
		c.Stdout = out
		i := pvms.Start(t, c)
		pvms.Expect(t, said, 1, "ready")
		for n := range generations * 10 {
			conn, err := net.Dial("tcp", i.Info().Ports[0].Host)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(time.Minute))
			got, err := io.ReadAll(conn)
			conn.Close()
			if want := fmt.Sprint(n / 10); err != nil || string(got) != want {
				t.Fatalf("connection %d: %q, %v; want %s", n, got, err, want)
			}
		}
		if e := i.Wait(); e.Code != 0 {
			t.Errorf("%+v", e)
		}
	})
}
