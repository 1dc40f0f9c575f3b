package monitor

import "noyau.dev/host/process"

// HostProcess makes a Process of a process that another isolation has launched by
// package process.
func HostProcess(p *process.Process) Process { return hostProcess{p} }
