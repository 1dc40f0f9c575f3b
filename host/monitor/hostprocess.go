package monitor

import "noyau.dev/host/process"

// A Host is a Process that is a process of the host.
type Host interface {
	Parent
	Pauser
}

// HostProcess makes a Process of a process that another isolation has launched by
// package process.
func HostProcess(p *process.Process) Host { return hostProcess{p} }
