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

// A Cond is a condition on one argument: on the 64-bit value of its register, or
// on the lower half for arguments that are an int to the kernel.
type Cond struct {
	Arg int
	op  condOp
	a   uint64
	b   uint64
}

type condOp uint8

const (
	opInt condOp = iota
	opEqual
	opMasked
	opRange
	opIntNot
)

// Int wants argument arg, an int to the kernel, to be v.
func Int(arg int, v uint32) Cond { return Cond{arg, opInt, uint64(v), 0} }

// IntNot wants argument arg, an int to the kernel, to be another than v.
func IntNot(arg int, v uint32) Cond { return Cond{arg, opIntNot, uint64(v), 0} }

// Equal wants argument arg to be v.
func Equal(arg int, v uint64) Cond { return Cond{arg, opEqual, v, 0} }

// Masked wants the bits of mask in argument arg to be those of v.
func Masked(arg int, mask, v uint64) Cond { return Cond{arg, opMasked, mask, v} }

// Between wants lo <= argument arg < hi. Both are multiples of 4 GiB, which
// makes the filter shorter.
func Between(arg int, lo, hi uint64) Cond {
	if uint32(lo)|uint32(hi) != 0 {
		panic(fmt.Sprintf("process: range %#x to %#x of a rule is not in multiples of 4 GiB", lo, hi))
	}
	return Cond{arg, opRange, lo, hi}
}

// Holds evaluates c as the filter does.
func (c Cond) Holds(args [6]uint64) bool {
	v := args[c.Arg]
	switch c.op {
	case opInt:
		return uint32(v) == uint32(c.a)
	case opIntNot:
		return uint32(v) != uint32(c.a)
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
	case opInt:
		return fmt.Sprintf("int arg%d == %#x", c.Arg, c.a)
	case opIntNot:
		return fmt.Sprintf("int arg%d != %#x", c.Arg, c.a)
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
