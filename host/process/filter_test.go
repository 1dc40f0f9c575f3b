package process

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The compiled filter and the rules must agree on every number, in an
// interpreter. What the kernel makes of the filter is tested by rules_test.go.

// data encodes struct seccomp_data for bpf.VM, which reads big endian.
func data(nr, arch uint32, args [6]uint64) []byte {
	b := binary.BigEndian.AppendUint32(nil, nr)
	b = binary.BigEndian.AppendUint32(b, arch)
	b = append(b, make([]byte, 8)...) // instruction pointer
	for _, a := range args {
		b = binary.BigEndian.AppendUint32(b, uint32(a))
		b = binary.BigEndian.AppendUint32(b, uint32(a>>32))
	}
	return b
}

// good returns arguments that satisfy all conditions.
func good(all []Cond) (args [6]uint64) {
	for _, c := range all {
		switch c.op {
		case opMasked:
			args[c.Arg] = c.b
		case opIntNot:
			args[c.Arg] = c.a + 1
		default:
			args[c.Arg] = c.a
		}
	}
	return args
}

// bad returns variants of arguments that satisfy all, each breaking one
// condition so that no alternative of r allows it.
func bad(r *Rule, all []Cond) (list [][6]uint64) {
	for _, c := range all {
		var tries []uint64
		switch c.op {
		case opRange:
			tries = []uint64{c.a - 1, c.b, 0x400000, 1 << 63}
		case opIntNot:
			tries = []uint64{c.a, c.a | 1<<32, c.a | 1<<63}
		case opInt:
			for bit := range 32 {
				tries = append(tries, c.a^1<<bit)
			}
		default:
			for bit := range 64 {
				tries = append(tries, good(all)[c.Arg]^1<<bit)
			}
		}
		for _, v := range tries {
			args := good(all)
			args[c.Arg] = v
			if !r.Allows(args) {
				list = append(list, args)
			}
		}
	}
	return list
}

func TestFilterAgreesWithRules(t *testing.T) {
	for _, allow := range []Allow{{}, {SendAnywhere: true}, {Clock: true}, {Fork: true}, {Restore: true}, {true, true, true, true}} {
		rules := append(ImageRules(allow), execRule(execSecret()))
		ins, err := compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		vm, err := bpf.NewVM(ins)
		if err != nil {
			t.Fatal(err)
		}
		run := func(nr, arch uint32, args [6]uint64) bool {
			r, err := vm.Run(data(nr, arch, args))
			if err != nil {
				t.Fatal(err)
			}
			switch uint32(r) {
			case unix.SECCOMP_RET_ALLOW:
				return true
			case unix.SECCOMP_RET_KILL_PROCESS:
				return false
			}
			t.Fatalf("call %d: the filter returns %#x", nr, uint32(r))
			return false
		}
		for nr := range uint32(1024) {
			var rule *Rule
			for i := range rules {
				if rules[i].Nr == nr {
					rule = &rules[i]
				}
			}
			for _, args := range samples(rule) {
				want := rule != nil && rule.Allows(args)
				if got := run(nr, unix.AUDIT_ARCH_X86_64, args); got != want {
					t.Errorf("%+v: call %d%#x: allowed is %v, the rule says %v", allow, nr, args, got, want)
				}
				if run(nr, unix.AUDIT_ARCH_I386, args) {
					t.Errorf("call %d%#x is allowed by its i386 number", nr, args)
				}
				if run(nr|0x40000000, unix.AUDIT_ARCH_X86_64, args) {
					t.Errorf("call %d%#x is allowed by its x32 number", nr, args)
				}
			}
		}
	}
}

// samples are arguments at and around what a rule decides by, and random ones.
func samples(r *Rule) [][6]uint64 {
	list := [][6]uint64{{}, {^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
	if r == nil {
		return list
	}
	rnd := rand.New(rand.NewPCG(1, uint64(r.Nr)))
	for _, all := range r.Any {
		list = append(append(list, good(all)), bad(r, all)...)
		for range 100 {
			args := good(all)
			args[rnd.IntN(6)] = rnd.Uint64() >> rnd.IntN(64)
			list = append(list, args)
		}
	}
	return list
}

func TestNoMoreThan16Calls(t *testing.T) {
	f, err := imageFilter(Allow{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Calls() != 16 {
		t.Errorf("%d system calls, want 16", f.Calls())
	}
}

// Filters for other programs than images may be long: every jump must fit.
func TestLongFilter(t *testing.T) {
	var rules []Rule
	for nr := range uint32(300) {
		rules = append(rules, Rule{Nr: nr, Any: [][]Cond{all(Equal(0, 1), Equal(1, 2)), all(Equal(2, 3))}})
	}
	ins, err := compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	for nr := range uint32(310) {
		for _, args := range [][6]uint64{{1, 2}, {1, 3}, {0, 0, 3}, {}} {
			r, _ := vm.Run(data(nr, unix.AUDIT_ARCH_X86_64, args))
			want := nr < 300 && rules[0].Allows(args)
			if got := uint32(r) == unix.SECCOMP_RET_ALLOW; got != want {
				t.Fatalf("call %d%v: allowed is %v, want %v", nr, args, got, want)
			}
		}
	}
}

// The table in the documentation is the table in force.
func TestDocumentedRules(t *testing.T) {
	const path = "../../docs/HOST_CALLS.md"
	want := documentation()
	if os.Getenv("NOYAU_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the rules say; run this test with NOYAU_UPDATE=1", path)
	}
}

func documentation() string {
	base := ImageRules(Allow{})
	secret := execRule(0x1122334455667788)
	s := "# Host calls of an image (isolation=process)\n\n" +
		"Every system call that an image can make. Any other one, any other number or\n" +
		"argument, and any call by the i386 or x32 entry ends the process (SIGSYS).\n" +
		"Arguments are counted from 0. This page is generated from `host/process/rules.go`.\n\n" +
		Describe(append(base, secret)) +
		"\nThe value of the last argument of `execveat` is random for each monitor; the one above is an example.\n" +
		"\nAllowed only where the policy or the machine asks for it:\n\n" +
		Describe(extra(base))
	return s
}

// extra are the rules that Allow adds or changes.
func extra(base []Rule) (list []Rule) {
	for _, r := range ImageRules(Allow{true, true, true, true}) {
		if !slices.ContainsFunc(base, func(b Rule) bool { return reflect.DeepEqual(b, r) }) {
			list = append(list, r)
		}
	}
	return list
}
