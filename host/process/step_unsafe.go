package process

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A step is one system call of a child between clone and exec. Everything that
// a child does is a list of steps, prepared before the clone, since a child that
// shares the memory of a running Go program may neither allocate nor grow a
// stack nor take a lock. spawn_amd64.s knows the offsets.
type step struct {
	nr    uintptr
	args  [6]uintptr
	flags uintptr
	want  uintptr // with stepExact: the result that is success
	ret   uintptr // the result, written by the child
}

// Flags of a step.
const (
	stepOptional = 1 // an error is noted in ret, and the child goes on
	stepExact    = 2 // success is the result want and no other
	stepSpawn    = 4 // a clone: the new child goes on, its parent ends
)

// failure is written by a child that could not go on.
type failure struct {
	at  *step
	ret uintptr
	pid uintptr // result of the stepSpawn in its parent
}

// program is a list of steps with the names that errors need.
type program struct {
	steps []step
	names []string
	keep  []any // what the arguments point to
}

func (p *program) add(name string, flags, nr uintptr, args ...uintptr) *program {
	s := step{nr: nr, flags: flags}
	copy(s.args[:], args)
	p.steps = append(p.steps, s)
	p.names = append(p.names, name)
	return p
}

// last is the index of the step added last.
func (p *program) last() int { return len(p.steps) - 1 }

// err returns the error of step i, nil if it succeeded.
func (p *program) err(i int) error {
	if e := errnoOf(p.steps[i].ret); e != 0 {
		return fmt.Errorf("%s: %w", p.names[i], e)
	}
	return nil
}

// A StepError says which step of a launch failed. Errors.Is finds the errno.
type StepError struct {
	Step  string
	Errno unix.Errno
}

func (e *StepError) Error() string { return fmt.Sprintf("process: %s: %v", e.Step, e.Errno) }
func (e *StepError) Unwrap() error { return e.Errno }

// errnoOf takes the error number out of the result of a system call.
func errnoOf(ret uintptr) unix.Errno {
	if ret > ^uintptr(0)-4095 {
		return unix.Errno(-ret)
	}
	return 0
}

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

func spawn(prog *step, n uintptr, fail *failure) uintptr

// run clones by the first step of p and lets the child do the others. It returns
// the pid of the child. With CLONE_VFORK in the first step it returns when the
// child has ended or executed something; then the error is that of the step that
// failed, and the child is still to be reaped.
func (p *program) run(fail *failure) (pid int, err error) {
	r := blockAndSpawn(&p.steps[0], uintptr(len(p.steps)), fail)
	runtime.KeepAlive(p)
	if e := errnoOf(r); e != 0 {
		return 0, &StepError{p.names[0], e}
	}
	return int(r), p.failed(fail)
}

// failed returns the error that a child has left behind.
func (p *program) failed(fail *failure) error {
	if fail.at == nil {
		return nil
	}
	i := int((uintptr(unsafe.Pointer(fail.at)) - uintptr(unsafe.Pointer(&p.steps[0]))) / unsafe.Sizeof(step{}))
	if p.steps[i].flags&stepExact != 0 {
		return &StepError{p.names[i], unix.ESRCH}
	}
	return &StepError{p.names[i], errnoOf(fail.ret)}
}

// blockAndSpawn runs spawn with all signals blocked, so that no handler of this
// process runs in the child. Between beforeFork and afterFork no stack may grow.
//
//go:norace
//go:nosplit
//go:noinline
func blockAndSpawn(prog *step, n uintptr, fail *failure) uintptr {
	beforeFork()
	r := spawn(prog, n, fail)
	afterFork()
	return r
}

func ptr[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// cstring returns the address of s as a NUL-terminated string and keeps it.
func (p *program) cstring(s string) uintptr {
	b := append([]byte(s), 0)
	p.keep = append(p.keep, b)
	return ptr(&b[0])
}

// cstrings returns the address of a NULL-terminated vector of strings.
func (p *program) cstrings(list []string) uintptr {
	size := 0
	for _, s := range list {
		size += len(s) + 1
	}
	text, vec := make([]byte, 0, size+1), make([]uintptr, len(list)+1)
	base := ptr(unsafe.SliceData(text[:1]))
	for i, s := range list {
		vec[i] = base + uintptr(len(text))
		text = append(append(text, s...), 0)
	}
	p.keep = append(p.keep, text, vec)
	return ptr(&vec[0])
}

// hold keeps v alive as long as p and returns its address.
func hold[T any](p *program, v *T) uintptr {
	p.keep = append(p.keep, v)
	return ptr(v)
}
