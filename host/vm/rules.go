package vm

import (
	"golang.org/x/sys/unix"

	"noyau.dev/host/process"
	"noyau.dev/host/vm/runner"
)

// Rules is every system call that a runner can make from its first instruction:
// what it needs later (runner.Calls) and what its own start needs. Before the
// guest's first instruction the runner narrows itself down to runner.Calls.
func Rules(netOut, fork bool) []process.Rule {
	return rulesOf(append(runner.Calls(netOut, fork), runner.StartCalls()...))
}

// ZygoteRules is every system call that a zygote and those that it makes can make until
// these have narrowed themselves down to runner.Calls.
func ZygoteRules() []process.Rule {
	return rulesOf(append(append(runner.Calls(true, true), runner.StartCalls()...), runner.ZygoteCalls()...))
}

func rulesOf(calls []runner.Call) []process.Rule {
	var rules []process.Rule
	at := map[uint32]int{}
	for _, c := range calls {
		r := process.Rule{Nr: c.Nr, Name: c.Name, Why: c.Why}
		for _, v := range c.Values {
			all := []process.Cond{process.Masked(c.Arg, uint64(c.Mask), uint64(v))}
			for _, a := range c.And {
				all = append(all, process.Int(a.Arg, a.Value))
			}
			r.Any = append(r.Any, all)
		}
		i, again := at[c.Nr]
		switch {
		case !again:
			at[c.Nr] = len(rules)
			rules = append(rules, r)
		case c.Nr == unix.SYS_IOCTL && c.Mask != ^uint32(0):
			rules[i] = r // the wider one
		case len(r.Any) == 0 || len(rules[i].Any) == 0:
			rules[i].Any = nil
		default:
			rules[i].Any = append(rules[i].Any, r.Any...)
		}
	}
	return rules
}
