package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/policy"
)

// A background monitor gets the configuration through a file: nothing that the
// command line can say may be lost on the way.
func TestConfigThroughJSON(t *testing.T) {
	dir := t.TempDir()
	f, _, err := parse(t, "-p", "127.0.0.1:1:2/udp", "-p", "3", "-v", dir+":/d:ro", "-e", "A=\x01ü", "-m", "64m", "--name", "n", "-w", "/x",
		"--isolation", "vm", "--trace", "--net", "host-loopback", "--allow-out", "*.a.b:1/tcp", "--allow-out", "10.0.0.0/8",
		"--hostname", "h", "-u", "1:2", "--ulimit", "nofile=1:2", "--pids-limit", "3", "--stop-signal", "HUP", "--isolation-opt", "k=v", "img")
	if err != nil {
		t.Fatal(err)
	}
	want, err := f.config("app", []string{"x", ""})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got monitor.Config
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.StopSignal != unix.SIGHUP || len(got.Net.Rules) != 2 || got.Publish[0].IP != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("%+v", got)
	}
}

// So does what the control socket tells.
func TestInfoThroughJSON(t *testing.T) {
	want := monitor.Info{
		Name: "n", Isolation: "process", Pid: 7, Started: time.Unix(1, 2).UTC(), Sandbox: []string{"s"}, Missing: []string{"m"},
		Ports: []monitor.Port{{Publish: policy.Publish{GuestPort: 80}, Host: "1.2.3.4:5"}},
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got monitor.Info
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
}

func TestDropInherited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	inherited, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD, 500) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	if err := dropInherited(499); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(inherited), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the inherited descriptor is open: %v", err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Errorf("a descriptor of our own was closed: %v", err)
	}
}
