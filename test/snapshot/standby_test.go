package snapshot

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

// standbys makes a template with n standbys, and returns it with their processes.
func standbys(t *testing.T, c monitor.Config, n int) (*monitor.Template, []int) {
	t.Helper()
	before := children(t)
	tmpl, err := monitor.NewTemplate(c, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tmpl.Close)
	// A zygote that has just begun has no name yet, and a process that ends is there for a moment more.
	var list []int
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		list = list[:0]
		for pid := range children(t) {
			if !before[pid] {
				list = append(list, pid)
			}
		}
		if len(list) == n || time.Now().After(end) {
			break
		}
	}
	if tmpl.Ready() != n || len(list) != n {
		t.Fatalf("%d are ready in processes %v, want %d", tmpl.Ready(), list, n)
	}
	return tmpl, list
}

// children are the processes that this one has, dead ones but for their entry left out.
// The zygote, which goes on when a template is closed, is none of them.
func children(t *testing.T) map[int]bool {
	t.Helper()
	dir, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[int]bool)
	for _, e := range dir {
		var pid, parent int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil {
			continue
		}
		b, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		var state string
		if i := strings.LastIndexByte(string(b), ')'); i > 0 {
			fmt.Sscan(string(b[i+1:]), &state, &parent)
		}
		if parent == os.Getpid() && state != "Z" && !strings.Contains(string(b), "(noyau-zygote)") && !strings.Contains(string(b), "(noyau-spare)") {
			list[pid] = true
		}
	}
	return list
}

// TestStandby: what a clone is comes when it is taken, however long it has waited: host
// name, random numbers, time.
func TestStandby(t *testing.T) {
	pairs(t, func(t *testing.T, from, to string) {
		const n = 3
		file := save(t, config(t, from, "who"), "ready")
		c := config(t, to, "who")
		c.Restore = file
		tmpl, _ := standbys(t, c, n)
		time.Sleep(1500 * time.Millisecond) // longer than a virtual machine's clock goes unlooked at
		seen := map[string]bool{}
		for k := range n + 2 { // more than wait
			w, out := pvms.Pipe(t)
			c := monitor.Config{Name: fmt.Sprint("clone", k), Hostname: fmt.Sprint("host-", k), Stdout: w, Stderr: w, Template: tmpl}
			// For a moment after the first was taken the others learn from it.
			for k < n && tmpl.Ready() == 0 {
				time.Sleep(time.Millisecond)
			}
			there := children(t)
			before := time.Now()
			i := pvms.Start(t, c)
			line, err := out.ReadString('\n')
			after := time.Now()
			var host, random string
			var ns int64
			if _, e := fmt.Sscan(line, &host, &random, &ns); e != nil || err != nil {
				t.Fatalf("the clone says %q, %v", line, err)
			}
			// A guest that reads its clock by the TSC is right to a thousandth of a second.
			if at := time.Unix(0, ns); at.Before(before.Add(-time.Millisecond)) || at.After(after.Add(time.Millisecond)) {
				t.Errorf("it is %v for a clone that began between %v and %v", at, before, after)
			}
			if host != c.Hostname || seen[random] {
				t.Errorf("clone %d is %s, random %s", k, host, random)
			}
			seen[random] = true
			if k == 0 && !there[i.Info().Pid] {
				t.Errorf("clone %d is a new process", k)
			}
		}
	})
}

// none waits until all standbys of a template are gone.
func none(t *testing.T, tmpl *monitor.Template) {
	t.Helper()
	for end := time.Now().Add(time.Minute); tmpl.Ready() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d are ready, want none", tmpl.Ready())
		}
	}
}

// TestStandbyKilled: who dies while it waits is passed over and replaced, and a template
// that is closed leaves nobody behind.
func TestStandbyKilled(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "count")
		pvms.Publish(&c)
		c.Restore = save(t, c, "serving")
		tmpl, pids := standbys(t, c, 2)
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		none(t, tmpl)
		c.Template = tmpl
		i := pvms.Start(t, c)
		if n, _, _ := answer(t, i); n != 1 {
			t.Errorf("a clone counts %d", n)
		}
		for end := time.Now().Add(time.Minute); tmpl.Ready() != 2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d are ready, want 2 again", tmpl.Ready())
			}
		}
		tmpl.Close()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			left := children(t)
			if delete(left, i.Info().Pid); len(left) == 0 {
				break
			} else if time.Now().After(end) {
				t.Fatalf("processes %v are left", left)
			}
		}
		if n, _, _ := answer(t, i); n != 2 {
			t.Errorf("the clone counts %d after the end of the template", n)
		}
		if i, err := monitor.Start(t.Context(), c); err == nil {
			i.Kill()
			i.Wait()
			t.Error("a pVM of a closed template started")
		}
	})
}

