package vm

import (
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// The spare is a runner that the zygote has made ahead of the next start: it has made its
// machine, and waits for an order, which can be any that a runner of the zygote gets. It is
// replaced a moment after it was taken, and goes with the zygote. Starts that follow one
// another more quickly have their runners made by the zygote at once.
//
// Its fields are guarded by the lock of zygotes.
var spare struct {
	s      *shell        // nil: there is none
	allow  process.Allow // what it may do
	want   process.Allow // what the last start was to be allowed
	timer  *time.Timer   // making the next one; nil: there never was one
	unmade bool          // benchmarks want none
}

// takeSpare returns the spare if there is one that is alive and can become what spec says, and
// has another made.
func takeSpare(spec *process.Spec) *shell {
	zygotes.Lock()
	defer zygotes.Unlock()
	s := spare.s
	if s == nil || spare.allow != spec.Allow || limited(spec) {
		return nil
	}
	spare.s = nil
	spareSoon(spec.Allow)
	if !monitor.NewMailbox(s.mail).Alive() {
		s.drop()
		return nil
	}
	zygotes.idle.Reset(zygoteIdle)
	return s
}

// spareSoon has a spare made in a moment, for starts that are allowed what the last one
// was. Members of a family that may fork are no pattern for what comes: there is none for
// them. zygotes is locked.
func spareSoon(allow process.Allow) {
	if allow.Fork || spare.unmade {
		return
	}
	if spare.want = allow; spare.timer == nil {
		spare.timer = time.AfterFunc(aheadAfter, makeSpare)
		return
	}
	spare.timer.Reset(aheadAfter)
}

// makeSpare makes the spare if there is a zygote to do it. If it cannot, the next start finds
// that out for itself.
func makeSpare() {
	zygotes.Lock()
	defer zygotes.Unlock()
	z := zygotes.z
	if z == nil || spare.unmade {
		return
	}
	if spare.s != nil {
		if spare.allow == spare.want {
			return
		}
		dropSpare()
	}
	f, err := filter(spare.want)
	if err != nil {
		return
	}
	s, err := z.bear(runner.ZygoteSpare(z.p.MakesPIDs()), &process.Spec{Allow: spare.want, Filter: f})
	if err == nil {
		spare.s, spare.allow = s, spare.want
	}
}

// dropSpare lets go of the spare. zygotes is locked.
func dropSpare() {
	if spare.s != nil {
		spare.s.drop()
		spare.s = nil
	}
}
