package syscall

// Bricks are the parts of the library OS that an image has only if its program can reach
// them. A program reaches one by a system call, and so through one of the functions below,
// the gates of bricks. A gate names the brick's Start, which is all that keeps the brick in
// the image: the linker leaves out gates that nobody can call.
//
// Start must run before the program, and only if it is there, but a name for "that
// function if it is linked" the Go linker has not. So noyau build looks for it in what was
// linked, and makes the noyauStart function of the brick a jump to it (host/build, bricks).
// Unless it does, those do nothing.

import (
	"internal/abi"
	"internal/noyau/event"
	"internal/noyau/fs"
	"internal/noyau/ipc"
	"internal/noyau/mem"
	"internal/noyau/sock"
	"unsafe"
)

// noyauStart starts the bricks that are there.
func noyauStart() {
	noyauStartEvent()
	noyauStartInotify()
	noyauStartIPC()
	noyauStartMem()
	noyauStartSock()
}

// All do nothing, in at least the five bytes that a jump takes.

//go:noinline
func noyauStartEvent() { noyauKeep = 0 }

//go:noinline
func noyauStartInotify() { noyauKeep = 0 }

//go:noinline
func noyauStartIPC() { noyauKeep = 0 }

//go:noinline
func noyauStartMem() { noyauKeep = 0 }

//go:noinline
func noyauStartSock() { noyauKeep = 0 }

// noyauKeep is where gates put what they name. Nobody reads it.
var noyauKeep uintptr

// noyauBricks are all: what a call can reach whose number the linker does not know.
var noyauBricks = [...]func(){event.Start, fs.StartInotify, ipc.Start, mem.Start, sock.Start}

// noyauCall and noyauCall6 are system calls that no brick answers, for the standard library.
//
//go:uintptrescapes
//go:nosplit
//go:linkname noyauCall
func noyauCall(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err Errno) {
	return noyauCall6(trap, a1, a2, a3, 0, 0, 0)
}

//go:uintptrescapes
//go:nosplit
//go:linkname noyauCall6
func noyauCall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err Errno) {
	if noyauOnStack(a1, a2, a3, a4, a5, a6) {
		c := noyauPin{trap: trap, a: [6]uintptr{a1, a2, a3, a4, a5, a6}}
		noyauPinned(unsafe.Pointer(&c))
		return c.r1, c.r2, Errno(c.errno)
	}
	return noyauSyscall(trap, a1, a2, a3, a4, a5, a6)
}

// noyauAny is for the gates to all: Syscall and its kin, which make calls of any number.
//
//go:nosplit
func noyauAny() { noyauKeep = uintptr(unsafe.Pointer(&noyauBricks)) }

// The gates of single bricks, for the functions of this package that make one call. They do
// not call each other: there is little room where the stack must not move.

//go:uintptrescapes
//go:nosplit
func noyauEvent(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err Errno) {
	noyauKeep = abi.FuncPCABIInternal(event.Start)
	return noyauCall6(trap, a1, a2, a3, 0, 0, 0)
}

//go:uintptrescapes
//go:nosplit
func noyauEvent6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err Errno) {
	noyauKeep = abi.FuncPCABIInternal(event.Start)
	return noyauCall6(trap, a1, a2, a3, a4, a5, a6)
}

//go:uintptrescapes
//go:nosplit
func noyauInotify(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err Errno) {
	noyauKeep = abi.FuncPCABIInternal(fs.StartInotify)
	return noyauCall6(trap, a1, a2, a3, 0, 0, 0)
}

//go:uintptrescapes
//go:nosplit
func noyauMem(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err Errno) {
	noyauKeep = abi.FuncPCABIInternal(mem.Start)
	return noyauCall6(trap, a1, a2, a3, 0, 0, 0)
}

//go:uintptrescapes
//go:nosplit
func noyauMem6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err Errno) {
	noyauKeep = abi.FuncPCABIInternal(mem.Start)
	return noyauCall6(trap, a1, a2, a3, a4, a5, a6)
}

//go:uintptrescapes
//go:nosplit
func noyauSock(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err Errno) {
	noyauKeep = abi.FuncPCABIInternal(sock.Start)
	return noyauCall6(trap, a1, a2, a3, 0, 0, 0)
}

//go:uintptrescapes
//go:nosplit
func noyauSock6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err Errno) {
	noyauKeep = abi.FuncPCABIInternal(sock.Start)
	return noyauCall6(trap, a1, a2, a3, a4, a5, a6)
}
