package process

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

const (
	mapAnon   = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED | unix.MAP_NORESERVE
	readWrite = unix.PROT_READ | unix.PROT_WRITE
	regionEnd = abi.RegionBase + abi.RegionMax
)

// all is an alternative of a rule.
func all(c ...Cond) []Cond { return c }

// ImageRules is every system call that an image can make, most frequent first:
// the filter tries them in this order. Rules without conditions cost nothing
// on Linux 5.11 and newer, which remembers them in a bitmap.
func ImageRules(a Allow) []Rule {
	send := Rule{abi.CallSend, "sendto", [][]Cond{all(Equal(4, 0))},
		"data out, only on what a handle is connected to: no address"}
	if a.SendAnywhere {
		send.Any, send.Why = nil, "data out; the policy allows datagrams to any address"
	}
	rules := []Rule{
		send,
		{abi.CallPoll, "epoll_pwait", [][]Cond{all(Int(0, abi.HandlePoll), Equal(4, 0))},
			"wait for readiness and time, on the one epoll instance; the signal mask stays"},
		{abi.CallRecv, "recvfrom", nil, "data in"},
		{abi.CallPread, "pread64", nil, "read files that the monitor opened"},
		{abi.CallPwrite, "pwrite64", nil, "write files that the monitor opened"},
		{abi.CallAccept, "accept4", [][]Cond{all(Int(3, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC))},
			"connections to published ports"},
		{abi.CallWatch, "epoll_ctl", [][]Cond{
			all(Int(0, abi.HandlePoll), Int(1, unix.EPOLL_CTL_ADD)),
			all(Int(0, abi.HandlePoll), Int(1, unix.EPOLL_CTL_DEL)),
		}, "watch handles, on the one epoll instance"},
		{abi.CallClose, "close", nil, "give handles back"},
		{abi.CallMap, "mmap", [][]Cond{
			all(Equal(3, mapAnon), Between(0, abi.RegionBase, regionEnd), Between(1, 0, 2*abi.RegionMax), Masked(2, ^uint64(readWrite), 0)),
			all(Equal(3, unix.MAP_SHARED|unix.MAP_FIXED), Between(0, abi.RegionBase, regionEnd), Between(1, 0, 2*abi.RegionMax), Masked(2, ^uint64(readWrite), 0)),
			all(Equal(3, unix.MAP_SHARED), Equal(0, 0), Masked(2, ^uint64(readWrite), 0)),
		}, "memory inside the region: grow, release; files of volumes; never executable"},
		{abi.CallRecvmsg, "recvmsg", [][]Cond{all(Int(0, abi.HandleControl))},
			"replies of the monitor that carry a handle"},
		{abi.CallSendmsg, "sendmsg", [][]Cond{all(Int(0, abi.HandleControl))},
			"requests to the monitor about a handle that only the image has"},
		{abi.CallSigreturn, "rt_sigreturn", nil, "the end of a signal handler: faults and the preemption tick"},
		{abi.CallSigaction, "rt_sigaction", [][]Cond{all(Equal(3, 8))}, "handlers of faults and of the tick, at start"},
		{abi.CallSigstack, "sigaltstack", nil, "the stack of these handlers, at start"},
		{abi.CallExit, "exit_group", nil, "the end"},
	}
	if a.Fork {
		for i := range rules {
			if rules[i].Nr == abi.CallClose {
				rules[i].Any = [][]Cond{all(IntNot(0, abi.HandleLeash))}
				rules[i].Why = "give handles back; where fork is allowed, not the one that ends with the monitor"
			}
		}
	}
	if a.Restore {
		for i := range rules {
			if rules[i].Nr == abi.CallMap {
				// Variables, and the region.
				rules[i].Any = append(rules[i].Any, all(Equal(3, unix.MAP_PRIVATE|unix.MAP_FIXED), Between(0, 0, regionEnd),
					Between(1, 0, 2*abi.RegionMax), Masked(2, ^uint64(readWrite), 0)))
			}
		}
	}
	if a.Restore || a.Fork {
		rules = append(rules, Rule{abi.CallDup, "dup3", [][]Cond{all(Int(2, unix.O_CLOEXEC), IntNot(1, abi.HandleLeash))},
			"a forked or restored pVM puts its own handles in the place of those of before"})
	}
	if a.Clock {
		rules = append(rules, Rule{abi.CallClock, "clock_gettime", [][]Cond{
			all(Int(0, unix.CLOCK_REALTIME)), all(Int(0, unix.CLOCK_MONOTONIC)),
		}, "the time, where the kernel cannot tell it without a call"})
	}
	if a.Fork {
		rules = append(rules,
			Rule{abi.CallFork, "clone", [][]Cond{all(Equal(0, abi.ForkFlags), Equal(1, 0))}, "fork, and no other clone: the child is the monitor's"},
			Rule{abi.CallRing, "write", [][]Cond{all(Equal(2, 8))}, "wake those who wait for shared memory: no more than a number to an eventfd, or what sendto and pwrite64 could do"},
			Rule{abi.CallYield, "sched_yield", nil, "let the member run that writes what this one waits for in shared memory"},
			Rule{abi.CallPrctl, "prctl", [][]Cond{all(Int(0, unix.PR_SET_PDEATHSIG), Equal(1, uint64(unix.SIGKILL)))}, "a forked pVM dies with the monitor: that is not inherited"},
			Rule{abi.CallItimer, "setitimer", [][]Cond{all(Int(0, uint32(unix.ITIMER_PROF)))}, "the tick of a forked pVM: timers are not inherited"})
	}
	return rules
}

// execRule allows the launcher's own execveat and no other: its sixth argument,
// which the kernel ignores, is a random number that no image ever sees. (The
// registers of an image are cleared, its memory is new, and a wrong guess ends it.)
func execRule(secret uint64) Rule {
	return Rule{unix.SYS_EXECVEAT, "execveat",
		[][]Cond{all(Int(4, unix.AT_EMPTY_PATH), Equal(5, secret))},
		"becoming the image: carries a secret of the launcher, so never again"}
}

// Describe renders rules as a table in Markdown.
func Describe(rules []Rule) string {
	var b strings.Builder
	b.WriteString("| call | number | allowed if | why |\n| --- | --- | --- | --- |\n")
	for _, r := range rules {
		var alts []string
		for _, all := range r.Any {
			var cs []string
			for _, c := range all {
				cs = append(cs, c.String())
			}
			alts = append(alts, strings.Join(cs, " and "))
		}
		when := strings.Join(alts, "; or ")
		if when == "" {
			when = "always"
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", r.Name, r.Nr, when, r.Why)
	}
	return b.String()
}
