package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
)

// parse runs the flag parser of noyau run as the command does.
func parse(t *testing.T, args ...string) (*runFlags, []string, error) {
	t.Helper()
	var f runFlags
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	f.add(fs)
	err := fs.Parse(args)
	return &f, fs.Args(), err
}

func TestRunConfig(t *testing.T) {
	t.Setenv("NOYAU_ISOLATION", "")
	dir := t.TempDir()
	tests := []struct {
		name  string
		flags []string
		check func(c monitor.Config) bool
	}{
		{"ports", []string{"-p", "8080:80", "-p", "127.0.0.1:53:53/udp", "-p", "[::1]:1:2"}, func(c monitor.Config) bool {
			return len(c.Publish) == 3 && c.Publish[0].HostPort == 8080 && c.Publish[0].GuestPort == 80 &&
				c.Publish[1].UDP && c.Publish[1].IP.String() == "127.0.0.1" && c.Publish[2].IP.Is6()
		}},
		{"volumes", []string{"-v", dir + ":/data", "-v", dir + ":/conf:ro"}, func(c monitor.Config) bool {
			return len(c.Volumes) == 2 && c.Volumes[0].Host == dir && !c.Volumes[0].ReadOnly && c.Volumes[1].ReadOnly && c.Volumes[1].Guest == "/conf"
		}},
		{"memory", []string{"-m", "64m"}, func(c monitor.Config) bool { return c.Memory == 64<<20 }},
		{"name is the host name", []string{"--name", "My_Web"}, func(c monitor.Config) bool { return c.Name == "My_Web" && c.Hostname == "my-web" && c.Arg0 == "app" }},
		{"default names", nil, func(c monitor.Config) bool { return c.Name == "app" && c.Hostname == "app" && c.Isolation == "auto" }},
		{"environment", []string{"-e", "A=1", "-e", "A=2", "-e", "B=x=y"}, func(c monitor.Config) bool {
			return reflect.DeepEqual(c.Env[len(c.Env)-2:], []string{"A=2", "B=x=y"}) && len(c.Env) == 5
		}},
		{"own PATH", []string{"-e", "PATH=/x"}, func(c monitor.Config) bool {
			return strings.Count(strings.Join(c.Env, "\n"), "PATH=") == 1 && hasEnv(c.Env, "HOME") && hasEnv(c.Env, "HOSTNAME")
		}},
		{"policy", []string{"--allow-out", "example.org:443/tcp", "--allow-out", "10.0.0.0/8"}, func(c monitor.Config) bool {
			return len(c.Net.Rules) == 2 && c.Net.Rules[0].Name == "example.org" && !c.Net.None
		}},
		{"no net", []string{"--net=none"}, func(c monitor.Config) bool { return c.Net.None }},
		{"loopback", []string{"--net", "host-loopback", "--allow-out", "10.0.2.2"}, func(c monitor.Config) bool { return c.Net.HostLoopback }},
		{"channels", []string{"--channel", "a=listen", "--channel", "b.1=dial"}, func(c monitor.Config) bool {
			return reflect.DeepEqual(c.Channels, []monitor.Channel{{Name: "a", Listen: true}, {Name: "b.1"}}) && filepath.Base(c.ChannelDir) == "channels"
		}},
		{"user", []string{"-u", "1000:100"}, func(c monitor.Config) bool { return c.UID == 1000 && c.GID == 100 }},
		{"user alone", []string{"-u", "7"}, func(c monitor.Config) bool { return c.UID == 7 && c.GID == 7 }},
		{"ulimit", []string{"--ulimit", "nofile=10:20"}, func(c monitor.Config) bool {
			return reflect.DeepEqual(c.Limits, []monitor.Limit{{Resource: unix.RLIMIT_NOFILE, Soft: 10, Hard: 20}})
		}},
		{"trace", []string{"--trace", "--isolation", "process"}, func(c monitor.Config) bool { return c.Trace && c.Isolation == "process" }},
		{"isolation of the environment", nil, func(c monitor.Config) bool {
			t.Setenv("NOYAU_ISOLATION", "vm")
			f, _, _ := parse(t, "img")
			t.Setenv("NOYAU_ISOLATION", "")
			g, _, _ := parse(t, "img")
			return f.isolation == "vm" && g.isolation == "auto"
		}},
		{"stop signal", []string{"--stop-signal", "int"}, func(c monitor.Config) bool { return c.StopSignal == unix.SIGINT }},
		{"docker's -it", []string{"-it"}, func(c monitor.Config) bool { return true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, rest, err := parse(t, append(tt.flags, "./pkg", "-p", "--help", "--", "x")...)
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"./pkg", "-p", "--help", "--", "x"}; !reflect.DeepEqual(rest, want) {
				t.Errorf("the app's arguments became %q", rest)
			}
			c, err := f.config("app", nil)
			if err != nil || !tt.check(c) {
				t.Errorf("%q: %v\n%+v", tt.flags, err, c)
			}
		})
	}
}

func TestRunConfigRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	tests := []struct {
		flags []string
		want  string
	}{
		{[]string{"-p", "x"}, `publish "x"`},
		{[]string{"-p", "1:2/sctp"}, `"sctp" is not a protocol`},
		{[]string{"-v", "/a"}, `volume "/a"`},
		{[]string{"-v", dir + "/none:/x"}, "create it first"},
		{[]string{"-v", file + ":/x"}, "is not a directory"},
		{[]string{"-v", dir + ":/x", "-v", dir + ":/x/"}, "another volume is at /x"},
		{[]string{"-v", dir + ":/"}, "cannot replace the root"},
		{[]string{"-m", "lots"}, `memory "lots"`},
		{[]string{"-m", "-1"}, `memory "-1"`},
		{[]string{"-e", "=x"}, "NAME=value"},
		{[]string{"--env-file", dir + "/none"}, "env-file"},
		{[]string{"-w", "rel"}, "absolute"},
		{[]string{"--net", "host"}, "default, none"},
		{[]string{"--net", "none", "-p", "1:1"}, "-p cannot"},
		{[]string{"--net", "none", "--allow-out", "a.b"}, "--allow-out cannot"},
		{[]string{"--allow-out", "a b"}, `allow-out "a b"`},
		{[]string{"--hostname", "a_b"}, "not a host name"},
		{[]string{"-u", "root"}, "want numbers"},
		{[]string{"--ulimit", "x"}, `ulimit "x"`},
		{[]string{"--stop-signal", "SIGNOPE"}, "not a signal"},
		{[]string{"--stop-timeout", "-1"}, "negative"},
		{[]string{"--fork", "-2"}, "negative"},
		{[]string{"--channel", "x"}, "NAME=listen"},
		{[]string{"--channel", "x=both"}, "NAME=listen"},
		{[]string{"--channel", "../x=dial"}, "NAME=listen"},
	}
	for _, tt := range tests {
		f, _, err := parse(t, append(tt.flags, "x")...)
		if err == nil {
			_, err = f.config("app", nil)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q in it", tt.flags, err, tt.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	os.WriteFile(file, []byte("\ufeff# comment\n\nA=file\r\n  B=with = and # and \"quotes\"\nHERE\nNOTHERE\nEMPTY=\n"), 0o600)
	lookup := func(k string) (string, bool) {
		v, ok := map[string]string{"HERE": "outer", "ALSO": "too"}[k]
		return v, ok
	}
	got, err := environment([]string{file}, []string{"A=flag", "ALSO", "MISSING"}, lookup)
	want := []string{"A=flag", `B=with = and # and "quotes"`, "HERE=outer", "EMPTY=", "ALSO=too"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q (%v)\nwant %q", got, err, want)
	}
	os.WriteFile(file, []byte("A=1\nno good=1\n"), 0o600)
	if _, err := environment([]string{file}, nil, lookup); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a bad line: %v", err)
	}
}

func TestGoStyle(t *testing.T) {
	tests := [][2]string{
		{"run -tags a,b -ldflags=-s ./x -tags y", "run --tags a,b --ldflags=-s ./x -tags y"},
		{"run -p 80:80 -trimpath -m 64m -mod vendor ./x -mod z", "run -p 80:80 --trimpath -m 64m --mod vendor ./x -mod z"},
		{"run -dp 80:80 -mod=mod ./x", "run -dp 80:80 --mod=mod ./x"},
		{"run -p80:80 -race ./x -race", "run -p80:80 --race ./x -race"},
		{"run --name -tags -tags t x", "run --name -tags --tags t x"},
		{"run -- -tags", "run -- -tags"},
		{"run -d -it --rm x -tags", "run -d -it --rm x -tags"},
		{"build -o out -gcflags -N ./x", "build -o out --gcflags -N ./x"},
		{"ps -tags", "ps -tags"},
		{"-tags", "-tags"},
		{"", ""},
	}
	for _, tt := range tests {
		args := strings.Fields(tt[0])
		got := goStyle(newRoot(args), args)
		if strings.Join(got, " ") != tt[1] {
			t.Errorf("%q became %q, want %q", tt[0], got, tt[1])
		}
	}
}

