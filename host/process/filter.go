package process

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
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
	rules = append(append([]Rule(nil), rules...), execRule(execSecret()))
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
}

func (a *assembler) emit(i bpf.Instruction) { a.ins = append(a.ins, i) }

func (a *assembler) jump(t bpf.JumpTest, v uint32, yes, no string) {
	a.jumps[len(a.ins)] = [2]string{yes, no}
	a.emit(bpf.JumpIf{Cond: t, Val: v})
}

func (a *assembler) label(name string) { a.labels[name] = len(a.ins) }

func (a *assembler) fresh() string {
	a.serial++
	return fmt.Sprint("L", a.serial)
}

// link replaces labels by distances.
func (a *assembler) link() ([]bpf.Instruction, error) {
	for at, l := range a.jumps {
		j := a.ins[at].(bpf.JumpIf)
		for i, skip := range []*uint8{&j.SkipTrue, &j.SkipFalse} {
			if l[i] == "" {
				continue
			}
			d := a.labels[l[i]] - at - 1
			if d < 0 || d > math.MaxUint8 {
				return nil, fmt.Errorf("process: seccomp filter: a jump over %d instructions is too far", d)
			}
			*skip = uint8(d)
		}
		a.ins[at] = j
	}
	return a.ins, nil
}

// compile writes the filter: architecture, then the number against each rule in
// order, then the conditions of the rules.
func compile(rules []Rule) ([]bpf.Instruction, error) {
	const kill, allow = unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_ALLOW
	a := &assembler{jumps: map[int][2]string{}, labels: map[string]int{}}
	a.emit(bpf.LoadAbsolute{Off: offArch, Size: 4})
	a.jump(bpf.JumpEqual, unix.AUDIT_ARCH_X86_64, "", "kill")
	// The numbers of x32 have bit 30 set, so they match no rule.
	a.emit(bpf.LoadAbsolute{Off: offNr, Size: 4})
	for i, r := range rules {
		to := "allow"
		if len(r.Any) > 0 {
			to = fmt.Sprint("rule", i)
		}
		a.jump(bpf.JumpEqual, r.Nr, to, "")
	}
	a.label("kill")
	a.emit(bpf.RetConstant{Val: kill})
	a.label("allow")
	a.emit(bpf.RetConstant{Val: allow})
	for i, r := range rules {
		if len(r.Any) == 0 {
			continue
		}
		a.label(fmt.Sprint("rule", i))
		for _, all := range r.Any {
			next := a.fresh()
			for _, c := range all {
				a.cond(c, next)
			}
			a.emit(bpf.RetConstant{Val: allow})
			a.label(next)
		}
		a.emit(bpf.RetConstant{Val: kill})
	}
	return a.link()
}

// cond goes on behind itself if c holds and to the label no otherwise.
func (a *assembler) cond(c Cond, no string) {
	lo := uint32(offArgs + 8*c.Arg)
	word := func(off uint32, mask uint64, v uint32) {
		if uint32(mask) == 0 {
			return
		}
		a.emit(bpf.LoadAbsolute{Off: off, Size: 4})
		if uint32(mask) != math.MaxUint32 {
			a.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: uint32(mask)})
		}
		a.jump(bpf.JumpEqual, v, "", no)
	}
	switch c.op {
	case opEqual:
		word(lo, math.MaxUint64, uint32(c.a))
		word(lo+4, math.MaxUint64, uint32(c.a>>32))
	case opMasked:
		word(lo, c.a, uint32(c.b))
		word(lo+4, c.a>>32, uint32(c.b>>32))
	case opRange:
		a.atLeast(lo, c.a, "", no)
		a.atLeast(lo, c.b, no, "")
	}
}

// atLeast goes to yes if the argument at offset lo is at least v, else to no.
func (a *assembler) atLeast(lo uint32, v uint64, yes, no string) {
	end := a.fresh()
	or := func(l string) string {
		if l == "" {
			return end
		}
		return l
	}
	a.emit(bpf.LoadAbsolute{Off: lo + 4, Size: 4})
	a.jump(bpf.JumpGreaterThan, uint32(v>>32), or(yes), "")
	a.jump(bpf.JumpEqual, uint32(v>>32), "", or(no))
	a.emit(bpf.LoadAbsolute{Off: lo, Size: 4})
	a.jump(bpf.JumpGreaterOrEqual, uint32(v), or(yes), or(no))
	a.label(end)
}
