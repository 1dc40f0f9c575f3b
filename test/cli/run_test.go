package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"noyau.dev/abi"
)

func TestRunStreamsAndArguments(t *testing.T) {
	u := newUser(t)
	if got := u.ok("run", "--name", "me", probe, "args", "-p", "--help", "--", "a b", ""); got != "\"probe\"\n\"args\"\n\"-p\"\n\"--help\"\n\"--\"\n\"a b\"\n\"\"\n" {
		t.Errorf("arguments: %s", got)
	}
	if r := u.do("run", probe, "both"); r.out != "to stdout\n" || r.err != "to stderr\n" {
		t.Errorf("streams: %+v", r)
	}
	big := strings.Repeat("0123456789abcdef\n", 1<<16)
	c := u.cmd("run", probe, "cat")
	c.Stdin = strings.NewReader(big)
	if r := u.finish(c); r.code != 0 || r.out != big {
		t.Errorf("stdin: %d bytes came back of %d, exit code %d %s", len(r.out), len(big), r.code, r.err)
	}
	if got := u.ok("ps", "-aq"); got != "" {
		t.Errorf("foreground pVMs left traces: %q", got)
	}
}

func TestRunEnvironment(t *testing.T) {
	u := newUser(t)
	u.env = append(u.env, "SECRET=host", "TAKEN=from here")
	file := filepath.Join(u.dir, "env")
	os.WriteFile(file, []byte("# c\nF=file\nG=file\n"), 0o600)
	got := u.ok("run", "--hostname", "box", "-e", "A=1", "-e", "TAKEN", "-e", "UNSET_HERE", "--env-file", file, "-e", "G=flag", probe, "env")
	want := "A=1\nF=file\nG=flag\nHOME=/root\nHOSTNAME=box\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nTAKEN=from here\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := u.ok("run", "--hostname", "box", probe, "hostname"); got != "box\n" {
		t.Errorf("host name %q", got)
	}
	if got := u.ok("run", "-w", "/tmp", probe, "pwd"); got != "/tmp\n" {
		t.Errorf("working directory %q", got)
	}
}

func TestRunVolumes(t *testing.T) {
	u := newUser(t)
	data := filepath.Join(u.dir, "data")
	os.Mkdir(data, 0o755)
	u.ok("run", "-v", data+":/data", probe, "write", "/data/f", "from inside")
	if b, err := os.ReadFile(filepath.Join(data, "f")); string(b) != "from inside" {
		t.Errorf("%q %v", b, err)
	}
	if got := u.ok("run", "-v", data+":/data:ro", probe, "read", "/data/f"); got != "from inside" {
		t.Errorf("read back %q", got)
	}
	u.fails(1, []string{"run", "-v", data + ":/data:ro", probe, "write", "/data/f", "no"}, "read-only file system")
	u.fails(1, []string{"run", probe, "read", filepath.Join(data, "f")}, "no such file")
}

