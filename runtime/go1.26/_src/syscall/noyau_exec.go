package syscall

// StartProcess starts a sibling pVM: see guest/exec. What a pVM does not have (groups,
// sessions, terminals of its own, namespaces) is refused where it would change what the
// child can do, and ignored where it only says how signals travel.

import (
	errorspkg "errors"
	"internal/bytealg"
	"internal/noyau/exec"
)

// noyauExecError is a refusal that says what to do.
type noyauExecError struct{ Errno }

func (e noyauExecError) Error() string {
	return e.Errno.Error() + ": it is no image that this pVM may start (see noyau run --exec)"
}

func (e noyauExecError) Unwrap() error { return e.Errno }

func noyauForkExec(argv0 string, argv []string, attr *ProcAttr) (pid int, err error) {
	if attr == nil {
		attr = &zeroProcAttr
	}
	sys := attr.Sys
	if sys == nil {
		sys = &zeroSysProcAttr
	}
	for _, list := range [...][]string{{argv0, attr.Dir, sys.Chroot}, argv, attr.Env} {
		for _, s := range list {
			if bytealg.IndexByteString(s, 0) >= 0 {
				return 0, EINVAL
			}
		}
	}
	if sys.Setctty && sys.Foreground {
		return 0, errorspkg.New("both Setctty and Foreground set in SysProcAttr")
	}
	if sys.Setctty && sys.Ctty >= len(attr.Files) {
		return 0, errorspkg.New("Setctty set but Ctty not valid in child")
	}
	c := sys.Credential
	switch {
	case sys.Chroot != "", sys.Ptrace, sys.Setctty, sys.Foreground, sys.UseCgroupFD, len(sys.AmbientCaps) > 0,
		c != nil && (int(c.Uid) != Getuid() || int(c.Gid) != Getgid()),
		sys.Cloneflags != 0, sys.Unshareflags != 0, len(sys.UidMappings)+len(sys.GidMappings) > 0:
		return 0, EPERM
	}
	if sys.PidFD != nil {
		*sys.PidFD = -1
	}
	child := &exec.Child{Path: argv0, Args: argv, Env: attr.Env, Dir: attr.Dir, Files: attr.Files, DeathSig: uint32(sys.Pdeathsig)}
	switch {
	case sys.Setsid && sys.Setpgid:
		return 0, EPERM // who leads a session stays in its group
	case sys.Setsid:
		child.Group = exec.Session
	case sys.Setpgid && sys.Pgid == 0:
		child.Group = exec.Group
	case sys.Setpgid:
		if sys.Pgid < 0 {
			return 0, EINVAL
		}
		child.Group, child.Join = exec.Join, uint64(sys.Pgid)
	}
	n, e := exec.Start(child)
	switch {
	case Errno(e) == EACCES:
		return 0, noyauExecError{EACCES}
	case e != 0:
		return 0, Errno(e)
	}
	return int(n), nil
}
