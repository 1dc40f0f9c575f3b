package process

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Each rule is tried both ways by a guest of its own in the kernel: arguments
// that it allows, and for each condition arguments that break it.

const survived = 42

func TestEachRule(t *testing.T) {
	allow := Allow{Clock: true, Fork: true}
	for _, r := range append(ImageRules(allow), ImageRules(Allow{SendAnywhere: true})[0]) {
		alts := r.Any
		if len(alts) == 0 {
			alts = [][]Cond{nil}
		}
		for _, all := range alts {
			args := good(all)
			want := Status{Code: survived}
			switch r.Nr {
			case unix.SYS_EXIT_GROUP:
				want = Status{}
			case unix.SYS_RT_SIGRETURN: // there is no frame to return to
				want = Status{Signal: int(unix.SIGSEGV)}
			}
			s := Spec{Allow: allow}
			if r.Nr == unix.SYS_SENDTO && len(r.Any) == 0 {
				s.Allow.SendAnywhere = true
				args[4] = 0x400000
			}
			guest := new(code).sys(uint64(r.Nr), args[:]...).exit(survived)
			if st := start(t, guest, s); st != want {
				t.Errorf("%s%#x is allowed: got %+v, want %+v", r.Name, args, st, want)
			}
			for _, args := range some(bad(&r, all)) {
				guest := new(code).sys(uint64(r.Nr), args[:]...).exit(survived)
				if st := start(t, guest, Spec{Allow: allow}); st != killed {
					t.Errorf("%s%#x is not allowed: got %+v", r.Name, args, st)
				}
			}
		}
	}
}

var killed = Status{Signal: int(unix.SIGSYS)}

// some thins a long list out; TestFilterAgreesWithRules tries all.
func some(list [][6]uint64) (few [][6]uint64) {
	for i, a := range list {
		if i%7 == 0 || i == len(list)-1 {
			few = append(few, a)
		}
	}
	return few
}

// What only Allow allows is refused without it.
func TestNotAllowed(t *testing.T) {
	for _, nr := range []uint64{unix.SYS_CLOCK_GETTIME, unix.SYS_CLONE, unix.SYS_SETITIMER} {
		for _, r := range ImageRules(Allow{Clock: true, Fork: true}) {
			if uint64(r.Nr) == nr {
				args := good(r.Any[0])
				if st := start(t, new(code).sys(nr, args[:]...).exit(survived), Spec{}); st != killed {
					t.Errorf("%s: got %+v", r.Name, st)
				}
			}
		}
	}
}
