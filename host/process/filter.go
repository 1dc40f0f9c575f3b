package process

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A Filter is a compiled list of rules. It is made once and used for any number
// of launches of this process.
type Filter struct {
	rules []Rule
	prog  []unix.SockFilter
	image bool // the list of an image, to which limits of processes and memory fit
}

// NewFilter compiles rules, and one more that allows the launcher's own execveat.
func NewFilter(rules []Rule) (*Filter, error) {
	rules = append(slices.Clone(rules), execRule(execSecret()))
	ins, err := compile(rules)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(ins)
	if err != nil {
		return nil, fmt.Errorf("process: seccomp filter: %w", err)
	}
	f := &Filter{rules: rules}
	for _, r := range raw {
		f.prog = append(f.prog, unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K})
	}
	return f, nil
}

// Calls is how many system calls the filter knows.
func (f *Filter) Calls() int { return len(f.rules) }

func (f *Filter) sockFprog() *unix.SockFprog {
	return &unix.SockFprog{Len: uint16(len(f.prog)), Filter: &f.prog[0]}
}

// imageFilters holds one filter for each Allow.
var imageFilters sync.Map

func imageFilter(a Allow) (*Filter, error) {
	if f, ok := imageFilters.Load(a); ok {
		return f.(*Filter), nil
	}
	f, err := NewFilter(ImageRules(a))
	if err != nil {
		return nil, err
	}
	f.image = true
	imageFilters.Store(a, f)
	return f, nil
}

// execSecret is random and the same for all launches of this process.
var execSecret = sync.OnceValue(func() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
})

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// An assembler collects instructions whose jumps name labels.
type assembler struct {
	ins    []bpf.Instruction
	jumps  map[int][2]string // instruction -> labels if true, if false; "" is the next one
	labels map[string]int
	serial int
	far    bool // a conditional jump reaches 255 instructions: go on by an unconditional one
}

var errTooFar = errors.New("process: seccomp filter: a conditional jump goes too far")

func (a *assembler) emit(i bpf.Instruction) { a.ins = append(a.ins, i) }

func (a *assembler) jump(t bpf.JumpTest, v uint32, yes, no string) {
	if !a.far {
		a.jumps[len(a.ins)] = [2]string{yes, no}
		a.emit(bpf.JumpIf{Cond: t, Val: v})
		return
	}
	j := bpf.JumpIf{Cond: t, Val: v, SkipFalse: 1}
	if yes == "" {
		j.SkipTrue, j.SkipFalse = 1, 0
	}
	a.emit(j)
	for _, l := range []string{yes, no} {
		if l != "" {
			a.jumps[len(a.ins)] = [2]string{l, ""}
			a.emit(bpf.Jump{})
		}
	}
}

func (a *assembler) label(name string) { a.labels[name] = len(a.ins) }

func (a *assembler) fresh() string {
	a.serial++
	return fmt.Sprint("L", a.serial)
}

// link replaces labels by distances.
func (a *assembler) link() ([]bpf.Instruction, error) {
	for at, l := range a.jumps {
		if _, ok := a.ins[at].(bpf.Jump); ok {
			a.ins[at] = bpf.Jump{Skip: uint32(a.labels[l[0]] - at - 1)}
			continue
		}
		j := a.ins[at].(bpf.JumpIf)
		for i, skip := range []*uint8{&j.SkipTrue, &j.SkipFalse} {
			if l[i] == "" {
				continue
			}
			d := a.labels[l[i]] - at - 1
			if d < 0 || d > math.MaxUint8 {
				return nil, errTooFar
			}
			*skip = uint8(d)
		}
		a.ins[at] = j
	}
	return a.ins, nil
}

// lastCall is above all numbers of system calls. It only weighs the search tree.
const lastCall = 512

// compile writes the filter: the architecture, the hottest rule, a search tree
// over the numbers, then the conditions of the rules.
//
// When a filter is installed the kernel tries it with every number of a system
// call, to learn which ones it allows whatever their arguments; these then skip
// the filter. That takes about 1,000 runs by a slow interpreter, so what counts
// is the length of the path of numbers that are refused: a list of comparisons
// costs ten times what this tree does.
func compile(rules []Rule) ([]bpf.Instruction, error) {
	ins, err := assemble(rules, false)
	if err == errTooFar {
		ins, err = assemble(rules, true)
	}
	return ins, err
}

