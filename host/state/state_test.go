package state

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helperEnv makes the test binary play another noyau process: it creates a
// running entry in the directories named, prints its id and waits for the end
// of its input.
const helperEnv = "NOYAU_STATE_TEST_HELPER"

func TestMain(m *testing.M) {
	if v := os.Getenv(helperEnv); v != "" {
		helper(v)
	}
	os.Exit(m.Run())
}

func helper(dirs string) {
	state, run, _ := strings.Cut(dirs, "|")
	d, err := OpenAt(state, run)
	if err == nil {
		var e *Entry
		if e, err = d.Create(Meta{Name: os.Getenv("HELPER_NAME"), Detached: true}, ""); err == nil {
			if err = e.SetStatus(Status{Phase: Running, Monitor: Self()}); err == nil {
				fmt.Println(e.Meta.ID)
				bufio.NewReader(os.Stdin).ReadByte()
				os.Exit(0)
			}
		}
	}
	fmt.Println("error:", err)
	os.Exit(1)
}

func open(t *testing.T) *Dir {
	t.Helper()
	tmp := t.TempDir()
	d, err := OpenAt(filepath.Join(tmp, "state", "noyau"), filepath.Join(tmp, "run", "noyau"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// another starts a process that holds a running entry; kill ends it.
func another(t *testing.T, d *Dir, name string) (id string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+d.State+"|"+d.Run, "HELPER_NAME="+name)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	id = strings.TrimSpace(line)
	if !isID(id) {
		t.Fatalf("helper: %q", line)
	}
	var once sync.Once
	kill = func() { once.Do(func() { cmd.Process.Kill(); cmd.Wait(); in.Close() }) }
	t.Cleanup(kill)
	return id, kill
}

func TestNames(t *testing.T) {
	d := open(t)
	e, err := d.Create(Meta{Name: "web", Detached: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	var taken *NameError
	if _, err := d.Create(Meta{Name: "web", Detached: true}, ""); !errors.As(err, &taken) || taken.ID != e.Meta.ID {
		t.Fatalf("second pVM of the same name: %v", err)
	}
	if err := d.Remove(e); err == nil || !strings.Contains(err.Error(), "rm -f") {
		t.Errorf("removing one that is being started: %v", err)
	}
	if err := e.SetStatus(Status{Phase: Exited, Monitor: Self(), ExitCode: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(Meta{Name: "web", Detached: true}, ""); !errors.As(err, &taken) || !strings.Contains(err.Error(), "noyau rm web") {
		t.Fatalf("an exited pVM keeps its name: %v", err)
	}
	for _, ref := range []string{"web", e.Meta.ID, e.Meta.ID[:3]} {
		if got, err := d.Find(ref); err != nil || got.Status.ExitCode != 3 {
			t.Errorf("Find(%q): %v %v", ref, got, err)
		}
	}
	if err := d.Remove(e); err != nil {
		t.Fatal(err)
	}
	var none *NotFoundError
	if _, err := d.Find("web"); !errors.As(err, &none) {
		t.Errorf("after removal: %v", err)
	}
	if err := d.Remove(e); !errors.As(err, &none) {
		t.Errorf("second removal: %v", err)
	}
	if _, err := d.Create(Meta{Name: "web", Detached: true}, ""); err != nil {
		t.Errorf("the name is not free again: %v", err)
	}
	for _, bad := range []string{"../x", "a/b", "-x", ".x", "a b", strings.Repeat("x", 64), "é"} {
		if _, err := d.Create(Meta{Name: bad}, ""); err == nil {
			t.Errorf("name %q was accepted", bad)
		}
		if _, err := d.Find(bad); err == nil {
			t.Errorf("Find(%q) found something", bad)
		}
	}
}

func TestAutoName(t *testing.T) {
	d := open(t)
	for _, base := range []string{"hello", "../../etc", "", "päckage v2", strings.Repeat("long", 50)} {
		e, err := d.Create(Meta{Detached: true}, base)
		if err != nil {
			t.Fatalf("%q: %v", base, err)
		}
		if err := CheckName(e.Meta.Name); err != nil || !strings.Contains(e.Meta.Name, e.Meta.ID[:4]) {
			t.Errorf("%q became %q: %v", base, e.Meta.Name, err)
		}
	}
}

// Exactly one of many who want a name gets it; nothing is lost besides.
func TestConcurrentCreate(t *testing.T) {
	d := open(t)
	const n = 16
	var wg sync.WaitGroup
	won := make(chan string, n)
	for i := range n {
		wg.Go(func() {
			own, err := OpenAt(d.State, d.Run) // as another process would
			if err != nil {
				t.Error(err)
				return
			}
			if e, err := own.Create(Meta{Name: "one", Detached: true}, ""); err == nil {
				won <- e.Meta.ID
			} else if taken := new(NameError); !errors.As(err, &taken) {
				t.Error(err)
			}
			e, err := own.Create(Meta{Name: fmt.Sprintf("n%d", i), Detached: true}, "")
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := own.List(); err != nil {
				t.Errorf("List while others work: %v", err)
			}
			if i%2 == 0 {
				e.SetStatus(Status{Phase: Exited})
				if err := own.Remove(e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Errorf("%d got the same name", len(won))
	}
	all, err := d.List()
	if err != nil || len(all) != 1+n/2 {
		t.Errorf("%d entries (%v), want %d", len(all), err, 1+n/2)
	}
}

func TestStale(t *testing.T) {
	d := open(t)
	id, kill := another(t, d, "db")
	e, err := d.Find("db")
	if err != nil || e.Meta.ID != id || e.Status.Phase != Running || !e.Status.Monitor.Alive() {
		t.Fatalf("of a living process: %+v %v", e, err)
	}
	if err := d.Remove(e); err == nil {
		t.Fatal("a running pVM was removed")
	}
	kill()
	if err := e.Refresh(); err != nil || e.Status.Phase != Dead {
		t.Fatalf("its process was killed: %v %v", e.Status.Phase, err)
	}
	if err := e.Status.Monitor.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a dead process: %v", err)
	}
	if err := d.Remove(e); err != nil {
		t.Errorf("a dead pVM cannot be removed: %v", err)
	}
}

// A pid that is in use again, and one of before the last boot, are not alive.
func TestReusedPID(t *testing.T) {
	self := Self()
	if !self.Alive() {
		t.Fatal("we are not alive")
	}
	other := self
	other.Start--
	if other.Alive() || !errors.Is(other.Signal(0), os.ErrProcessDone) {
		t.Error("another start time counts as the same process")
	}
	other = self
	other.Boot = "before"
	if other.Alive() {
		t.Error("a process of an earlier boot is alive")
	}
	if err := self.Signal(0); err != nil {
		t.Errorf("signal 0 to ourselves: %v", err)
	}
}

// A process that died in the middle leaves a link and a hidden directory.
func TestSweep(t *testing.T) {
	d := open(t)
	os.Symlink("0123456789ab", filepath.Join(d.names(), "web"))
	os.Mkdir(filepath.Join(d.pvms(), ".new-0123456789ab"), 0o700)
	os.Mkdir(filepath.Join(d.pvms(), ".old-0123456789ac"), 0o700)
	if all, err := d.List(); len(all) != 0 || err != nil {
		t.Errorf("unfinished entries are listed: %v %v", all, err)
	}
	e, err := d.Create(Meta{Name: "web"}, "")
	if err != nil {
		t.Fatalf("the name of nobody: %v", err)
	}
	left, _ := os.ReadDir(d.pvms())
	if len(left) != 1 || left[0].Name() != e.Meta.ID {
		t.Errorf("left: %v", left)
	}
}

// What crashed pVMs left is looked for once in a while, not with each start.
func TestSweepSeldom(t *testing.T) {
	d := open(t)
	e, err := d.Create(Meta{Name: "fg"}, "")
	if err != nil {
		t.Fatal(err)
	}
	gone := Self()
	gone.Start--
	if err := e.SetStatus(Status{Phase: Running, Monitor: gone}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ago  time.Duration
		left bool
	}{{0, true}, {sweepEvery / 2, true}, {2 * sweepEvery, false}} {
		at := time.Now().Add(-tt.ago)
		if err := os.Chtimes(filepath.Join(d.State, "lock"), at, at); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Create(Meta{}, "other"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(e.Path()); (err == nil) != tt.left {
			t.Errorf("%v after the last look: %v", tt.ago, err)
		}
	}
}

// Foreground pVMs leave no trace when they are over, even by kill -9.
func TestForegroundVanishes(t *testing.T) {
	d := open(t)
	e, err := d.Create(Meta{Name: "fg"}, "")
	if err != nil {
		t.Fatal(err)
	}
	gone := Self()
	gone.Start--
	if err := e.SetStatus(Status{Phase: Running, Monitor: gone}); err != nil {
		t.Fatal(err)
	}
	if all, _ := d.List(); len(all) != 0 {
		t.Error("a dead foreground pVM is listed")
	}
	if _, err := d.Create(Meta{Name: "fg"}, ""); err != nil {
		t.Errorf("its name is not free: %v", err)
	}
	if left, _ := os.ReadDir(d.pvms()); len(left) != 1 {
		t.Errorf("%d entries are left", len(left))
	}
}

func TestPermissions(t *testing.T) {
	tmp := t.TempDir()
	wide := filepath.Join(tmp, "wide")
	os.Mkdir(wide, 0o777)
	os.Chmod(wide, 0o777)
	if _, err := OpenAt(wide, filepath.Join(tmp, "run")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{wide, filepath.Join(wide, "pvms"), filepath.Join(tmp, "run")} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v, want 0700", dir, st.Mode(), err)
		}
	}
	file := filepath.Join(tmp, "file")
	os.WriteFile(file, nil, 0o600)
	if _, err := OpenAt(file, filepath.Join(tmp, "run")); err == nil {
		t.Error("a file was accepted as a directory")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make a directory of another user")
	}
	foreign := filepath.Join(tmp, "foreign")
	os.Mkdir(foreign, 0o755)
	os.Chown(foreign, 12345, 12345)
	if _, err := OpenAt(filepath.Join(tmp, "s"), foreign); err == nil || !strings.Contains(err.Error(), "12345") {
		t.Errorf("a directory of another user: %v", err)
	}
	link := filepath.Join(tmp, "link")
	os.Symlink(wide, link)
	os.Lchown(link, 12345, 12345)
	if _, err := OpenAt(filepath.Join(tmp, "s"), link); err == nil {
		t.Error("another user's link to a directory of ours was followed")
	}
}

func TestOpenFallbacks(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", tmp)
	run := filepath.Join(tmp, "r")
	os.Mkdir(run, 0o700)
	t.Setenv("XDG_RUNTIME_DIR", run)
	d, err := Open()
	if err != nil || d.State != filepath.Join(tmp, ".local/state/noyau") || d.Run != filepath.Join(run, "noyau") {
		t.Errorf("%+v %v", d, err)
	}
	t.Setenv("HOME", "")
	if _, err := Open(); err == nil || !strings.Contains(err.Error(), "XDG_STATE_HOME") {
		t.Errorf("without HOME: %v", err)
	}
}

// TestCreateAll: all of several get an entry or none, and a pattern finds them.
func TestCreateAll(t *testing.T) {
	d := open(t)
	list, err := d.CreateAll([]Meta{{Name: "w-2", Detached: true}, {Name: "w-1", Detached: true}, {Detached: true}}, "base")
	if err != nil || len(list) != 3 || list[0].Meta.ID == list[1].Meta.ID || !strings.HasPrefix(list[2].Meta.Name, "base-") {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := d.CreateAll([]Meta{{Name: "w-3"}, {Name: "w-4"}, {Name: "w-1"}}, "base"); err == nil {
		t.Error("a name that is taken")
	}
	if _, err := d.CreateAll([]Meta{{Name: "w-3"}, {Name: "no name"}}, "base"); err == nil {
		t.Error("a bad name")
	}
	found, err := d.Match("w-*")
	if err != nil || len(found) != 2 || found[0].Meta.Name != "w-1" || found[1].Meta.Name != "w-2" {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := d.Match("[w"); err == nil {
		t.Error("a bad pattern")
	}
}
