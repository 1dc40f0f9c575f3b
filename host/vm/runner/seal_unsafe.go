package runner

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// compile writes the seccomp filter for a list of calls: a call that is not in
// it, or with no alternative that allows it, ends the process. Arguments are compared
// by their lower 32 bits, which is all that the kernel reads of those in the list;
// sendto's address alone is compared in full.
//
// Calls whose arguments do not matter come last and share one end: the kernel notes
// which these are when the filter is installed, and does not run it for them. It
// translates all of it at each start, so it is short.
func compile(calls []Call) ([]unix.SockFilter, error) {
	const (
		ld  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		and = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		ret = unix.BPF_RET | unix.BPF_K
	)
	f := []unix.SockFilter{
		{Code: ld, K: 4}, {Code: jeq, Jt: 1, K: unix.AUDIT_ARCH_X86_64}, {Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
	}
	var free []uint32
	for _, c := range calls {
		if len(c.Values) == 0 {
			free = append(free, c.Nr)
			continue
		}
		// One call: load the number; if it is another, go on behind.
		var body []unix.SockFilter
		switch {
		case c.Nr == abi.CallSend:
			body = append(body,
				unix.SockFilter{Code: ld, K: 16 + 8*4}, unix.SockFilter{Code: jeq, Jt: 1, K: 0}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
				unix.SockFilter{Code: ld, K: 20 + 8*4}, unix.SockFilter{Code: jeq, Jt: 1, K: 0}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS})
		default:
			body = append(body, unix.SockFilter{Code: ld, K: uint32(16 + 8*c.Arg)}, unix.SockFilter{Code: and, K: c.Mask})
			// What does not hold goes on behind: rest is how many instructions follow.
			rest := len(c.Values) + 2*len(c.And) + 1
			for i, v := range c.Values {
				rest--
				j := unix.SockFilter{Code: jeq, Jt: uint8(len(c.Values) - 1 - i), K: v}
				if i == len(c.Values)-1 {
					j.Jf = uint8(rest)
				}
				body = append(body, j)
			}
			for _, a := range c.And {
				rest -= 2
				body = append(body, unix.SockFilter{Code: ld, K: uint32(16 + 8*a.Arg)}, unix.SockFilter{Code: jeq, Jf: uint8(rest), K: a.Value})
			}
		}
		body = append(body, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
		if len(body) > 255 {
			return nil, fmt.Errorf("vm: the rule of %s is too long", c.Name)
		}
		f = append(f, unix.SockFilter{Code: ld, K: 0}, unix.SockFilter{Code: jeq, Jf: uint8(len(body)), K: c.Nr})
		f = append(f, body...)
	}
	if len(free) > 255 {
		return nil, fmt.Errorf("vm: %d calls without rules are too many", len(free))
	}
	f = append(f, unix.SockFilter{Code: ld, K: 0})
	for i, nr := range free {
		j := unix.SockFilter{Code: jeq, Jt: uint8(len(free) - 1 - i), K: nr}
		if i == len(free)-1 {
			j.Jf = 1
		}
		f = append(f, j)
	}
	return append(f, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS}), nil
}

// seal narrows this process, all its threads, down to the calls. It cannot be
// undone.
func seal(calls []Call) error {
	f, err := compile(calls)
	if err != nil {
		return err
	}
	return install(f)
}

func install(f []unix.SockFilter) error {
	p := &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("vm: no_new_privs: %w", err)
	}
	r, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(p)))
	if e != 0 || r != 0 {
		return fmt.Errorf("vm: seccomp filter of %d instructions: %v (thread %d)", len(f), e, r)
	}
	return nil
}