func assemble(rules []Rule, far bool) ([]bpf.Instruction, error) {
	const kill, allow = unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_ALLOW
	a := &assembler{jumps: map[int][2]string{}, labels: map[string]int{}, far: far}
	a.emit(bpf.LoadAbsolute{Off: offArch, Size: 4})
	a.jump(bpf.JumpEqual, unix.AUDIT_ARCH_X86_64, "", "kill")
	// The numbers of x32 have bit 30 set, so they match no rule.
	a.emit(bpf.LoadAbsolute{Off: offNr, Size: 4})
	a.jump(bpf.JumpEqual, rules[0].Nr, target(&rules[0]), "")
	sorted := slices.Clone(rules)
	slices.SortFunc(sorted, func(x, y Rule) int { return int(x.Nr) - int(y.Nr) })
	a.search(sorted, 0, lastCall)
	for i := range rules {
		a.body(&rules[i])
	}
	a.label("kill")
	a.emit(bpf.RetConstant{Val: kill})
	a.label("allow")
	a.emit(bpf.RetConstant{Val: allow})
	return a.link()
}

// body writes the alternatives of r.
func (a *assembler) body(r *Rule) {
	if len(r.Any) == 0 {
		return
	}
	a.label(target(r))
	for i, all := range r.Any {
		next := "kill"
		if i < len(r.Any)-1 {
			next = a.fresh()
		}
		for _, c := range all[:len(all)-1] {
			a.cond(c, "", next)
		}
		a.cond(all[len(all)-1], "allow", next)
		if next != "kill" {
			a.label(next)
		}
	}
}

// target is the label of what decides about a rule's call.
func target(r *Rule) string {
	if len(r.Any) == 0 {
		return "allow"
	}
	return fmt.Sprint("rule", r.Nr)
}

// search finds the number in the accumulator, which lies in [lo, hi), among
// rules sorted by number.
func (a *assembler) search(rules []Rule, lo, hi uint32) {
	if len(rules) == 1 {
		a.jump(bpf.JumpEqual, rules[0].Nr, target(&rules[0]), "kill")
		return
	}
	best := 1
	for i := range rules {
		if i > 0 && away(rules[i].Nr, lo, hi) < away(rules[best].Nr, lo, hi) {
			best = i
		}
	}
	split, right := rules[best].Nr, a.fresh()
	a.jump(bpf.JumpGreaterOrEqual, split, right, "")
	a.search(rules[:best], lo, split)
	a.label(right)
	a.search(rules[best:], split, hi)
}

// away is how far v is from the middle of [lo, hi), doubled.
func away(v, lo, hi uint32) uint32 {
	d := int32(2*v) - int32(lo+hi)
	return uint32(max(d, -d))
}

// cond goes to yes if c holds and to no otherwise; yes may be "", the next
// instruction.
func (a *assembler) cond(c Cond, yes, no string) {
	lo := uint32(offArgs + 8*c.Arg)
	hi := lo + 4
	switch c.op {
	case opInt:
		a.word(lo, math.MaxUint32, uint32(c.a), yes, no)
	case opIntNot:
		a.word(lo, math.MaxUint32, uint32(c.a), no, yes)
	case opEqual:
		a.word(hi, math.MaxUint32, uint32(c.a>>32), "", no)
		a.word(lo, math.MaxUint32, uint32(c.a), yes, no)
	case opMasked:
		a.word(hi, uint32(c.a>>32), uint32(c.b>>32), "", no)
		a.word(lo, uint32(c.a), uint32(c.b), yes, no)
	case opRange:
		a.emit(bpf.LoadAbsolute{Off: hi, Size: 4})
		if c.a != 0 {
			a.jump(bpf.JumpGreaterOrEqual, uint32(c.a>>32), "", no)
		}
		a.jump(bpf.JumpGreaterOrEqual, uint32(c.b>>32), no, yes)
	}
}

// word compares the bits of mask in 32 bits of an argument.
func (a *assembler) word(off, mask, v uint32, yes, no string) {
	if mask == 0 && yes == "" {
		return
	}
	a.emit(bpf.LoadAbsolute{Off: off, Size: 4})
	if mask != math.MaxUint32 {
		a.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
	}
	a.jump(bpf.JumpEqual, v, yes, no)
}
