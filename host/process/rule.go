package process

import "fmt"

// A Rule allows one system call. A call that no rule allows ends the process.
type Rule struct {
	Nr   uint32
	Name string
	// Any lists alternatives: the call is allowed if all conditions of one of
	// them hold. No alternative at all allows every call of this number.
	Any [][]Cond
	Why string
}

// A Cond is a condition on one argument, as the 64-bit value of its register.
type Cond struct {
	Arg int
	op  condOp
	a   uint64
	b   uint64
}

type condOp uint8

const (
	opEqual condOp = iota
	opMasked
	opRange
)

// Equal wants argument arg to be v.
func Equal(arg int, v uint64) Cond { return Cond{arg, opEqual, v, 0} }

// Masked wants the bits of mask in argument arg to be those of v.
func Masked(arg int, mask, v uint64) Cond { return Cond{arg, opMasked, mask, v} }

// Between wants lo <= argument arg < hi.
func Between(arg int, lo, hi uint64) Cond { return Cond{arg, opRange, lo, hi} }

// Holds evaluates c as the filter does.
func (c Cond) Holds(args [6]uint64) bool {
	v := args[c.Arg]
	switch c.op {
	case opEqual:
		return v == c.a
	case opMasked:
		return v&c.a == c.b
	default:
		return c.a <= v && v < c.b
	}
}

func (c Cond) String() string {
	switch c.op {
	case opEqual:
		return fmt.Sprintf("arg%d == %#x", c.Arg, c.a)
	case opMasked:
		return fmt.Sprintf("arg%d & %#x == %#x", c.Arg, c.a, c.b)
	default:
		return fmt.Sprintf("%#x <= arg%d < %#x", c.a, c.Arg, c.b)
	}
}

// Allows evaluates the rule as the filter does.
func (r *Rule) Allows(args [6]uint64) bool {
	if len(r.Any) == 0 {
		return true
	}
	for _, all := range r.Any {
		ok := true
		for _, c := range all {
			ok = ok && c.Holds(args)
		}
		if ok {
			return true
		}
	}
	return false
}