// What is set reaches the go command, what is not does not.
func TestGoFlagsPassed(t *testing.T) {
	f, _, err := parse(t, "--tags=a,b", "--ldflags=-X main.v=1 -s", "--trimpath", "--race", "x")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-tags=a,b", "-ldflags=-X main.v=1 -s", "-trimpath", "-race"}
	if got := f.goFlags(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]unix.Signal{"TERM": 15, "SIGTERM": 15, "sigint": 2, "9": 9, "USR1": 10} {
		if got, err := parseSignal(s); err != nil || got != want {
			t.Errorf("%s: %d %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65", "-1", "SIG", "KILLER"} {
		if got, err := parseSignal(s); err == nil {
			t.Errorf("%q is signal %d", s, got)
		}
	}
}

func TestPackageBase(t *testing.T) {
	wd, _ := os.Getwd()
	for _, tt := range [][3]string{
		{"./cmd/x", "example.org/m/cmd/x", "x"},
		{"example.org/tool/v2@latest", "example.org/tool/v2", "tool"},
		{"hello.go", "command-line-arguments", "hello"},
		{".", "", filepath.Base(wd)},
		{"x", "v2", "v2"},
	} {
		if got := packageBase(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s (%s): %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestExecFlag(t *testing.T) {
	for _, bad := range []string{"=x", "x=", "a=/no/such/image"} {
		f, _, err := parse(t, "--exec", bad, "x")
		if err == nil {
			_, err = f.images(t.Context())
		}
		if err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	f, _, err := parse(t, "--exec", "self", "x")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := f.images(t.Context()); err != nil || !reflect.DeepEqual(list, []monitor.Exec{{Name: monitor.ExecSelf}}) {
		t.Error(list, err)
	}
}

// The go command takes -gcflags for one pattern of packages after the other.
func TestRepeatedGoFlags(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags := addGoFlags(fs)
	if err := fs.Parse([]string{"--gcflags=a=-l", "--tags", "x,y", "--gcflags", "b=-N -l", "--trimpath"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"-tags=x,y", "-gcflags=a=-l", "-gcflags=b=-N -l", "-trimpath"}
	if got := flags(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A command that is made alone is the one that all together have.
func TestCommands(t *testing.T) {
	all := newRoot(nil)
	for _, c := range commands() {
		one := newRoot([]string{c.name, "-x"})
		if n := len(one.Commands()); n != 1 {
			t.Errorf("%s: %d commands were made", c.name, n)
		}
		cmd, _, err := one.Find([]string{c.name})
		if err != nil || cmd.Name() != c.name {
			t.Errorf("%s: found %s, %v", c.name, cmd.Name(), err)
			continue
		}
		other, _, err := all.Find([]string{c.name})
		if err != nil || other.UsageString() != cmd.UsageString() {
			t.Errorf("%s alone is another command: %v", c.name, err)
		}
	}
	if n := len(newRoot([]string{"rum"}).Commands()); n != len(commands()) { // they are suggestions
		t.Errorf("for a slip of the pen there are %d commands", n)
	}
}

// TestMayBeVM: a runner is launched ahead of commands that may need one, wherever the flag stands.
func TestMayBeVM(t *testing.T) {
	for args, want := range map[string]bool{
		"hello.img":                         true,
		"--isolation vm hello.img":          true,
		"--isolation=vm hello.img":          true,
		"--isolation process hello.img":     false,
		"-p 80 --isolation=process x":       false,
		"-m 64M x":                          false,
		"--memory=64M x":                    false,
		"--cpus 2 x":                        false,
		"--pids-limit=3 x":                  false,
		"--fork 4 x":                        false,
		"-- --isolation process":            true,
		"--isolation":                       true,
		"--name process hello.img":          true,
		"hello.img --isolation=process arg": false, // in vain, if it is the app's
	} {
		if got := mayBeVM(strings.Fields(args)); got != want {
			t.Errorf("%q: %v, want %v", args, got, want)
		}
	}
}
