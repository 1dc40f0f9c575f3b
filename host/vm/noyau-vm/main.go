// Command noyau-vm is the runner of isolation=vm as a program of its own: small,
// static, quick to start. The monitor starts it; see package runner.
package main

import "noyau.dev/host/vm/runner"

func main() { runner.Main() }
