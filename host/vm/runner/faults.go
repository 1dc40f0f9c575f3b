package runner

import (
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/host/vm/machine"
)

// Codes of siginfo, as Linux gives them for faults.
const (
	siKernel  = 0x80
	segMapErr = 1
	segAccErr = 2
	fpeIntDiv = 1
	fpeFltInv = 7
	illOpn    = 2
	trapBrkpt = 1
	trapTrace = 2
	busAdrAln = 1
)

// userEnd is where user addresses end. What is above, a guest cannot tell from
// unmapped memory, as on Linux.
const userEnd = 1 << 47

// faultSignal translates an exception into the signal that Linux would send.
func faultSignal(ev *machine.Event, rip uint64) siginfo {
	si := siginfo{sig: int32(unix.SIGSEGV), code: siKernel, trapno: uint64(ev.Vector), errno: ev.Code, cr2: ev.CR2}
	set := func(sig unix.Signal, code int32, addr uint64) { si.sig, si.code, si.addr = int32(sig), code, addr }
	switch ev.Vector {
	case machine.VecPF:
		code := int32(segMapErr)
		if ev.Code&1 != 0 && ev.CR2 < userEnd {
			code = segAccErr
		}
		set(unix.SIGSEGV, code, ev.CR2)
	case machine.VecDE:
		set(unix.SIGFPE, fpeIntDiv, rip)
	case machine.VecMF, machine.VecXM:
		set(unix.SIGFPE, fpeFltInv, rip)
	case machine.VecUD:
		set(unix.SIGILL, illOpn, rip)
	case machine.VecBP:
		set(unix.SIGTRAP, siKernel, 0)
	case machine.VecDB:
		set(unix.SIGTRAP, trapTrace, rip)
	case machine.VecAC:
		set(unix.SIGBUS, busAdrAln, 0)
	case machine.VecNP, machine.VecSS:
		set(unix.SIGBUS, siKernel, 0)
	}
	return si
}

var vectorNames = map[uint8]string{
	machine.VecDE: "divide error", machine.VecDB: "debug exception", machine.VecBP: "breakpoint",
	machine.VecUD: "invalid instruction", machine.VecGP: "general protection fault",
	machine.VecSS: "stack fault", machine.VecNP: "segment not present",
	machine.VecMF: "x87 error", machine.VecAC: "alignment check", machine.VecXM: "SIMD error",
}

// describe names a fault for the report that ends a VM.
func describe(ev *machine.Event, rip, rsp uint64) string {
	what := vectorNames[ev.Vector]
	switch {
	case ev.Vector == machine.VecPF:
		how := "read of"
		if ev.Code&2 != 0 {
			how = "write to"
		} else if ev.Code&16 != 0 {
			how = "jump to"
		}
		state := "unmapped"
		if ev.Code&1 != 0 && ev.CR2 < userEnd {
			state = "protected"
		}
		what = fmt.Sprintf("page fault: %s %s address %#x", how, state, ev.CR2)
	case what == "":
		what = fmt.Sprintf("exception %d", ev.Vector)
	}
	return fmt.Sprintf("%s, rip %#x, rsp %#x, code %#x", what, rip, rsp, ev.Code)
}
