package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// A zygote is a process that was launched as an image is, and makes others of its kind
// by clone with CLONE_PARENT, so that these are children of this process. What it is in
// they are in: seccomp filter, namespaces, user, limits, no new privileges, death with this
// process for the asking. What a launch gives each process for itself they get as well:
//
//   - A pid namespace, unless they may fork. A namespace is made by clone, and its first
//     process can have no siblings. So a zygote has none, and keeps what it takes to make
//     them: CAP_SYS_ADMIN, in the user namespace of the jail, which owns namespaces that hold
//     nothing. What it makes must give that up before anything else.
//   - A process group, which both they and Born make: whoever is first.
//   - The limit of processes of those that may fork: Born sets it.
type zygote struct {
	jail *jail
	plan *plan
}

// ErrNoZygote says that what a zygote makes would have less of a sandbox than what is launched.
var ErrNoZygote = errors.New("process: a zygote cannot make pid namespaces here, for want of a user namespace")

// zygoteFits reports whether a zygote can give a process all that a launch gives it.
func (j *jail) zygoteFits() bool { return !j.pidNS || !j.root || j.has("user") }

// zygoteMakesPIDs reports whether what a zygote makes has a pid namespace.
func (j *jail) zygoteMakesPIDs() bool { return j.pidNS && j.has("user") }

// MakesPIDs reports whether the zygote p must make a pid namespace for each process that
// may not fork.
func (p *Process) MakesPIDs() bool { return p.zygote != nil && p.zygote.jail.zygoteMakesPIDs() }

// Born makes a Process of one that the zygote p has made, with the number pid. s is what
// it is to be: Filter, Allow, Leash and Files[abi.HandleLeash], Zygote. It must not have begun
// with anything of the guest's yet. After an error it is dead, if it was p's and this process
// could get a descriptor of it. If there was none to be had, it is waited for, for as long as it
// lives.
func (p *Process) Born(pid int, s Spec) (*Process, error) {
	z := p.zygote
	if z == nil {
		return nil, errors.New("process: not a zygote")
	}
	if s.Filter == nil || s.Leash != nil && (!s.Allow.Fork || len(s.Files) <= abi.HandleLeash) {
		return nil, errors.New("process: what is born needs a filter, and a file at abi.HandleLeash if there is a leash")
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if lacking(err) && pid > 0 { // others would be any child
			go reap(pid)
		}
		return nil, fmt.Errorf("process: %d, of a zygote: %w", pid, err)
	}
	fd = aboveHandles(fd)
	if !isChild(fd) {
		unix.Close(fd)
		return nil, ErrStranger
	}
	plan := *z.plan
	plan.pidNS = z.jail.zygoteMakesPIDs() && !s.Allow.Fork && !s.Zygote
	plan.fail.pid, plan.pidfd = uintptr(pid), int32(fd)
	b := newProcess(&s, z.jail, &group{dirs: map[string]string{}}, &plan)
	if err := b.settle(&s); err != nil {
		b.Kill()
		b.Wait()
		return nil, err
	}
	return b, nil
}

// lacking reports whether err says that there is no descriptor left, or no memory for one.
func lacking(err error) bool {
	return err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOMEM
}

// settle gives a process that was born what a zygote cannot give it.
func (p *Process) settle(s *Spec) error {
	// It may have ended already: its number is its own until it is waited for.
	if err := unix.Setpgid(p.pid, p.pid); err != nil && err != unix.ESRCH {
		return fmt.Errorf("process: a group for %d: %w", p.pid, err)
	}
	if !s.Allow.Fork {
		return nil
	}
	for _, l := range limitsOf(s) {
		if l.resource == unix.RLIMIT_NPROC {
			if err := unix.Prlimit(p.pid, l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}, nil); err != nil && err != unix.ESRCH {
				return fmt.Errorf("process: limit of %s of %d: %w", l.name, p.pid, err)
			}
		}
	}
	if s.Leash == nil {
		return nil
	}
	return p.family.hold(s.Leash, s.Files[abi.HandleLeash])
}
