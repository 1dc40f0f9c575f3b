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

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

func init() { monitor.Register("vm", backend{}) }

type backend struct{}

// filters are the runner's lists of system calls, by whether datagrams may go to
// any address.
var filters = [2]func() (*process.Filter, error){
	sync.OnceValues(func() (*process.Filter, error) { return process.NewFilter(Rules(false)) }),
	sync.OnceValues(func() (*process.Filter, error) { return process.NewFilter(Rules(true)) }),
}

// Available says why no virtual machine can be started here.
func (backend) Available() error {
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
	return process.Prepare()
}

func openKVM() (*os.File, error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("no virtual machines: %w; KVM must be enabled and the user in the group that owns /dev/kvm", err)
	}
	return f, nil
}

func (backend) Start(s *monitor.Spec) (monitor.Process, error) {
	kvm, err := openKVM()
	if err != nil {
		return nil, err
	}
	defer kvm.Close()
	exe, err := openRunner()
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	which := 0
	if s.NetOut {
		which = 1
	}
	filter, err := filters[which]()
	if err != nil {
		return nil, err
	}
	n := len(s.Handles)
	files := append(append([]*os.File(nil), s.Handles...), s.Image, kvm)
	memory := s.Memory
	if memory != 0 {
		memory += overhead
	}
	p, err := process.Start(process.Spec{
		Image: exe, Args: s.Args, Env: runner.Env(n, n+1, s.Env, s.Options), Files: files,
		Memory: memory, Pids: s.Pids, Filter: filter,
	})
	if err != nil {
		return nil, err
	}
	return monitor.HostProcess(p), nil
}

// overhead is what a runner needs beside the guest's memory, bytes.
const overhead = 96 << 20
