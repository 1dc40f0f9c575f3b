package vm_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/host/policy"
	"noyau.dev/host/vm"
	"noyau.dev/host/vm/runner"
)

// withZygote makes a zygote, and lets it go at the end of the test.
func withZygote(t *testing.T) {
	t.Helper()
	image(t, "hello") // or no virtual machines
	if err := vm.Zygote(true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Zygote(false) })
}

// born reports whether process pid was made by the zygote: it has its arguments.
func born(t *testing.T, pid int) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(b) == "zygote\x00"
}

var socketNumber = regexp.MustCompile(`\[\d+\]`)

// sandboxOf is what the kernel says of process pid that makes up its sandbox, once it is in it.
func sandboxOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	facts := map[string]string{}
	for range 2000 {
		b, err := os.ReadFile(dir + "status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(line, ":")
			facts[k] = strings.TrimSpace(v)
		}
		if facts["Seccomp_filters"] == "2" && strings.HasPrefix(facts["State"], "S") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	got := map[string]string{}
	for _, k := range []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Umask", "SigIgn", "THP_enabled", "CoreDumping"} {
		got[k] = facts[k]
	}
	got["pid namespaces"] = fmt.Sprint(len(strings.Fields(facts["NSpid"])))
	if group, err := unix.Getpgid(pid); err != nil || group != pid {
		t.Errorf("process %d is in group %d (%v)", pid, group, err)
	}
	limits, err := os.ReadFile(dir + "limits")
	if err != nil {
		t.Fatal(err)
	}
	got["limits"] = string(limits)
	for _, ns := range []string{"user", "net", "ipc", "uts", "cgroup", "mnt", "pid"} {
		ours, _ := os.Readlink("/proc/self/ns/" + ns)
		theirs, err := os.Readlink(dir + "ns/" + ns)
		if err != nil {
			t.Skipf("SKIPPED: not allowed to look: %v", err)
		}
		if ns == "pid" { // one each
			theirs = fmt.Sprint("another than ours: ", theirs != ours)
		}
		got[ns+" namespace"] = theirs
	}
	for _, link := range []string{"root", "cwd"} {
		list, err := os.ReadDir(dir + link + "/")
		got[link] = fmt.Sprint(len(list), " files, ", os.IsNotExist(err))
	}
	list, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		to, _ := os.Readlink(dir + "fd/" + e.Name())
		got["files"] += socketNumber.ReplaceAllString(to, "") + "\n"
	}
	files := strings.SplitAfter(got["files"], "\n")
	slices.Sort(files)
	got["files"] = strings.Join(files, "")
	return got
}

// TestZygoteSandbox: what a zygote makes, at once or ahead, is in the sandbox of what is
// launched, to a file.
func TestZygoteSandbox(t *testing.T) {
	img := image(t, "web")
	vm.Zygote(false)
	defer vm.Zygote(false)
	for _, c := range []monitor.Config{{}, {Forks: 3}, {Net: policy.Net{Unrestricted: true}}} {
		ways := []string{"launched", "from the zygote", "the spare"}
		if c.Forks > 1 {
			ways = ways[:2] // there is no spare for these
		}
		var facts [3]map[string]string
		var in, missing [3][]string
		for i := range ways {
			if err := vm.Zygote(i > 0); err != nil {
				t.Fatal(err)
			}
			ahead := 0
			if i == 2 {
				ahead = waitSpare(t)
			}
			c.Image = img
			inst, addrs := startConfig(t, c, 8080)
			dial(t, addrs[0]).Close()
			pid := inst.Info().Pid
			if born(t, pid) != (i > 0) || i == 2 && pid != ahead {
				t.Fatalf("%s: born %v, process %d, the spare was %d", ways[i], born(t, pid), pid, ahead)
			}
			facts[i] = sandboxOf(t, pid)
			in[i], missing[i] = inst.Info().Sandbox, inst.Info().Missing
			c.Publish = nil
		}
		// The Go runtime's poller, which a launched runner happens to open.
		facts[0]["files"] = strings.Replace(facts[0]["files"], "anon_inode:[eventfd]\nanon_inode:[eventpoll]\n", "", 1)
		for i := 1; i < len(ways); i++ {
			for k, launched := range facts[0] {
				if facts[i][k] != launched {
					t.Errorf("forks %d: %s: launched\n%s\n%s\n%s", c.Forks, k, launched, ways[i], facts[i][k])
				}
			}
			if !slices.Equal(in[0], in[i]) || !slices.Equal(missing[0], missing[i]) {
				t.Errorf("reports differ: %q, %q; %q, %q", in[0], in[i], missing[0], missing[i])
			}
		}
	}
}

