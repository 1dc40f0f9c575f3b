package kernel

import (
	"sync/atomic"

	"noyau.dev/guest/host"
)

// Hooks of the map module, which lives in a package of its own.
var (
	onFileWritten func(key any, off, n int64)
	mapsExist     atomic.Bool
)

// SetMaps connects the package that answers mmap: written is called after each
// write to a file with maps, while exist is true.
func SetMaps(written func(key any, off, n int64)) (exist *atomic.Bool) {
	onFileWritten = written
	return &mapsExist
}

var inits []func(*host.Boot)

// OnInit registers f to run in Init, in the order of registration. Bricks call
// it from their package init functions.
func OnInit(f func(*host.Boot)) { inits = append(inits, f) }
