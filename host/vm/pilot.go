package vm

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"noyau.dev/host/vm/kvm"
)

// The pilot is a virtual machine with a vCPU of this process, which never runs. With the first
// vCPU of a host KVM rewrites code of the kernel on all processors, 0.2 ms, and so it is made
// while a runner that was just launched begins. It is closed soon: the runner has its own by then.
var pilot struct {
	sync.Mutex
	there bool // or it is being made
}

// pilotFor is how long a runner may take to its machine, and be a little faster for it.
const pilotFor = 100 * time.Millisecond

// holdPilot sees to it that there is the pilot for a while. That there is none is no error.
func holdPilot() {
	pilot.Lock()
	defer pilot.Unlock()
	if pilot.there {
		return
	}
	pilot.there = true
	go func() {
		defer func() {
			pilot.Lock()
			pilot.there = false
			pilot.Unlock()
		}()
		dev, err := openKVM()
		if err != nil {
			return
		}
		defer dev.Close()
		vm, vcpu, err := kvm.Idle(fdOf(dev))
		if err != nil {
			return
		}
		defer unix.Close(vm)
		defer unix.Close(vcpu)
		time.Sleep(pilotFor)
	}()
}
