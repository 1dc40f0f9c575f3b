package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Roles of the test binary when a test executes it again.
const roleVar = "NOYAU_TEST_ROLE"

// TestMonitorRole is not a test: it is the monitor that TestDiesWithMonitor kills.
func TestMonitorRole(t *testing.T) {
	if os.Getenv(roleVar) != "monitor" {
		t.Skip("a part of TestDiesWithMonitor")
	}
	p := sleeper(t, Spec{})
	fmt.Printf("pid %d\n", p.PID())
	time.Sleep(time.Minute)
}

func TestDiesWithMonitor(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestMonitorRole$", "-test.v")
	cmd.Env = append(os.Environ(), roleVar+"=monitor")
	if kinds := os.Getenv(roleVar); strings.HasPrefix(kinds, "without ") {
		t.Skip("the role is taken")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for s := bufio.NewScanner(out); pid == 0 && s.Scan(); {
		fmt.Sscanf(s.Text(), "pid %d", &pid)
	}
	if pid == 0 {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal("the monitor has started no image")
	}
	if st := status(t, pid); st["Seccomp"] != "2" {
		t.Errorf("process %d is no image: %v", pid, st)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for range 500 {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil || strings.Contains(string(b), "State:\tZ") || strings.Contains(string(b), "State:\tX") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("image %d lives on without its monitor", pid)
	syscall.Kill(pid, syscall.SIGKILL)
}

// TestUnprivileged runs all tests again as a user without privileges: the product
// needs no root.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is the unprivileged run")
	}
	if os.Getenv(roleVar) != "" {
		t.Skip("already executed again")
	}
	dir, err := os.MkdirTemp("", "noyau-unprivileged-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(dir, "tmp")
	for _, err := range []error{
		os.WriteFile(bin, self, 0o755), os.Chmod(dir, 0o755), os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(bin, "-test.v", "-test.skip=TestDocumentedRules|TestX32|TestInt80")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), roleVar+"=unprivileged", "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: UnprivilegedID, Gid: UnprivilegedID}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("SKIPPED: root cannot become another user on this machine: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if err != nil || strings.Contains(line, "SKIP") || strings.Contains(line, "force:") || strings.Contains(line, "missing:") {
			t.Log(strings.TrimRight(line, "\n"))
		}
	}
	if err != nil {
		t.Error(err)
	}
}
