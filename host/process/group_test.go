package process

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// glutton maps and touches size bytes of the region.
func glutton(size uint64) *code {
	c := new(code).sys(unix.SYS_MMAP, abi.RegionBase, size, readWrite, mapAnon, ^uint64(0), 0)
	c.imm([2]byte{0x48, 0xb8}, abi.RegionBase)      // mov rax, base
	c.imm([2]byte{0x48, 0xb9}, abi.RegionBase+size) // mov rcx, end
	// loop: mov [rax], al; add rax, 4096; cmp rax, rcx; jb loop
	return c.raw(0x88, 0x00, 0x48, 0x05, 0, 0x10, 0, 0, 0x48, 0x39, 0xc8, 0x72, 0xf3).exit(survived)
}

func TestMemoryLimit(t *testing.T) {
	const limit = 16 << 20
	image, files := glutton(4*limit).file(t), testFiles(t)
	p, err := Start(Spec{Image: image, Files: files, Memory: limit, Pids: 4})
	if err != nil {
		t.Fatal(err)
	}
	r := p.Sandbox()
	if !slices.ContainsFunc(r.InForce, func(s string) bool { return strings.HasPrefix(s, "control group") }) {
		p.Kill()
		p.Wait()
		t.Skipf("SKIPPED: no control group on this machine: %q", r.Missing)
	}
	dirs := p.group.dirs
	st, _ := p.Wait()
	if want := (Status{Signal: int(unix.SIGKILL), OOM: true}); st != want {
		t.Errorf("got %+v, want %+v", st, want)
	}
	for _, d := range dirs {
		if err := unix.Access(d, unix.F_OK); err != unix.ENOENT {
			t.Errorf("control group %s is left: %v", d, err)
		}
	}
	if st := start(t, glutton(limit/4), Spec{Memory: limit}); st != (Status{Code: survived}) {
		t.Errorf("within the limit: got %+v", st)
	}
}

// Without a control group the limit of data keeps an image from mapping more.
func TestDataLimit(t *testing.T) {
	guest := new(code).sys(unix.SYS_MMAP, abi.RegionBase, 2<<30, readWrite, mapAnon, ^uint64(0), 0).exitErrno()
	if st := start(t, guest, Spec{Memory: 16 << 20}); st != (Status{Code: int(unix.ENOMEM)}) {
		t.Errorf("got %+v, want ENOMEM", st)
	}
}

// A group of v2 is entered by the clone itself. Controllers are not needed for that.
func TestCloneIntoGroup(t *testing.T) {
	mount := ""
	for _, m := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if unix.Access(m+"/cgroup.controllers", unix.F_OK) == nil {
			mount = m
		}
	}
	if mount == "" {
		t.Skip("SKIPPED: cgroup v2 is not mounted")
	}
	own, err := ownGroups()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(mount, own[""], "noyau-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("SKIPPED: no control group can be made: %v", err)
	}
	g := &group{dirs: map[string]string{"unified": dir}}
	s := Spec{Image: new(code).spin().file(t), Files: testFiles(t)}
	if err := check(&s); err != nil {
		t.Fatal(err)
	}
	j, err := theJail()
	if err != nil {
		t.Fatal(err)
	}
	p, err := launch(&s, j, g)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/cgroup")
	if want := "0::" + strings.TrimPrefix(dir, mount) + "\n"; !strings.Contains(string(b), want) {
		t.Errorf("the image is in %q, want %q", b, want)
	}
	if !slices.Contains(p.Sandbox().InForce, "control group (cgroup v2)") {
		t.Errorf("the report does not tell: %q", p.Sandbox())
	}
	p.Kill()
	p.Wait()
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
}

func TestDelegated(t *testing.T) {
	mount := t.TempDir()
	// root: all; user: memory and pids; user/app: memory; user/app/own: none.
	for dir, controllers := range map[string]string{
		"": "cpu memory pids", "user": "memory pids", "user/app": "memory", "user/app/own": "",
	} {
		os.MkdirAll(filepath.Join(mount, dir), 0o755)
		if err := os.WriteFile(filepath.Join(mount, dir, "cgroup.subtree_control"), []byte(controllers+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		want []string
		in   string
	}{
		{[]string{"memory"}, "/user/app"},
		{[]string{"memory", "pids"}, "/user"},
		{[]string{"cpu"}, "/"},
		{[]string{"io"}, ""},
	} {
		in, err := delegated(mount, "/user/app/own", tt.want)
		if in != tt.in || (err != nil) != (tt.in == "") {
			t.Errorf("%v: got %q, %v; want %q", tt.want, in, err, tt.in)
		}
	}
}

// BenchmarkStartLimited shows what a control group costs.
func BenchmarkStartLimited(b *testing.B) {
	image, files := new(code).exit(0).file(b), testFiles(b)
	for b.Loop() {
		p, err := Start(Spec{Image: image, Files: files, Memory: 64 << 20})
		if err != nil {
			b.Fatal(err)
		}
		p.Wait()
	}
}
