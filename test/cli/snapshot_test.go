package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// frozen makes a snapshot of a server that hands out the lines of an open file.
func frozen(t *testing.T, u *user, flags ...string) (file, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lines"), []byte("one\ntwo\nthree\nfour\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	u.ok(append(append([]string{"run", "-d", "--name", "web", "-p", "127.0.0.1:" + port + ":8080", "-v", dir + ":/data", "-m", "64m"}, flags...), probe, "lines-of", "/data/lines")...)
	eventually(t, "the server answers", func() bool { return get("http://127.0.0.1:"+port+"/") == "one" })
	file = filepath.Join(t.TempDir(), "web.snap")
	if out := u.ok("snapshot", "web", "-o", file, "--compress"); out != file+"\n" {
		t.Errorf("snapshot printed %q", out)
	}
	u.ok("rm", "-f", "web")
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	return file, dir
}

func TestRestore(t *testing.T) {
	u := newUser(t)
	file, dir := frozen(t, u)
	port := freePort(t)
	v := dir + ":/data"
	u.fails(125, []string{"restore", "-d", file}, "say which directories they are", "-v "+v)
	u.fails(125, []string{"restore", "-d", "-v", v, "--files", "maybe", file}, "refuse, reopen, close")
	for _, flag := range []string{"--env=A=b", "--memory=64m", "--workdir=/", "--user=1", "--ulimit=nofile=9", "--tags=x"} {
		name, _, _ := strings.Cut(flag, "=")
		u.fails(125, []string{"restore", "-d", "-v", v, flag, file}, name, "of the snapshot")
		u.fails(125, []string{"clone", "-v", v, flag, file}, name, "of the snapshot")
	}
	u.fails(127, []string{"restore", file + "x"}, "no such file")
	u.ok("restore", "-d", "--name", "web", "-v", v, "-p", "127.0.0.1:"+port+":8080", file)
	eventually(t, "the restored server answers", func() bool { return get("http://127.0.0.1:"+port+"/") == "two" })
	if got := u.ok("inspect", "web"); !strings.Contains(got, `"memory": 67108864`) {
		t.Errorf("inspect does not show the memory limit of the original: %s", got)
	}
	if got := u.ok("ps", "--format", "{{.Name}} {{.Command}} {{.Ports}}"); got != fmt.Sprintf("web probe lines-of /data/lines 127.0.0.1:%s->8080/tcp\n", port) {
		t.Errorf("ps: %q", got)
	}
	u.ok("rm", "-f", "web")
	for _, command := range []string{"restore", "clone"} { // the ports of the original are no reason to refuse it
		u.fails(125, []string{command, "-d", "-v", v, "--net", "none", "-p", "8080", file}, "--net none")
		id := strings.Fields(u.ok(command, "-d", "-v", v, "--net", "none", file))[0]
		if got := u.ok("ps", "--format", "{{.Ports}}"); got != "\n" {
			t.Errorf("%s without a network has the ports %q", command, got)
		}
		u.ok("rm", "-f", id)
	}

	os.WriteFile(filepath.Join(dir, "lines"), []byte("eins\nzwei\ndrei\n"), 0o644)
	u.fails(125, []string{"restore", "-d", "-v", v, file}, "/data/lines", "it had 19 bytes and has 15")
	u.ok("restore", "-d", "--name", "web", "-v", v, "--files", "close", "-p", "127.0.0.1:"+port+":8080", file)
	eventually(t, "the restored server says that its file is closed", func() bool {
		return strings.Contains(get("http://127.0.0.1:"+port+"/"), "bad file descriptor")
	})
	u.ok("rm", "-f", "web")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x40
	os.WriteFile(file, b, 0o600)
	u.fails(126, []string{"restore", "-v", v, file}, "damaged")
	if got := u.ok("ps", "-aq"); got != "" {
		t.Errorf("left: %q", got)
	}
}

