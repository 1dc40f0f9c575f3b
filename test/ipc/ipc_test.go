// Package ipc tests unix sockets between members of a family and between families, and
// rights that are given up, with real images under each isolation.
package ipc

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"noyau.dev/host/monitor"
	"noyau.dev/host/volume"
	"noyau.dev/test/internal/pvms"
)

func TestMain(m *testing.M) { os.Exit(pvms.Main(m)) }

func config(t *testing.T, isolation string, args ...string) monitor.Config {
	t.Helper()
	c := pvms.Config(t, isolation, args...)
	c.Forks, c.Exec = 16, []monitor.Exec{{Name: monitor.ExecSelf}}
	return c
}

// TestUnix: natively and in pVMs the same.
func TestUnix(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "guest")
	if out, err := exec.Command("go", "build", "-o", bin, "./guest").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, natively := range map[string]bool{
		"stream": true, "abstract": true, "packet": true, "web": true, "names": true, "load": true,
		"datagrams": true, "flood": true,
		"rights": false, // descriptors do go natively
	} {
		t.Run(name, func(t *testing.T) {
			want := ""
			if natively {
				c := exec.Command(bin, name)
				c.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
				c.Stderr = os.Stderr
				out, err := c.Output()
				if err != nil {
					t.Fatal("natively: ", err)
				}
				want = string(out)
			}
			pvms.Isolations(t, func(t *testing.T, isolation string) {
				c := config(t, isolation, name)
				c.Forks = 0
				got, e := pvms.Run(t, c)
				if e.Code != 0 || natively && got != want || !strings.HasSuffix(got, "done\n") {
					t.Errorf("%q, natively %q; %+v", got, want, e)
				}
			})
		})
	}
}

// TestFork: the same with forks.
func TestFork(t *testing.T) {
	for _, name := range []string{"fork", "prefork", "supervised", "datagramfork"} {
		t.Run(name, func(t *testing.T) {
			pvms.Isolations(t, func(t *testing.T, isolation string) {
				if out, e := pvms.Run(t, config(t, isolation, name)); e.Code != 0 || !strings.HasSuffix(out, "done\n") {
					t.Errorf("%q, %+v", out, e)
				}
			})
		})
	}
}

// TestNarrow: what was given up is refused, whoever asks.
func TestNarrow(t *testing.T) {
	for _, name := range []string{"narrow", "narrowfork", "narrowother"} {
		t.Run(name, func(t *testing.T) {
			pvms.Isolations(t, func(t *testing.T, isolation string) {
				c := config(t, isolation, name)
				c.Volumes = []monitor.Volume{volume.Spec{Host: t.TempDir(), Guest: "/data"}}
				if out, e := pvms.Run(t, c); e.Code != 0 || !strings.HasSuffix(out, "done\n") {
					t.Errorf("%q, %+v", out, e)
				}
			})
		})
	}
}

// TestStrangers: a name of one family means nothing in another.
func TestStrangers(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		_, stop := listen(t, config(t, isolation, "channel-listen", "x"), nil)
		defer stop()
		for _, name := range []string{"@noyau/x", "@x", "/tmp/x"} {
			c := config(t, isolation, "probe", name)
			c.Stderr = io.Discard
			if _, e := pvms.Run(t, c); name != "@noyau/x" && e.Code != 0 {
				t.Errorf("%s: %+v", name, e)
			}
		}
	})
}

// listen starts a pVM that listens at a channel and returns when it does, or has ended.
func listen(t *testing.T, c monitor.Config, channels []monitor.Channel) (ended bool, stop func()) {
	t.Helper()
	in, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdin, c.Stdout, c.Channels = in, outW, channels
	c.Stderr = io.Discard
	i, err := monitor.Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		i.Wait()
		outW.Close()
	}()
	n, _ := out.Read(make([]byte, 64))
	return n == 0, func() {
		inW.Close()
		i.Wait()
		in.Close()
		out.Close()
	}
}

// TestChannel: two families talk if the configuration of both says so.
func TestChannel(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		dir := filepath.Join(t.TempDir(), "channels")
		for _, c := range []struct {
			name         string
			listen, dial []monitor.Channel
			listens, ok  bool
		}{
			{"both", []monitor.Channel{{Name: "x", Listen: true}}, []monitor.Channel{{Name: "x"}}, true, true},
			{"again", []monitor.Channel{{Name: "x", Listen: true}}, []monitor.Channel{{Name: "x"}}, true, true},
			{"listener only", []monitor.Channel{{Name: "x", Listen: true}}, nil, true, false},
			{"dialer only", nil, []monitor.Channel{{Name: "x"}}, false, false},
			{"another name", []monitor.Channel{{Name: "x", Listen: true}}, []monitor.Channel{{Name: "y"}}, true, false},
			{"both listen", []monitor.Channel{{Name: "x", Listen: true}}, []monitor.Channel{{Name: "x", Listen: true}}, true, false},
			{"both dial", []monitor.Channel{{Name: "x"}}, []monitor.Channel{{Name: "x"}}, false, false},
		} {
			l := config(t, isolation, "channel-listen", "x")
			l.Forks, l.Exec, l.ChannelDir = 0, nil, dir
			ended, stop := listen(t, l, c.listen)
			if ended == c.listens {
				t.Errorf("%s: listening %v", c.name, !ended)
			}
			d := config(t, isolation, "channel-dial", "x")
			d.Forks, d.Exec, d.ChannelDir, d.Channels, d.Stderr = 0, nil, dir, c.dial, io.Discard
			out, e := pvms.Run(t, d)
			if ok := e.Code == 0 && out == "got across\n"; ok != c.ok {
				t.Errorf("%s: %q, %+v", c.name, out, e)
			}
			stop()
		}
		// One listener at a time, and nothing is left of those that have ended.
		one := []monitor.Channel{{Name: "x", Listen: true}}
		l := config(t, isolation, "channel-listen", "x")
		l.ChannelDir = dir
		ended, stop := listen(t, l, one)
		second, stop2 := listen(t, l, one)
		if ended || !second {
			t.Errorf("first has ended: %v, second: %v", ended, second)
		}
		stop2()
		stop()
		if list, _ := filepath.Glob(filepath.Join(dir, "*.sock")); len(list) != 0 {
			t.Error(list)
		}
	})
}
