package build

import (
	"fmt"
	"slices"
	"strings"

	"noyau.dev/host/image"
)

// Some parts of the library OS, its bricks, are in an image only if the program can reach
// them. What that means stands in noyau_bricks.go of the patched package syscall, where each
// system call that a brick answers goes through a gate. The linker decides: a brick is there
// if one of its gates is.

// A brick is known by its function Start, which registers its system calls. It has to run
// before the program. The function caller is called then, and does nothing. One without
// a caller begins when the program calls it.
type brick struct {
	name   string // in the manifest
	start  string
	caller string
}

const guest = "internal/noyau/"

var bricks = []brick{
	{"event", guest + "event.Start", "syscall.noyauStartEvent"},
	{"exec", guest + "exec.Start", ""},
	{"inotify", guest + "fs.StartInotify", "syscall.noyauStartInotify"},
	{"ipc", guest + "ipc.Start", "syscall.noyauStartIPC"},
	{"mem", guest + "mem.Start", "syscall.noyauStartMem"},
	{"sock", guest + "sock.Start", "syscall.noyauStartSock"},
}

// startBricks makes the callers of the bricks that were linked jump to their Start.
func startBricks(file string) error {
	funcs, err := image.Functions(file)
	if err != nil {
		return err
	}
	byName := map[string]image.Function{}
	for _, f := range funcs {
		byName[f.Name] = f
	}
	f, e, err := openWritable(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, b := range bricks {
		start, ok := byName[b.start]
		if !ok || b.caller == "" {
			continue
		}
		caller := byName[b.caller]
		jmp := jump(caller.Start, start.Start)
		if caller.End-caller.Start < uint64(len(jmp)) {
			return fmt.Errorf("%s: no place to call %s from: it has no function %s of %d bytes", file, b.start, b.caller, len(jmp))
		}
		if err := poke(f, e, caller.Start, jmp); err != nil {
			return err
		}
	}
	return f.Close()
}

// listBricks lists the parts of the library OS that were linked.
func listBricks(file string) ([]string, error) {
	funcs, err := image.Functions(file)
	if err != nil {
		return nil, err
	}
	var out []string
	add := func(name string) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, f := range funcs {
		if f.Name == "noyau.dev/pvm.ForkWithout" {
			add(image.BrickFork)
		}
		if i := slices.IndexFunc(bricks, func(b brick) bool { return b.start == f.Name }); i >= 0 {
			add(bricks[i].name)
		}
		rest, ok := strings.CutPrefix(f.Name, guest)
		name, _, _ := strings.Cut(rest, ".")
		// Of a brick that was not linked there may be an init function.
		isBrick := slices.ContainsFunc(bricks, func(b brick) bool { return b.name == name })
		if ok && !isBrick && name != "rt" && name != "linux" && name != "abi" {
			add(name)
		}
	}
	return out, nil
}

// wantsAllBricks reports whether the program has functions of x/sys/unix that make calls of
// any number in assembly, which is no gate that the linker would know, and not all bricks.
func wantsAllBricks(file string) bool {
	funcs, err := image.Functions(file)
	if err != nil {
		return false
	}
	calls := false
	linked := map[string]bool{}
	for _, f := range funcs {
		calls = calls || known(f.Name)
		linked[f.Name] = true
	}
	return calls && slices.ContainsFunc(bricks, func(b brick) bool { return b.caller != "" && !linked[b.start] })
}
