// Package volume serves host directories to pVMs: every path is resolved
// strictly beneath the root, and what a handle may do is checked on each use.
package volume

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// Spec says which host directory a pVM sees where.
type Spec struct {
	Host     string // directory of the host
	Guest    string // absolute path inside the pVM
	ReadOnly bool
}

// ParseSpec reads "host:guest[:ro|:rw]". A relative host path is taken from
// the current directory.
func ParseSpec(s string) (Spec, error) {
	bad := func(why string) (Spec, error) {
		return Spec{}, fmt.Errorf("volume %q: %s; want host:guest[:ro], as in ./data:/data", s, why)
	}
	f := strings.Split(s, ":")
	v := Spec{}
	switch {
	case len(f) == 3 && f[2] == "ro":
		v.ReadOnly = true
	case len(f) == 3 && f[2] != "rw":
		return bad(fmt.Sprintf("%q is not an option", f[2]))
	case len(f) < 2 || len(f) > 3:
		return bad("it has no guest path")
	}
	if f[0] == "" {
		return bad("the host path is empty")
	}
	if !path.IsAbs(f[1]) || strings.ContainsRune(f[1], 0) {
		return bad("the guest path is not absolute")
	}
	host, err := filepath.Abs(f[0])
	if err != nil {
		return bad(err.Error())
	}
	v.Host, v.Guest = host, path.Clean(f[1])
	if v.Guest == "/" {
		return bad("a volume cannot replace the root directory")
	}
	return v, nil
}

// String is the form that ParseSpec reads.
func (v Spec) String() string {
	s := v.Host + ":" + v.Guest
	if v.ReadOnly {
		s += ":ro"
	}
	return s
}