func TestExitCodes(t *testing.T) {
	u := newUser(t)
	plain := filepath.Join(u.dir, "plain")
	if out, err := exec.Command("go", "build", "-o", plain, "./testdata/probe").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	cut := filepath.Join(u.dir, "cut.img")
	b, _ := os.ReadFile(probe)
	os.WriteFile(cut, b[:len(b)/2], 0o755)
	secret := filepath.Join(u.dir, "secret.img")
	os.WriteFile(secret, b, 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	tests := []struct {
		code  int
		args  []string
		words []string
	}{
		{0, []string{"run", probe, "exit", "0"}, nil},
		{3, []string{"run", probe, "exit", "3"}, nil},
		{255, []string{"run", probe, "exit", "255"}, nil},
		{2, []string{"run", probe, "panic"}, []string{"panic: on purpose", "main.main"}},
		{137, []string{"run", probe, "killself", "9"}, nil},
		{143, []string{"run", probe, "killself", "15"}, nil},
		{125, []string{"run"}, []string{"PACKAGE", "--help"}},
		{125, []string{"run", "--nope", probe}, []string{"--nope", "noyau run --help"}},
		{125, []string{"run", "-m", "x", probe}, []string{`memory "x"`}},
		{125, []string{"run", "--name", "a b", probe}, []string{`"a b"`}},
		{125, []string{"run", "--isolation", "nope", probe}, []string{`"nope"`}},
		{125, []string{"run", "-p", "127.0.0.1:" + port + ":80", probe}, []string{port, "in use"}},
		{125, []string{"run", "-tags", "x", probe}, []string{"is an image"}},
		{126, []string{"run", plain}, []string{"not a Noyau image", "use noyau build"}},
		{126, []string{"run", cut}, []string{"not a Noyau image"}},
		{126, []string{"run", "/etc/passwd"}, []string{"not an ELF file"}},
		{127, []string{"run", "./none"}, []string{"./none", "no such"}},
		{127, []string{"run", "/none.img"}, []string{"no such"}},
		{127, []string{"run", "nonesuch"}, []string{"nonesuch"}},
		{125, []string{"rnu", probe}, []string{`"rnu"`, "'noyau run'", "noyau --help"}},
		{1, []string{"build", "-o", "/none/x.img", "../../examples/hello"}, []string{"/none/x.img", "no such file or directory", "-o"}},
		{1, []string{"build", "./testdata/none"}, []string{"none"}},
		{1, []string{"build", "fmt"}, []string{"not a main package"}},
		{1, []string{"build", "-race", "./testdata/probe"}, []string{"race", "threads"}},
		{1, []string{"stop", "nobody"}, []string{"no such pVM: nobody"}},
		{1, []string{"logs", "nobody"}, []string{"no such pVM: nobody"}},
		{1, []string{"inspect", "image", plain}, []string{"not a Noyau image"}},
		{125, []string{"stop"}, []string{"at least one"}},
		{125, []string{"ps", "--format", "nope"}, []string{`"nope"`, "table, json"}},
		{125, []string{"fork"}, []string{"received 0", "noyau fork --help"}},
		{125, []string{"logs", "a", "b"}, []string{"received 2", "noyau logs --help"}},
		{125, []string{"inspect", "image"}, []string{"received 0", "noyau inspect image --help"}},
		{125, []string{"kill", "-s", "NOPE", "nobody"}, []string{`"NOPE"`, "not a signal"}},
		{0, []string{"run", "-m", "300g", probe, "exit", "0"}, nil},
	}
	if os.Geteuid() != 0 { // root may read it all the same
		tests = append(tests, tests[0])
		tests[len(tests)-1].code, tests[len(tests)-1].args = 126, []string{"run", secret}
	}
	for _, tt := range tests {
		u.fails(tt.code, tt.args, tt.words...)
	}
}

// A package is built, then run; errors are as go prints them.
func TestRunPackage(t *testing.T) {
	u := newUser(t)
	dir := filepath.Join(u.dir, "my app")
	os.Mkdir(dir, 0o755)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example.org/greet\n\ngo 1.26\n")
	write("main.go", "package main\n\nimport \"os\"\n\nvar who = \"nobody\"\n\nfunc main() { print(who, greeting, len(os.Args)) }\n")
	write("a.go", "//go:build !loud\n\npackage main\n\nconst greeting = \" hi \"\n")
	write("b.go", "//go:build loud\n\npackage main\n\nconst greeting = \" HI \"\n")
	run := func(args ...string) result {
		c := u.cmd(args...)
		c.Dir = dir
		return u.finish(c)
	}
	if r := run("run", ".", "x"); r.code != 0 || r.err != "nobody hi 2" {
		t.Errorf("%+v", r)
	}
	if r := u.do("run", "-tags", "loud", "-ldflags=-X main.who=me", dir); r.code != 0 || r.err != "me HI 1" {
		t.Errorf("%+v", r)
	}
	if r := run("build", "-trimpath"); r.code != 0 || r.out+r.err != "" {
		t.Errorf("%+v", r)
	}
	if got := u.ok("inspect", "image", filepath.Join(dir, "my app.img")); !strings.Contains(got, "example.org/greet") || !strings.Contains(got, "libOS") {
		t.Errorf("manifest: %s", got)
	}
	if got := u.ok("inspect", "image", "--json", filepath.Join(dir, "my app.img")); !strings.Contains(got, fmt.Sprintf(`"abi": %d`, abi.Version)) {
		t.Errorf("manifest: %s", got)
	}
	write("main.go", "package main\n\nfunc main() { undefined() }\n")
	if r := run("run", "."); r.code != 125 || !strings.Contains(r.err, "main.go:3:15: undefined: undefined") {
		t.Errorf("%+v", r)
	}
	if r := run("build", "."); r.code != 1 || !strings.Contains(r.err, "main.go:3:15: undefined: undefined") {
		t.Errorf("%+v", r)
	}
}

func TestSignals(t *testing.T) {
	for _, tt := range []struct {
		mode string
		send []syscall.Signal
		says []string
		code int
	}{
		{"polite", []syscall.Signal{syscall.SIGINT}, []string{"got interrupt"}, 42},
		{"polite", []syscall.Signal{syscall.SIGTERM}, []string{"got terminated"}, 55},
		{"polite", []syscall.Signal{syscall.SIGUSR1}, []string{"got user defined"}, 50},
		{"sleep", []syscall.Signal{syscall.SIGINT}, nil, 130},
		{"sleep", []syscall.Signal{syscall.SIGTERM}, nil, 143},
		{"stubborn", []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGINT}, []string{"got interrupt", "got terminated", "got interrupt"}, 137},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			u := newUser(t)
			c, out := u.start(nil, "run", probe, tt.mode)
			eventually(t, "the app is ready", func() bool { return strings.Contains(out.String(), "ready\n") })
			want := "ready\n"
			for i, s := range tt.send {
				if err := c.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
				if i < len(tt.says) {
					want += tt.says[i] + "\n"
					eventually(t, tt.says[i], func() bool { return strings.HasPrefix(squash(out.String()), squash(want)) })
				}
			}
			c.Wait()
			if got := c.ProcessState.ExitCode(); got != tt.code {
				t.Errorf("exit code %d, want %d; output %s", got, tt.code, out)
			}
		})
	}
}

