package snapshot

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// ahead is how far the clock of another machine is ahead of this one's: time since it was
// started, which is what monotonic clocks count.
const ahead = 20_000_000 * time.Second

// elsewhere runs one test of this program again, on such a machine: in a time namespace.
func elsewhere(t *testing.T, test string, env ...string) {
	t.Helper()
	seconds := fmt.Sprint(int64(ahead / time.Second))
	enter := []string{"--time", "--monotonic", seconds, "--boottime", seconds, "--fork", "--"}
	if out, err := exec.Command("unshare", append(enter, "true")...).CombinedOutput(); err != nil {
		t.Skipf("no time namespace here: %v %s", err, out)
	}
	cmd := exec.Command("unshare", append(enter, os.Args[0], "-test.run", "^"+test+"$", "-test.v")...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+test) {
		t.Fatalf("%v\n%s", err, out)
	}
}

const clockFile, clockIsolation = "NOYAU_TEST_CLOCK_FILE", "NOYAU_TEST_CLOCK_ISOLATION"

// goesOn restores what the guest's case "clock" says in a pVM with another clock.
func goesOn(t *testing.T, to, file string) {
	t.Helper()
	_, out := restore(t, config(t, to, "clock"), to, file)
	line, err := out.ReadString('\n')
	var wall int64
	if _, e := fmt.Sscanf(line, "wall %d", &wall); e != nil || err != nil {
		t.Fatalf("the guest says %q, %v", line, err)
	}
	if d := time.Since(time.Unix(wall, 0)); d < -time.Minute || d > time.Minute {
		t.Errorf("the wall clock of the guest is off by %v", d)
	}
}

// TestClock: timers go on with what was left of them, and time.Since with what had gone,
// whatever the host's monotonic clock says; the wall clock is right.
func TestClock(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		file := save(t, config(t, from, "clock"), "ready")
		t.Run("here", func(t *testing.T) { goesOn(t, to, file) })
		t.Run("later", func(t *testing.T) { elsewhere(t, "TestElsewhere", clockFile+"="+file, clockIsolation+"="+to) })
		t.Run("earlier", func(t *testing.T) {
			file := file + "2"
			elsewhere(t, "TestSaveElsewhere", clockFile+"="+file, clockIsolation+"="+from)
			goesOn(t, to, file)
		})
	})
}

func child(t *testing.T) (file, isolation string) {
	if file = os.Getenv(clockFile); file == "" {
		t.Skip("a part of TestClock")
	}
	return file, os.Getenv(clockIsolation)
}

func TestElsewhere(t *testing.T) {
	file, to := child(t)
	goesOn(t, to, file)
}

func TestSaveElsewhere(t *testing.T) {
	file, from := child(t)
	if err := os.Rename(save(t, config(t, from, "clock"), "ready"), file); err != nil {
		t.Fatal(err)
	}
}
