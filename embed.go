// Package noyau holds the sources that `noyau build` links into every image: the
// shared ABI, the library OS and the patches to the Go runtime. They are embedded
// so that the tool is one file that works anywhere.
package noyau

import "embed"

// Sources has abi/, guest/ and runtime/ as they lie in this repository.
//
//go:embed abi all:guest all:runtime
var Sources embed.FS