func TestClone(t *testing.T) {
	u := newUser(t)
	file, dir := frozen(t, u)
	v := dir + ":/data"
	clone := func(args ...string) []string { return append(append([]string{"clone", "-v", v}, args...), file) }
	lines := func(s string) [][]string {
		var all [][]string
		for l := range strings.Lines(s) {
			all = append(all, strings.Fields(l))
		}
		return all
	}
	host := func(ports string) string { h, _, _ := strings.Cut(ports, "->"); return "http://" + h + "/" }

	// Each has a port of its own, and goes on from the snapshot for itself.
	all := lines(u.ok(clone("-n", "3", "--name", "w", "-p", "127.0.0.1:0:8080")...))
	if len(all) != 3 {
		t.Fatal(all)
	}
	for i, l := range all {
		if len(l) != 3 || len(l[0]) != 12 || l[1] != fmt.Sprint("w-", i+1) {
			t.Fatal(l)
		}
		eventually(t, "a clone answers", func() bool { return get(host(l[2])) == "two" })
	}
	u.fails(125, clone("-n", "2", "--name", "w", "-p", "8080"), `"w-1" is in use`)
	u.fails(125, clone("-n", "0"), "want 1 to")
	if got := u.ok("stop", "w-2"); got != "w-2\n" {
		t.Errorf("stop: %q", got)
	}
	if got := get(host(all[2][2])); got != "three" {
		t.Errorf("another clone says %q when one was stopped", got)
	}
	if got := u.ok("rm", "-f", "w-*"); got != "w-1\nw-2\nw-3\n" {
		t.Errorf("rm: %q", got)
	}
	u.fails(1, []string{"stop", "w-*"}, "no such pVM")

	// So many come from a template; each is one of its own all the same.
	const many = 12
	all = lines(u.ok(clone("-n", strconv.Itoa(many), "--name", "m", "-p", "127.0.0.1:0:8080")...))
	if len(all) != many {
		t.Fatal(all)
	}
	for _, l := range all {
		eventually(t, "one of many clones answers", func() bool { return get(host(l[2])) == "two" })
	}
	u.ok("rm", "-f", "m-*")
	u.fails(125, append([]string{"clone", "-n", strconv.Itoa(many)}, file), "say which directories they are")

	// All share one port.
	port := freePort(t)
	u.ok(clone("-n", "3", "--name", "s", "-p", "127.0.0.1:"+port+":8080")...)
	eventually(t, "the clones answer", func() bool { return get("http://127.0.0.1:"+port+"/") == "two" })
	u.ok("kill", "s-1", "s-2")
	eventually(t, "the last clone answers", func() bool { r := get("http://127.0.0.1:" + port + "/"); return r == "three" || r == "two" })
	u.ok("rm", "-f", "s-*")

	// A range; one of its ports is taken: no clone is left.
	from := rangeOf(t, 3)
	r := fmt.Sprintf("127.0.0.1:%d-%d:8080", from, from+2)
	u.fails(125, clone("-n", "4", "-p", r), "3 ports are not enough for 4")
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", from+2))
	if err != nil {
		t.Fatal(err)
	}
	u.fails(125, clone("-n", "3", "-p", r), "another program or pVM has port "+strconv.Itoa(from+2))
	l.Close()
	u.fails(125, append([]string{"clone", "-n", "2"}, file), "say which directories they are")
	if got := u.ok("ps", "-aq"); got != "" {
		t.Errorf("left: %q", got)
	}
	ids := strings.Fields(u.ok(clone("-q", "-n", "3", "-p", r)...))
	if len(ids) != 3 {
		t.Fatal(ids)
	}
	for i := range 3 {
		eventually(t, "a clone answers", func() bool { return get(fmt.Sprintf("http://127.0.0.1:%d/", from+i)) == "two" })
	}
	u.ok(append([]string{"stop"}, ids...)...)
	for i := range 3 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", from+i)); err != nil {
			t.Error("after the clone was stopped:", err)
		} else {
			l.Close()
		}
	}
}

