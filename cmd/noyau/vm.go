package main

import (
	_ "noyau.dev/host/vm"
	"noyau.dev/host/vm/runner"
)

// The runner of isolation=vm may be this program: it is then neither a command
// nor a flag but a process that the monitor starts.
func init() {
	if runner.Wanted() {
		runner.Main()
	}
}
