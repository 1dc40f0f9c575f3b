// Package vm is isolation=vm: each image runs in a KVM virtual machine of its own.
//
// The machine lives in a runner, a small host process that package process
// launches like an image: same descriptors, same sandbox, its own list of system
// calls. The monitor and its broker do not know the difference.
//
// The parts: kvm is Linux's interface; machine is the sealed virtual machine;
// runner is the process around it; vmtest builds tiny guests for tests.
package vm

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/kvm"
	"noyau.dev/host/vm/machine"
	"noyau.dev/host/vm/runner"
)

func init() { monitor.Register("vm", backend{}) }

type backend struct{}

// filters are the runner's lists of system calls, by what the policy allows.
var filters sync.Map // process.Allow → func() (*process.Filter, error)

func filter(a process.Allow) (*process.Filter, error) {
	f, ok := filters.Load(a)
	if !ok {
		f, _ = filters.LoadOrStore(a, sync.OnceValues(func() (*process.Filter, error) {
			return process.NewFilter(Rules(a.SendAnywhere, a.Fork))
		}))
	}
	return f.(func() (*process.Filter, error))()
}

// cpuid is what guests see of this host's processor. A runner that is not told
// asks itself, and says what is wrong if that fails.
var cpuid = sync.OnceValue(func() []kvm.CPUIDEntry {
	f, err := openKVM()
	if err != nil {
		return nil
	}
	defer f.Close()
	list, _ := machine.HostCPUID(int(f.Fd()))
	return list
})

// usable is set when virtual machines could be started once. What goes wrong later the start says.
var usable atomic.Bool

// Available says why no virtual machine can be started here.
func (backend) Available() error {
	if usable.Load() {
		return nil
	}
	f, err := openKVM()
	if err != nil {
		return err
	}
	f.Close()
	exe, err := openRunner()
	if err != nil {
		return err
	}
	exe.Close()
	go cpuid() // while the monitor opens what the pVM needs
	if err := process.Prepare(); err != nil {
		return err
	}
	usable.Store(true)
	return nil
}

// CanFork implements monitor.Forker.
func (backend) CanFork() {}

// CanRestore implements monitor.Restorer.
func (backend) CanRestore() {}

// HeedsTouch implements monitor.Toucher.
func (backend) HeedsTouch() {}

func openKVM() (*os.File, error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("no virtual machines: %w; KVM must be enabled and the user in the group that owns /dev/kvm", err)
	}
	return f, nil
}

func (backend) Start(s *monitor.Spec) (monitor.Process, error) {
	page, err := newTimingPage(s.Timing)
	if err != nil {
		return nil, err
	}
	p, err := fromShell(s, page)
	if p == nil && err == nil {
		p, err = fromZygote(s, page)
	}
	if p == nil && err == nil {
		p, err = fresh(s, page)
	}
	if err != nil {
		page.close()
		return nil, err
	}
	return watched(p, page), nil
}

// fresh starts a runner for an image.
func fresh(s *monitor.Spec, page *timingPage) (*process.Process, error) {
	holdPilot()
	kvm, err := openKVM()
	if err != nil {
		return nil, err
	}
	defer kvm.Close()
	n := len(s.Handles)
	files := append([]*os.File(nil), s.Handles...)
	files = append(files, best(s.Image), kvm)
	o := runner.Order{Image: n, KVM: n + 1, Stats: s.Options["stats"] != "", CPUID: cpuid(), Spare: s.Above}
	if page != nil {
		o.Timing = n + 2
		files = append(files, page.file)
	}
	return launch(&process.Spec{Args: s.Args, Env: runner.Env(o, s.Env), Files: files, Memory: s.Memory, CPU: s.CPU, Pids: tasks(s.Pids),
		Allow: process.Allow{SendAnywhere: s.NetOut, Fork: s.Fork}})
}

// tasks is how many processes and threads of the host n pVMs of a family are: KVM has one
// for each machine, and the first runner's Go runtime has some.
func tasks(n int) int {
	if n == 0 {
		return 0
	}
	return 2*n + 6
}

// launch starts a runner process.
func launch(spec *process.Spec) (*process.Process, error) {
	exe, err := openRunner()
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	if spec.Filter == nil {
		if spec.Filter, err = filter(spec.Allow); err != nil {
			return nil, err
		}
	}
	spec.Image = exe
	if spec.Memory != 0 {
		spec.Memory += overhead
	}
	return process.Start(*spec)
}

// overhead is what a runner needs beside the guest's memory, bytes.
const overhead = 96 << 20
