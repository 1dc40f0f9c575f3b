package main

import (
	_ "noyau.dev/host/vm"
	"noyau.dev/host/vm/runner"
)

// The runner of isolation=vm may be this program, if it is static.
func init() {
	if runner.Wanted() {
		runner.Main()
	}
}