// A reader of our output that goes away is a broken pipe to the app, which ends
// as a process does; we stay to clean up.
func TestBrokenPipe(t *testing.T) {
	u := newUser(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := u.cmd("run", probe, "lines", "1000000")
	c.Stdout = w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	io.ReadFull(r, make([]byte, 100))
	r.Close()
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != 141 && got != 1 {
		t.Errorf("exit code %d (%v), want that of the app: 141, or 1 of its own", got, c.ProcessState)
	}
	if left, _ := os.ReadDir(filepath.Join(u.dir, "state/noyau/pvms")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// squash lets text be compared without regard to line ends.
func squash(s string) string { return strings.Join(strings.Fields(s), " ") }

// --trace prints the app's calls on standard error, also into the log.
func TestTrace(t *testing.T) {
	u := newUser(t)
	const want = `openat(AT_FDCWD, "/tmp/traced", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0644) = `
	if r := u.do("run", "--trace", probe, "write", "/tmp/traced", "x"); r.code != 0 || !strings.Contains(r.err, want) || r.out != "" {
		t.Errorf("%+v", r)
	}
	if r := u.do("run", probe, "write", "/tmp/traced", "x"); r.code != 0 || r.err != "" {
		t.Errorf("without --trace: %+v", r)
	}
	u.ok("run", "-d", "--name", "tr", "--trace", probe, "write", "/tmp/traced", "x")
	u.ok("wait", "tr")
	if r := u.do("logs", "tr"); !strings.Contains(r.err, want) {
		t.Errorf("log: %+v", r)
	}
}

// A foreground pVM is managed like any other while it runs.
func TestForegroundIsManaged(t *testing.T) {
	u := newUser(t)
	c, out := u.start(nil, "run", "--name", "fg", probe, "polite")
	eventually(t, "ready", func() bool { return strings.Contains(out.String(), "ready\n") })
	if got := u.ok("ps", "--format", "{{.Name}} {{.Phase}}"); got != "fg running\n" {
		t.Errorf("ps: %q", got)
	}
	u.fails(125, []string{"run", "--name", "fg", probe}, "in use")
	u.fails(1, []string{"logs", "fg"}, "not detached")
	u.ok("stop", "fg")
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != 55 {
		t.Errorf("exit code %d, want 55", got)
	}
	if got := u.ok("ps", "-aq"); got != "" {
		t.Errorf("left: %q", got)
	}
}

// Without a place for it the error says which variable names one.
func TestNoPlace(t *testing.T) {
	u := newUser(t)
	for _, tt := range []struct {
		env, word string
		args      []string
	}{
		{"XDG_STATE_HOME=/dev/null", "XDG_STATE_HOME", []string{"run", "-d", probe, "exit", "0"}},
		{"XDG_RUNTIME_DIR=/dev/null", "", []string{"run", probe, "exit", "0"}},
		{"XDG_STATE_HOME=/dev/null", "", []string{"run", probe, "exit", "0"}}, // it is only not listed
		{"XDG_CACHE_HOME=/dev/null", "XDG_CACHE_HOME", []string{"run", "../../examples/hello"}},
	} {
		c := u.cmd(tt.args...)
		c.Env = append(c.Env, tt.env)
		if r := u.finish(c); tt.word == "" && r.code != 0 || tt.word != "" && (r.code != 125 || !strings.Contains(r.err, "set "+tt.word)) {
			t.Errorf("%s %q: %+v", tt.env, tt.args, r)
		}
	}
}

// A build that finds no room says so, whatever the go command says of it, and where.
func TestFullCache(t *testing.T) {
	u := newUser(t)
	for _, size := range []string{"64k", "2m"} { // of the shadow GOROOT there is a part, all
		dir := t.TempDir()
		c := exec.Command("sh", "-c", `mount -t tmpfs -o size=$1 none "$2" || exit 77; XDG_CACHE_HOME=$2 exec "$0" run ../../examples/hello`, noyau, size, dir)
		c.Env = u.env
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
		out, err := c.CombinedOutput()
		if errors.Is(err, syscall.EPERM) || c.ProcessState.ExitCode() == 77 {
			t.Skipf("no mount namespace of its own: %v %s", err, out)
		}
		if s := string(out); c.ProcessState.ExitCode() != 125 || !strings.Contains(s, "no space left on device; make room at "+dir) {
			t.Errorf("%s: %v: %s", size, err, s)
		}
	}
}

// One without a name is too, once it has run for a moment, under the name that its app has
// as host name; one that ends before leaves no trace.
func TestForegroundWithoutName(t *testing.T) {
	u := newUser(t)
	c, out := u.start(nil, "run", probe, "polite")
	var name string
	eventually(t, "listed", func() bool {
		name = strings.TrimSpace(u.ok("ps", "--format", "{{.Name}}"))
		return name != ""
	})
	eventually(t, "ready", func() bool { return strings.Contains(out.String(), "ready\n") })
	u.ok("stop", name)
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != 55 {
		t.Errorf("exit code %d, want 55", got)
	}
	if got := u.ok("run", probe, "hostname"); !strings.HasPrefix(got, "probe-") || got == name+"\n" {
		t.Errorf("the second is %q, the first was %q", got, name)
	}
	if got := u.ok("ps", "-aq"); got != "" {
		t.Errorf("left: %q", got)
	}
}

// A monitor that hangs does not keep its pVM alive: rm -f kills both.
func TestMonitorHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a timeout of ten seconds")
	}
	u := newUser(t)
	u.ok("run", "-d", "--name", "h", probe, "sleep")
	var all []struct {
		Status struct {
			PID     int
			Monitor struct{ PID int }
		}
	}
	if err := json.Unmarshal([]byte(u.ok("inspect", "h")), &all); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(all[0].Status.Monitor.PID, syscall.SIGSTOP)
	u.ok("rm", "-f", "h")
	eventually(t, "both are gone", func() bool { return !running(all[0].Status.Monitor.PID) && !running(all[0].Status.PID) })
}

// The README's first command.
func TestHelloExample(t *testing.T) {
	u := newUser(t)
	if got := u.ok("run", "--hostname", "box", "../../examples/hello", "Ada"); !strings.HasPrefix(got, "Hello, Ada! I am process 1 on box, built with go1.") {
		t.Errorf("got %q", got)
	}
}
