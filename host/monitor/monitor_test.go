package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/tty"
	"noyau.dev/host/tty/ttytest"
)

// guest is the configuration of a pVM that does what.
func guest(what string) Config {
	return Config{Image: "/proc/self/exe", Name: "Test_1.x", Isolation: "native", Env: []string{guestEnv + "=" + what}}
}

func run(t testing.TB, c Config) *Instance {
	t.Helper()
	i, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Kill(); i.Wait() })
	return i
}

// output collects and can be waited on.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) { o.mu.Lock(); defer o.mu.Unlock(); return o.b.Write(p) }
func (o *output) String() string              { o.mu.Lock(); defer o.mu.Unlock(); return o.b.String() }
func (o *output) wait(t testing.TB, what string) {
	t.Helper()
	for range 4000 {
		if strings.Contains(o.String(), what) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%q did not come; output: %q", what, o.String())
}

func TestExitCode(t *testing.T) {
	for _, code := range []string{"0", "1", "143", "255"} {
		if e := run(t, guest("exit:"+code)).Wait(); e.Signal != 0 || e.Reason != "" || code != itoa(e.Code) {
			t.Errorf("exit %s: %+v", code, e)
		}
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestBoot(t *testing.T) {
	dir := t.TempDir()
	c := guest("boot")
	var out, trace output
	c.Stdout, c.Trace, c.TraceTo = &out, true, &trace
	c.Dir, c.UID, c.GID, c.Memory = "/data", 7, 8, 64<<20
	c.Volumes = []Volume{{Host: dir, Guest: "/data", ReadOnly: true}}
	c.Terminal.Rows = 24
	c.Files = []File{{Path: "/etc/hosts", Mode: 0o600, Content: []byte("mine")}}
	if e := run(t, c).Wait(); e.Code != 0 {
		t.Fatalf("%+v: %s", e, out.String())
	}
	var s seen
	if err := json.Unmarshal([]byte(out.String()), &s); err != nil {
		t.Fatal(err)
	}
	h := s.Head
	if h.UID != 7 || h.GID != 8 || h.Memory != 64<<20 || h.PID != 1 || h.TickUS != 10000 || h.ID == 0 || h.Seed == [32]byte{} {
		t.Errorf("header %+v", h)
	}
	if h.Flags != abi.BootTrace {
		t.Errorf("flags %x", h.Flags)
	}
	if s.Hostname != "test-1" || s.Dir != "/data" || s.Rows != 24 || !s.Sealed {
		t.Errorf("%+v", s)
	}
	if s.Files["/etc/hosts"] != "mine" || !strings.HasPrefix(s.Files["/etc/resolv.conf"], "nameserver 10.0.2.3\n") || s.Files["/etc/hostname"] != "test-1\n" {
		t.Errorf("files %q", s.Files)
	}
	if s.Volumes["/data"] != 0<<8|abi.VolumeReadOnly {
		t.Errorf("volumes %v", s.Volumes)
	}
	if _, err := os.Stat(zoneinfo); err == nil && s.Volumes[zoneinfo] != 1<<8|abi.VolumeReadOnly {
		t.Errorf("time zones are not shown: %v", s.Volumes)
	}
	if f, _ := certificates(); f != nil {
		f.Close()
		if got := s.HostFile[certPath]; got != "true <nil>" {
			t.Errorf("certificates: %q", got)
		}
	}
	if trace.String() != "traced\n" {
		t.Errorf("trace: %q", trace.String())
	}
}

func TestStreams(t *testing.T) {
	t.Run("echo", func(t *testing.T) {
		in := strings.Repeat("some input\n", 100_000)
		c := guest("echo")
		var out output
		c.Stdin, c.Stdout = strings.NewReader(in), &out
		if e := run(t, c).Wait(); e.Code != 0 || out.String() != in+"end" {
			t.Errorf("%+v, %d bytes; want %d", e, len(out.String()), len(in)+3)
		}
	})
	t.Run("no input", func(t *testing.T) {
		c := guest("echo")
		var out output
		c.Stdout = &out
		if run(t, c).Wait(); out.String() != "end" {
			t.Errorf("%q", out.String())
		}
	})
	t.Run("input that never ends", func(t *testing.T) {
		r, w, _ := os.Pipe()
		defer w.Close()
		defer r.Close()
		c := guest("exit:4")
		c.Stdin = r
		if e := run(t, c).Wait(); e.Code != 4 {
			t.Errorf("%+v", e)
		}
		w.Write([]byte("x")) // not swallowed by the pVM that ended
		b := make([]byte, 1)
		r.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := r.Read(b); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || string(b) != "x" {
			t.Errorf("read %q, %v", b, err)
		}
	})
	t.Run("blocking input", func(t *testing.T) {
		var p [2]int
		unix.Pipe2(p[:], unix.O_CLOEXEC)
		r := os.NewFile(uintptr(p[0]), "blocking")
		defer r.Close()
		c := guest("exit:4")
		c.Stdin = r
		run(t, c).Wait()
		time.Sleep(50 * time.Millisecond)
		unix.Write(p[1], []byte("x"))
		unix.Close(p[1])
		b := make([]byte, 1)
		if _, err := r.Read(b); err != nil || string(b) != "x" {
			t.Errorf("the pVM that ended swallowed input: %q, %v", b, err)
		}
	})
	t.Run("slow reader", func(t *testing.T) {
		r, w := io.Pipe()
		c := guest("much:3000000")
		c.Stdout = w
		i := run(t, c)
		time.Sleep(100 * time.Millisecond)
		select {
		case <-i.Done():
			t.Error("3 MB were buffered somewhere")
		default:
		}
		go func() { i.Wait(); w.Close() }()
		n, _ := io.Copy(io.Discard, r)
		if want := int64(3000000 / 1024 * 1024); n != want {
			t.Errorf("%d bytes; want %d", n, want)
		}
	})
	t.Run("broken pipe", func(t *testing.T) {
		c := guest("much:100000000")
		c.Stdout = failing{}
		if e := run(t, c).Wait(); e.Code != 3 {
			t.Errorf("%+v; want exit code 3 of a guest that saw EPIPE", e)
		}
	})
	t.Run("one writer", func(t *testing.T) {
		var out output
		c := guest("both")
		c.Stdout, c.Stderr = &out, &out
		run(t, c).Wait()
		if !strings.HasPrefix(out.String(), "o0 e0 o1 e1 o2 e2 ") || len(strings.Fields(out.String())) != 1000 {
			t.Errorf("order was not kept: %.60q", out.String())
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestSignals(t *testing.T) {
	var out output
	c := guest("signals")
	c.Stdout = &out
	i := run(t, c)
	out.wait(t, "ready")
	i.Signal(unix.SIGHUP)
	out.wait(t, "op1:1")
	i.Resize(40, 120)
	out.wait(t, "op2:40")
	e := i.Stop(20 * time.Second)
	if e.Code != 143 || e.Signal != unix.SIGTERM || !strings.Contains(e.Reason, "SIGTERM") {
		t.Errorf("%+v", e)
	}
	if err := i.Signal(unix.SIGTERM); err != unix.ESRCH {
		t.Errorf("signal after the end: %v", err)
	}
}

func TestKill(t *testing.T) {
	for _, tt := range []struct {
		name, reason string
		do           func(i *Instance, cancel func())
	}{
		{"kill", "killed", func(i *Instance, _ func()) { i.Kill() }},
		{"stop", "did not stop within 50ms of SIGTERM", func(i *Instance, _ func()) { i.Stop(50 * time.Millisecond) }},
		{"context", "context canceled", func(_ *Instance, cancel func()) { cancel() }},
		{"broker", "a bug", func(i *Instance, _ func()) { i.failed(errors.New("a bug")) }},
		{"outside", "from outside", func(i *Instance, _ func()) { unix.Kill(i.Info().Pid, unix.SIGKILL) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var out output
			c := guest("deaf")
			c.Stdout = &out
			i, err := Start(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			out.wait(t, "ready")
			tt.do(i, cancel)
			if e := i.Wait(); e.Code != 137 || e.Signal != unix.SIGKILL || !strings.Contains(e.Reason, tt.reason) {
				t.Errorf("%+v", e)
			}
		})
	}
	if e := run(t, guest("sigsys")).Wait(); e.Code != 159 || !strings.Contains(e.Reason, "forbidden system call") {
		t.Errorf("%+v", e)
	}
}

// The app may change the terminal; its end changes it back.
func TestTerminal(t *testing.T) {
	_, term := ttytest.Open(t)
	before, err := tty.Get(term)
	if err != nil {
		t.Fatal(err)
	}
	c := guest("terminal")
	var out output
	c.Stdout, c.Terminal.In = &out, term
	i := run(t, c)
	out.wait(t, "quiet true "+itoa(abi.BootTTY0))
	if now, _ := tty.Get(term); now == before {
		t.Error("the app's change did not reach the terminal")
	}
	i.Kill()
	i.Wait()
	if now, _ := tty.Get(term); now != before {
		t.Error("the terminal was not restored")
	}
}

func TestVolumeAndPort(t *testing.T) {
	dir := t.TempDir()
	c := guest("file:kept")
	c.Volumes = []Volume{{Host: dir, Guest: "/data"}}
	if e := run(t, c).Wait(); e.Code != 0 {
		t.Fatalf("%+v", e)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "note")); string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}

	c = guest("serve")
	var out output
	c.Stdout = &out
	c.Publish = []Publish{{IP: netip.MustParseAddr("127.0.0.1"), GuestPort: 80}}
	i := run(t, c)
	out.wait(t, "ready")
	p := i.Info().Ports
	if len(p) != 1 || p[0].GuestPort != 80 {
		t.Fatalf("%+v", p)
	}
	if st, err := i.Stats(); err != nil || st.Requests != 1 || st.Handles != 1 || st.RSS == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	conn, err := net.Dial("tcp", p[0].Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b, _ := io.ReadAll(conn)
	if string(b) != "hello from 10.0.2.15" {
		t.Errorf("%q", b)
	}
	i.Wait()
	l, err := net.Listen("tcp", p[0].Host)
	if err != nil {
		t.Errorf("the port is not free after the end: %v", err)
	} else {
		l.Close()
	}
}

func TestStartErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct {
		want string
		edit func(c *Config)
	}{
		{"no image", func(c *Config) { c.Image = "" }},
		{"no such file", func(c *Config) { c.Image = "/nowhere" }},
		{"isolation \"foo\" is not known", func(c *Config) { c.Isolation = "foo" }},
		{"address already in use", func(c *Config) {
			c.Publish = []Publish{{IP: netip.MustParseAddr("127.0.0.1"), HostPort: uint16(l.Addr().(*net.TCPAddr).Port), GuestPort: 80}}
		}},
		{"--net none", func(c *Config) { c.Net.None = true; c.Publish = []Publish{{GuestPort: 80}} }},
		{"too small", func(c *Config) { c.Memory = 1000 }},
		{"not an absolute path", func(c *Config) { c.Dir = "data" }},
		{"cannot open the host directory", func(c *Config) { c.Volumes = []Volume{{Host: "/nowhere", Guest: "/x"}} }},
		{"has a volume already", func(c *Config) { c.Volumes = []Volume{{Host: "/", Guest: "/x"}, {Host: "/tmp", Guest: "/x"}} }},
		{"zero byte", func(c *Config) { c.Args = []string{"a\x00b"} }},
		{"without . and ..", func(c *Config) { c.Files = []File{{Path: "/a/../b"}} }},
	} {
		c := guest("exit:0")
		tt.edit(&c)
		if i, err := Start(t.Context(), c); err == nil {
			i.Wait()
			t.Errorf("no error; want %q", tt.want)
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v; want %q", err, tt.want)
		}
	}
}

// What a pVM costs in the monitor, and that it gives everything back.
func TestCost(t *testing.T) {
	count := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc: " + err.Error())
		}
		return len(d)
	}
	run(t, guest("exit:0")).Wait() // what is made once per process is made
	fds, routines := count(), runtime.NumGoroutine()
	const n = 20
	var all []*Instance
	for range n {
		var out output
		c := guest("deaf")
		c.Stdout, c.Stderr = &out, &out
		i, err := Start(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		out.wait(t, "ready")
		all = append(all, i)
	}
	// Two goroutines of each are the test's own way to wait for a process.
	if got := (runtime.NumGoroutine() - routines) / n; got > 5 {
		t.Errorf("%d goroutines for a pVM", got)
	}
	if got := (count() - fds) / n; got > 6 {
		t.Errorf("%d descriptors for a pVM", got)
	}
	for _, i := range all {
		i.Kill()
		i.Wait()
	}
	for range 400 {
		if count() <= fds && runtime.NumGoroutine() <= routines {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("after the end: %d descriptors, %d goroutines; before: %d, %d", count(), runtime.NumGoroutine(), fds, routines)
}