// TestStandbyHoldsNothing: a standby has no port and no file of a volume, though those who take
// it may have them.
func TestStandbyHoldsNothing(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "count")
		pvms.Publish(&c)
		dir := t.TempDir()
		c.Volumes = []monitor.Volume{{Host: dir, Guest: "/data"}}
		c.Restore = save(t, c, "serving")
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		c.Publish[0].HostPort = uint16(l.Addr().(*net.TCPAddr).Port)
		tmpl, pids := standbys(t, c, 1)
		if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
			t.Errorf("the port is taken while nobody has it: %v", err)
		} else {
			l.Close()
		}
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pids[0]))
		if err != nil || len(fds) == 0 {
			t.Fatal(err, fds)
		}
		for _, fd := range fds {
			what, _ := os.Readlink(fd)
			// A host may show its certificates, which every pVM gets.
			if !strings.Contains(what, ":") && !strings.HasPrefix(what, "/memfd:") && what != "/dev/kvm" && !strings.HasPrefix(what, "/etc/") && what != "" {
				t.Errorf("%s is %s", fd, what)
			}
			if strings.Contains(what, "inet") {
				t.Errorf("%s is %s", fd, what)
			}
		}
		c.Template = tmpl
		i := pvms.Start(t, c)
		if n, _, _ := answer(t, i); n != 1 {
			t.Errorf("a clone counts %d", n)
		}
		if i.Info().Pid != pids[0] {
			t.Error("the clone is not the one that waited")
		}
		// It has what its taker has given.
		c.Volumes, c.Publish = nil, nil
		if i, err := monitor.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "-v") {
			if err == nil {
				i.Kill()
				i.Wait()
			}
			t.Errorf("a clone without the volume of its original: %v", err)
		}
	})
}

// mailboxes are the monitor's ends of those of standbys: sockets for packets that block.
func mailboxes(t *testing.T) map[int]bool {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[int]bool)
	for _, e := range dir {
		fd, _ := strconv.Atoi(e.Name())
		typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if _, e := unix.Getpeername(fd); err == nil && e == nil && typ == unix.SOCK_SEQPACKET && !nonblocking(fd) {
			list[fd] = true
		}
	}
	return list
}

func nonblocking(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err != nil || flags&unix.O_NONBLOCK != 0
}

// TestStandbyOrders: a standby that gets half an order, or one that makes no sense, ends
// without having run.
func TestStandbyOrders(t *testing.T) {
	message := func(kind, count uint64, list ...uint64) []byte {
		b := binary.LittleEndian.AppendUint64(nil, kind)
		b = binary.LittleEndian.AppendUint64(b, count)
		for _, v := range list {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "who")
		c.Restore, c.Hostname = save(t, c, "ready"), "copy"
		null, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		fd := int(null.Fd())
		for name, x := range map[string]struct {
			b   []byte
			fds []int
		}{
			"a byte":               {[]byte{2}, nil},
			"half a head":          {message(2, 0)[:8], nil},
			"a cut list":           {message(2, 2, 3), []int{fd, fd}},
			"a huge count":         {message(2, 1<<61, 3, 4), []int{fd, fd}},
			"no descriptors":       {message(2, 2, 3, 4), nil},
			"one too few":          {message(2, 2, 3, 4), []int{fd}},
			"one too many":         {message(2, 2, 3, 4), []int{fd, fd, fd}},
			"far more":             {message(2, 2, 3, 4), []int{fd, fd, fd, fd, fd, fd, fd, fd, fd}},
			"no boot block":        {message(2, 2, 3, 4), []int{fd, fd}},
			"no control channel":   {message(2, 1, 3), []int{fd}},
			"numbers out of range": {message(2, 2, 1<<40, 1<<63), []int{fd, fd}},
			"an unknown kind":      {message(9, 0), nil},
		} {
			before := mailboxes(t)
			t.Log(name)
			tmpl, _ := standbys(t, c, 1)
			var mail []int
			for fd := range mailboxes(t) {
				if !before[fd] {
					mail = append(mail, fd)
				}
			}
			if len(mail) != 1 {
				t.Fatalf("the mailboxes are %v, want one", mail)
			}
			var rights []byte
			if x.fds != nil {
				rights = unix.UnixRights(x.fds...)
			}
			if err := unix.Sendmsg(mail[0], x.b, rights, nil, unix.MSG_NOSIGNAL); err != nil {
				t.Fatal(err)
			}
			none(t, tmpl)
			tmpl.Close()
		}
	})
}

// TestStandbyOther: who asks for something else than the standbys are gets it, in a process of
// its own.
func TestStandbyOther(t *testing.T) {
	pvms.Isolations(t, func(t *testing.T, isolation string) {
		c := config(t, isolation, "who")
		c.Restore = save(t, c, "ready")
		tmpl, pids := standbys(t, c, 1)
		for name, change := range map[string]func(c *monitor.Config){
			"no certificates": func(c *monitor.Config) { c.NoHostCerts = true },
			"another tick":    func(c *monitor.Config) { c.Tick = 20 * time.Millisecond },
			"processes":       func(c *monitor.Config) { c.Pids = 40 },
		} {
			var out *bufio.Reader
			c := monitor.Config{Hostname: "copy", Stderr: os.Stderr, Template: tmpl}
			change(&c)
			c.Stdout, out = pvms.Pipe(t)
			i := pvms.Start(t, c)
			if line, err := out.ReadString('\n'); !strings.HasPrefix(line, "copy ") {
				t.Errorf("%s: the clone says %q, %v", name, line, err)
			}
			if i.Info().Pid == pids[0] {
				t.Errorf("%s: the clone is a standby of another configuration", name)
			}
		}
		for _, c := range []monitor.Config{
			{Isolation: map[string]string{"vm": "process", "process": "vm"}[isolation], Template: tmpl},
			{Restore: "/another", Template: tmpl},
		} {
			if i, err := monitor.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "the template is") {
				if err == nil {
					i.Kill()
					i.Wait()
				}
				t.Errorf("%+v: %v", c, err)
			}
		}
		if tmpl.Ready() != 1 {
			t.Errorf("%d are ready, want 1", tmpl.Ready())
		}
	})
}
