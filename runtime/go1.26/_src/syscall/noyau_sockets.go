//go:build noyau_sockets

package syscall

// The build adds the tag for programs that make sockets without package net.
import _ "internal/noyau/sock"