// waitSpare waits until there is a runner that was made ahead.
func waitSpare(t testing.TB) int {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if pid := vm.SparePID(); pid != 0 {
			return pid
		}
		if time.Now().After(end) {
			t.Fatal("there is no spare after 30 s")
		}
	}
}

// TestSpare: a start takes the runner that was made ahead, and another is made; one that has
// died, or may do something else, is not taken; it goes with the zygote.
func TestSpare(t *testing.T) {
	withZygote(t)
	take := func(c monitor.Config) int {
		t.Helper()
		c.Image = image(t, "web")
		inst, addrs := startConfig(t, c, 8080)
		dial(t, addrs[0]).Close()
		return inst.Info().Pid
	}
	take(monitor.Config{})
	first := waitSpare(t)
	if pid := take(monitor.Config{}); pid != first {
		t.Errorf("the start is process %d, the spare was %d", pid, first)
	}
	second := waitSpare(t)
	if second == first {
		t.Fatal("what was taken is the spare still")
	}
	for name, c := range map[string]monitor.Config{"a limit": {Memory: 256 << 20}, "free datagrams": {Net: policy.Net{Unrestricted: true}}, "forks": {Forks: 2}} {
		if pid := take(c); pid == second {
			t.Errorf("the spare was taken by a start with %s", name)
		}
	}
	take(monitor.Config{})
	third := waitSpare(t)
	kill(t, third)
	if pid := take(monitor.Config{}); pid == third {
		t.Error("a dead process was taken")
	}
	last := waitSpare(t)
	vm.Zygote(false)
	if pid := vm.SparePID(); pid != 0 {
		t.Errorf("process %d is there without a zygote", pid)
	}
	dead(t, last)
}

// kill kills a process and waits until it has ended.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	dead(t, pid)
}

// dead waits until a process has ended with all its threads, reaped or not: only then are its
// descriptors closed.
func dead(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil || strings.Contains(string(b), ") Z ") && len(threads) <= 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d lives on: %s", pid, b)
		}
	}
}

// TestZygoteApart: two pVMs of a zygote are in pid namespaces of their own, and the
// memory of their guests is at different places.
func TestZygoteApart(t *testing.T) {
	withZygote(t)
	seen := map[string]bool{}
	for range 3 {
		inst, addrs := start(t, "web", 8080)
		dial(t, addrs[0]).Close()
		pid := inst.Info().Pid
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil {
			t.Skipf("SKIPPED: not allowed to look: %v", err)
		}
		if !slices.Contains(inst.Info().Sandbox, "pid namespace") {
			t.Log("SKIPPED: no pid namespaces on this machine")
			ns = fmt.Sprint(pid)
		}
		if seen[ns] {
			t.Errorf("%s is shared", ns)
		}
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil {
			t.Fatal(err)
		}
		where := "" // the image, or a copy of it
		for line := range strings.Lines(string(maps)) {
			if strings.Contains(line, filepath.Dir(image(t, "web"))) || strings.Contains(line, "memfd:image") {
				where = strings.Fields(line)[0]
				break
			}
		}
		if where == "" || seen[where] {
			t.Errorf("the guest's memory is at %q as another's: %v\n%s", where, seen, maps)
		}
		seen[ns], seen[where] = true, true
	}
}

