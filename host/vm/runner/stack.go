package runner

import (
	"encoding/binary"
	"fmt"

	"noyau.dev/abi"
	"noyau.dev/host/vm/machine"
)

// Types of auxiliary vector entries.
const (
	atPhdr, atPhent, atPhnum = 3, 4, 5
	atPagesz, atBase         = 6, 7
	atFlags, atEntry         = 8, 9
	atUID, atEUID            = 11, 12
	atGID, atEGID            = 13, 14
	atPlatform, atHWCap      = 15, 16
	atClktck, atSecure       = 17, 23
	atRandom, atHWCap2       = 25, 26
	atExecfn                 = 31

	hwcap2FSGSBASE = 2 // WRFSBASE may be used
)

// maxArgs bounds arguments and environment, in bytes. The rest of the initial
// stack is the runtime's.
const maxArgs = 128 << 10

// buildStack writes the initial stack of the System V ABI and returns the stack
// pointer.
func buildStack(m *machine.Machine, p *program, args, env []string, random [16]byte, uid, gid uint32) (uint64, error) {
	top := uint64(abi.VMStackBase + abi.VMStackSize)
	mem := m.Bytes(abi.VMStackBase, abi.VMStackSize, true)
	total := 0
	for _, l := range [][]string{args, env} {
		for _, s := range l {
			total += len(s) + 9
		}
	}
	if total > maxArgs {
		return 0, fmt.Errorf("vm: arguments and environment take %d bytes; at most %d are possible", total, maxArgs)
	}
	sp := top - 16
	push := func(b string) uint64 {
		sp -= uint64(len(b)) + 1
		copy(mem[sp-abi.VMStackBase:], b)
		return sp
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	execfn := push(name)
	platform := push("x86_64")
	sp = (sp - 16) &^ 15
	randomAt := sp
	copy(mem[sp-abi.VMStackBase:], random[:])

	words := append(make([]uint64, 0, len(args)+len(env)+64), uint64(len(args)))
	for _, a := range args {
		words = append(words, push(a))
	}
	words = append(words, 0)
	for _, e := range env {
		words = append(words, push(e))
	}
	words = append(words, 0,
		atPagesz, abi.PageSize, atHWCap, uint64(m.HWCap), atHWCap2, hwcap2FSGSBASE,
		atPhdr, p.phdr, atPhent, phdrSize, atPhnum, uint64(p.phnum),
		atBase, 0, atFlags, 0, atEntry, p.entry, atClktck, 100, atSecure, 0,
		atUID, uint64(uid), atEUID, uint64(uid), atGID, uint64(gid), atEGID, uint64(gid),
		atRandom, randomAt, atPlatform, platform, atExecfn, execfn,
		abi.ATNoyau, abi.VMInfoPage, 0, 0)
	sp = (sp - 8*uint64(len(words))) &^ 15
	for i, w := range words {
		binary.LittleEndian.PutUint64(mem[sp-abi.VMStackBase+8*uint64(i):], w)
	}
	return sp, nil
}
