package vm_test

import (
	"testing"

	"noyau.dev/host/monitor"
	"noyau.dev/host/vm"
)

// TestEarly: the first start takes the runner that was launched before it was known what is to
// be run, the second does not; one that wants something else has it go.
func TestEarly(t *testing.T) {
	img := image(t, "web")
	vm.Zygote(false)
	for name, c := range map[string]monitor.Config{"plain": {}, "a limit": {Memory: 256 << 20}, "forks": {Forks: 2}} {
		t.Run(name, func(t *testing.T) {
			vm.Early()
			ahead := vm.EarlyPID()
			c.Image = img
			inst, addrs := startConfig(t, c, 8080)
			dial(t, addrs[0]).Close()
			if took, want := inst.Info().Pid == ahead, name == "plain"; took != want {
				t.Errorf("the start is process %d, launched before was %d", inst.Info().Pid, ahead)
			}
			if name != "plain" {
				dead(t, ahead)
			}
			c.Publish = nil
			if inst, _ := startConfig(t, c, 8080); inst.Info().Pid == ahead {
				t.Error("it was taken twice")
			}
		})
	}
	vm.Early()
	gone := vm.EarlyPID()
	kill(t, gone)
	if inst, _ := startConfig(t, monitor.Config{Image: img}, 8080); inst.Info().Pid == gone {
		t.Error("a dead process was taken")
	}
}