// TestZygoteMade: the first start in a process has no zygote made, the second has, and
// starts with limits of a control group are launches.
func TestZygoteMade(t *testing.T) {
	withZygote(t)
	first := vm.ZygotePID()
	img := image(t, "hello")
	for i := range 5 {
		once(t, img, "vm", fmt.Sprint(i))
	}
	if vm.ZygotePID() != first {
		t.Error("the zygote is another")
	}
	inst, err := monitor.Start(context.Background(), monitor.Config{Image: img, Isolation: "vm", Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if e := inst.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
}

// TestZygoteKilled: starts go on without, and there is another soon.
func TestZygoteKilled(t *testing.T) {
	withZygote(t)
	img := image(t, "hello")
	once(t, img, "vm", "before")
	first := vm.ZygotePID()
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		once(t, img, "vm", "after")
		if pid := vm.ZygotePID(); pid != 0 && pid != first {
			break
		}
		if i == 500 {
			t.Fatal("there is no other zygote after 500 starts")
		}
		time.Sleep(5 * time.Millisecond)
	}
	once(t, img, "vm", "at last")
	// In the middle, again and again.
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(7 * time.Millisecond):
				if pid := vm.ZygotePID(); pid != 0 {
					unix.Kill(pid, unix.SIGKILL)
				}
			}
		}
	}()
	for i := range 60 {
		once(t, img, "vm", fmt.Sprint("during ", i))
	}
	close(stop)
}

// TestZygoteOrders: a child that is killed before it said anything, let go of, or sent what
// is no order ends, and nothing else does.
func TestZygoteOrders(t *testing.T) {
	img := image(t, "hello")
	withZygote(t)
	zygote := vm.ZygotePID()
	bear := func() *vm.Infant {
		t.Helper()
		i, err := vm.Bear()
		if err != nil || i == nil {
			t.Fatal(i, err)
		}
		return i
	}
	i := bear()
	i.Kill()
	if i.Order([]byte("too late")) == nil {
		t.Error("an order was sent to a process that is dead")
	}
	if st := bear().Drop(); st.Code != 0 || st.Signal != 0 {
		t.Errorf("one that was let go of ended with %+v", st)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	f := int(null.Fd())
	good, err := runner.ShellOrder(7, false, false, []string{"x"}, []string{"A=b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	seven := []int{f, f, f, f, f, f, f}
	many := slices.Repeat([]int{f}, 60)
	for name, c := range map[string]struct {
		msg []byte
		fds []int
	}{
		"nothing but descriptors":   {[]byte{0}, seven},
		"no descriptors":            {good, nil},
		"one descriptor too few":    {good, seven},
		"one too many":              {good, append(seven, f, f)},
		"more than there is room":   {good, many},
		"an order cut off":          {good[:len(good)-2], append(seven, f)},
		"a length beyond the end":   {append(good[:len(good):len(good)][:16:16], 0xff, 0xff, 0xff, 0xff), append(seven, f)},
		"few handles":               {append([]byte{3, 0, 0, 0}, good[4:]...), []int{f, f, f, f}},
		"many handles":              {append([]byte{200, 0, 0, 0}, good[4:]...), many},
		"counts that cannot be":     {append(append([]byte{}, good[:8]...), slices.Repeat([]byte{0xff}, 40)...), append(seven, f)},
		"an order for no image":     {good, append(seven, f)},
		"a word of another process": {[]byte(runner.ShellReady), append(seven, f)},
		"longer than any order":     {make([]byte, 170<<10), append(seven, f)},
	} {
		i := bear()
		if err := i.Order(c.msg, c.fds...); err != nil {
			t.Logf("%s: %v", name, err)
			i.Kill()
			continue
		}
		if st := i.Wait(); st.Code != 125 {
			t.Errorf("%s: ended with %+v, want code 125", name, st)
		}
	}
	if vm.ZygotePID() != zygote {
		t.Error("the zygote is another")
	}
	once(t, img, "vm", "after all")
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", zygote)); string(name) != "noyau-zygote\n" {
		t.Errorf("the zygote is called %q (%v)", name, err)
	}
	if names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", zygote)); len(names) > 6 {
		t.Errorf("the zygote has %d descriptors; want its mailbox thrice, /dev/kvm, and a machine", len(names))
	}
}
