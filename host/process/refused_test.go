package process

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain makes the process a container that may have no namespaces, in the role
// of that name.
func TestMain(m *testing.M) {
	if kinds, ok := strings.CutPrefix(os.Getenv(roleVar), "without "); ok {
		for _, k := range strings.Fields(kinds) {
			if err := os.WriteFile("/proc/sys/user/max_"+k+"_namespaces", []byte("0"), 0); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

// TestRefused runs tests again where parts of the isolation are refused: as the root
// of a container that has no other user and may make no namespaces. Launches
// work, the filter and the missing capabilities are in force.
func TestRefused(t *testing.T) {
	if os.Getenv(roleVar) != "" {
		t.Skip("already executed again")
	}
	for _, kinds := range []string{"user", "user pid", "net ipc", "user net ipc uts mnt pid cgroup"} {
		cmd := exec.Command(os.Args[0], "-test.v", "-test.run=Status|Attacks|ExitCode|Report|Tick|Errors|Namespaces|Root|Descriptors|Kill|DiesWith")
		cmd.Env = append(os.Environ(), roleVar+"=without "+kinds)
		one := func(id int) []syscall.SysProcIDMap {
			return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: one(os.Geteuid()), GidMappings: one(os.Getegid()),
		}
		out, err := cmd.CombinedOutput()
		if _, ran := err.(*exec.ExitError); err != nil && !ran {
			t.Skipf("SKIPPED: no user namespace to try this in: %v", err)
		}
		for line := range strings.Lines(string(out)) {
			if err != nil || strings.Contains(line, "missing:") {
				t.Log(strings.TrimRight(line, "\n"))
			}
		}
		if err != nil {
			t.Errorf("without namespaces of %s: %v", kinds, err)
		}
	}
}
