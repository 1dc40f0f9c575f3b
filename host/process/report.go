package process

import (
	"fmt"
	"os"
	"strings"
)

// reportOf says what is in force for the process that p has launched.
func (j *jail) reportOf(s *Spec, g *group, p *plan) Report {
	r := Report{Missing: append([]string(nil), j.missing...)}
	in := func(format string, a ...any) { r.InForce = append(r.InForce, fmt.Sprintf(format, a...)) }
	out := func(format string, a ...any) { r.Missing = append(r.Missing, fmt.Sprintf(format, a...)) }

	in("seccomp (%d system calls)", s.Filter.Calls())
	in("no new privileges")
	in("no capabilities")
	in("own process group")
	in("ends with its monitor")
	in("limits of open files, core size, stack, locked memory")
	for _, sp := range j.spaces {
		in("%s namespace", sp.name)
	}
	switch {
	case p.pidNS:
		in("pid namespace")
	case s.Allow.Fork:
		out("pid namespace: forked pVMs outlive the first one")
	case !j.root && !j.has("user"):
		out("pid namespace: needs a user namespace")
	}
	switch {
	case j.has("mount"):
		in("no file system (empty read-only root)")
	case j.chroot:
		in("no file system (root is a removed directory)")
	default:
		out("no file system: the root could not be changed; seccomp allows no call that takes a path")
	}
	j.userReport(p, in, out)
	if len(g.dirs) > 0 {
		in("control group (%s)", g.names())
	} else if g.missing != "" {
		out("control group: %s", g.missing)
	}
	return r
}

// userReport says which user the image runs as on the host.
func (j *jail) userReport(p *plan, in, out func(string, ...any)) {
	if !j.root {
		in("user %d", os.Geteuid())
		return
	}
	var why []string
	for _, i := range p.drop {
		if err := p.err(i); err != nil {
			why = append(why, err.Error())
		}
	}
	if j.keepsUser {
		why = append(why, "this container has no user 65534")
	}
	if why == nil {
		in("user %d", UnprivilegedID)
	} else {
		out("unprivileged user: still user 0: %s", strings.Join(why, ", "))
	}
}