// TestInterrupted: a command that starts pVMs in the background and gets Ctrl-C leaves none of
// them, and no entries, whenever that is.
func TestInterrupted(t *testing.T) {
	u := newUser(t)
	file, dir := frozen(t, u)
	flags := []string{"--name", "k", "-v", dir + ":/data", "-p", "127.0.0.1:0:8080", file}
	for _, args := range [][]string{{"clone", "-n", "50"}, {"restore", "-d"}} {
		for after := time.Duration(0); after <= 80*time.Millisecond; after += 8 * time.Millisecond {
			c := u.cmd(append(args, flags...)...)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after)
			c.Process.Signal(os.Interrupt)
			late := time.AfterFunc(time.Minute, func() { c.Process.Kill() })
			err := c.Wait()
			if late.Stop(); err == nil {
				if all := strings.Fields(u.ok("ps", "-aq")); len(all) > 0 {
					u.ok(append([]string{"rm", "-f"}, all...)...)
				}
				continue
			}
			if got := u.ok("ps", "-a", "--format", "{{.Name}} {{.Status}}"); got != "" {
				t.Fatalf("%s, interrupted after %v, leaves\n%s", args[0], after, got)
			}
			if left, _ := filepath.Glob(filepath.Join(u.dir, "run", "noyau", "*")); len(left) != 0 {
				t.Fatalf("%s, interrupted after %v, leaves %v", args[0], after, left)
			}
		}
	}
}

// rangeOf finds n free ports in a row.
func rangeOf(t *testing.T, n int) int {
	t.Helper()
next:
	for from := 20000; from < 30000; from += n {
		for p := from; p < from+n; p++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
			if err != nil {
				continue next
			}
			l.Close()
		}
		return from
	}
	t.Skip("no ports in a row are free")
	return 0
}

// TestSnapshotRefused: what cannot be a snapshot says so.
func TestSnapshotRefused(t *testing.T) {
	u := newUser(t)
	u.fails(1, []string{"snapshot", "nobody"}, "no such pVM")
	u.fails(125, []string{"snapshot", "nobody", "-o", "-"}, "standard output")
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	os.WriteFile(bad, make([]byte, 1<<20), 0o644)
	u.fails(126, []string{"restore", bad}, "no snapshot")
	u.fails(126, []string{"clone", "-n", "2", bad}, "no snapshot")
	u.fails(126, []string{"restore", probe}, "no snapshot")
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	u.fails(126, []string{"restore", fifo}, "no snapshot")
	u.fails(126, []string{"clone", fifo}, "no snapshot")
	u.fails(126, []string{"run", fifo}, "not a Noyau image")
}

// TestPreforkExample: the README's server of several processes has one more after noyau fork, one
// again for each that ends, and ends by the stop signal.
func TestPreforkExample(t *testing.T) {
	u := newUser(t)
	port := freePort(t)
	u.ok("run", "-d", "--name", "pre", "--stop-timeout", "60", "-p", "127.0.0.1:"+port+":8080", "../../examples/prefork", "-workers", "2")
	eventually(t, "the server answers", func() bool { return strings.HasPrefix(get("http://127.0.0.1:"+port+"/"), "process") })
	for _, other := range []string{"-a", "-q", "--no-trunc", "--format=json"} {
		u.fails(125, []string{"ps", "--tree", other}, "--tree has a form of its own")
	}
	pid := strings.TrimSpace(u.ok("fork", "pre"))
	time.Sleep(100 * time.Millisecond) // a copy that is at a loss ends soon
	members := func() map[string]string {
		m := map[string]string{}
		for _, l := range strings.Split(u.ok("ps", "--tree"), "\n") {
			if f := strings.Fields(l); len(f) > 4 && f[1] == "host" {
				m[f[0]] = strings.TrimSuffix(f[3], ",")
			}
		}
		return m
	}
	if out := u.ok("logs", "pre"); out != "" {
		t.Errorf("it complains:\n%s", out)
	}
	before := members()
	if len(before) != 4 || before[pid] == "" {
		t.Fatalf("%s is not in %v, of four", pid, before)
	}
	worker, err := strconv.Atoi(before["2"])
	if err != nil {
		t.Fatal(err, before)
	}
	syscall.Kill(worker, syscall.SIGKILL)
	eventually(t, "there is another worker", func() bool { m := members(); return len(m) == 4 && m["2"] == "" })
	began := time.Now()
	u.ok("stop", "pre")
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("stopped after %v: not by the signal\n%s", d, u.ok("logs", "pre"))
	}
}
