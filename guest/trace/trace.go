// Package trace prints the app's system calls as strace does (noyau run
// --trace): a line for each call when it has returned, or, for calls that do
// not return, when it begins.
package trace

import (
	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

func init() {
	kernel.OnInit(func(b *host.Boot) {
		if b.Header.Flags&abi.BootTrace != 0 {
			kernel.Tracer = &tracer{handle: b.TraceTo}
		}
	})
}

type tracer struct{ handle int32 }

func (t *tracer) Enter(nr uintptr, a kernel.Args) {
	if nr == linux.SYS_EXIT_GROUP || nr == linux.SYS_EXIT {
		t.write(append(call(nil, nr, a, 0, 0), " = ?\n"...))
	}
}

func (t *tracer) Exit(nr uintptr, a kernel.Args, r uintptr, e linux.Errno) {
	b := call(make([]byte, 0, 200), nr, a, r, e)
	b = append(b, " = "...)
	if e != 0 {
		b = append(append(b, "-1 "...), word(errnos, int(e)-1)...)
	} else if nr == linux.SYS_MMAP || nr == linux.SYS_MREMAP {
		b = hex(b, r)
	} else {
		b = dec(b, int64(r))
	}
	t.write(append(b, '\n'))
}

// write sends a line. Where nobody reads, lines are lost after a second rather
// than that the app stands still.
func (t *tracer) write(b []byte) {
	var p *kernel.Parker
	for tries := 0; len(b) > 0 && tries < 1000; tries++ {
		n, e := host.Send(t.handle, b, 0)
		b = b[n:]
		if e == linux.EAGAIN {
			if p == nil {
				p = kernel.GetParker()
				defer p.Put()
			}
			p.Park(rt.Nanotime() + 1e6)
		} else if e != 0 && e != linux.EINTR {
			return
		}
	}
}

// call prints name(args).
func call(b []byte, nr uintptr, a kernel.Args, r uintptr, e linux.Errno) []byte {
	entry := word(calls, int(nr))
	kinds, known := "xxxxxx", false
	for i := range len(entry) {
		if entry[i] == ':' {
			entry, kinds, known = entry[:i], entry[i+1:], true
			break
		}
	}
	if entry == "" {
		b = dec(append(b, "syscall_"...), int64(nr))
	} else {
		b = append(b, entry...)
	}
	b = append(b, '(')
	if !known && r == 0 && a == (kernel.Args{}) {
		return append(b, ')')
	}
	return append(args(b, kinds, [6]uintptr{a.A1, a.A2, a.A3, a.A4, a.A5, a.A6}, r, e), ')')
}

// word is the i-th word of a list in which each ends with a space.
func word(list string, i int) string {
	for start, j := 0, 0; j < len(list); j++ {
		if list[j] == ' ' {
			if i == 0 {
				return list[start:j]
			}
			i--
			start = j + 1
		}
	}
	return ""
}
