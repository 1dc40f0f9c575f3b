package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// onTerminal starts a command on a terminal of its own, as a shell does in the
// foreground. before is how the terminal was.
func onTerminal(t *testing.T, u *user, args ...string) (wait func() int, master io.Writer, slave int, out *stream, resize func(cols, rows uint16), before *unix.Termios) {
	t.Helper()
	m, s, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { m.Close(); s.Close() })
	pty.Setsize(m, &pty.Winsize{Rows: 30, Cols: 100})
	if before, err = unix.IoctlGetTermios(int(s.Fd()), unix.TCGETS); err != nil {
		t.Fatal(err)
	}
	c := u.cmd(args...)
	c.Stdin, c.Stdout, c.Stderr = s, s, s
	c.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	out = new(stream)
	go io.Copy(out, m)
	t.Cleanup(func() { c.Process.Kill() })
	wait = func() int { c.Wait(); return c.ProcessState.ExitCode() }
	resize = func(cols, rows uint16) { pty.Setsize(m, &pty.Winsize{Rows: rows, Cols: cols}) }
	return wait, m, int(s.Fd()), out, resize, before
}

// An app that makes the terminal raw and dies leaves it as it was.
func TestTerminal(t *testing.T) {
	for _, end := range []string{"exit", "panic"} {
		u := newUser(t)
		wait, in, slave, out, resize, before := onTerminal(t, u, "run", probe, "tty", end)
		eventually(t, "the app made the terminal raw", func() bool { return strings.Contains(out.String(), "raw\r\n") })
		if !strings.Contains(out.String(), "size 100x30\r\n") {
			t.Errorf("window size: %q", out)
		}
		raw, _ := unix.IoctlGetTermios(slave, unix.TCGETS)
		if raw.Lflag&unix.ICANON != 0 || raw.Lflag&unix.ISIG != 0 {
			t.Error("the terminal is not raw")
		}
		in.Write([]byte{3}) // Ctrl-C is a byte now
		eventually(t, "the byte arrives", func() bool { return strings.Contains(out.String(), "read 3\r\n") })
		resize(77, 11)
		wait()
		eventually(t, "the new size", func() bool { return strings.Contains(out.String(), "size 77x11\r\n") })
		after, err := unix.IoctlGetTermios(slave, unix.TCGETS)
		if err != nil || *after != *before {
			t.Errorf("%s: the terminal is not as it was: %+v, before %+v (%v)", end, after, before, err)
		}
	}
}

// Ctrl-C typed at the terminal goes to the app; the third kills it.
func TestCtrlC(t *testing.T) {
	u := newUser(t)
	wait, in, _, out, _, _ := onTerminal(t, u, "run", probe, "stubborn")
	eventually(t, "ready", func() bool { return strings.Contains(out.String(), "ready\r\n") })
	for n := 1; n <= 2; n++ {
		in.Write([]byte{3})
		eventually(t, "the app gets it", func() bool { return strings.Count(out.String(), "got interrupt\r\n") == n })
	}
	eventually(t, "the hint", func() bool { return strings.Contains(out.String(), "once more kills") })
	in.Write([]byte{3})
	if code := wait(); code != 137 {
		t.Errorf("exit code %d, want 137: %q", code, out)
	}
}
