#include "go_asm.h"
#include "go_tls.h"
#include "textflag.h"

// This file and sigreturn in sys_linux_amd64.s hold the only SYSCALL instructions
// of an image. Under isolation=vm they are never reached: a host call is then a
// 4-byte store to the hypercall page, with the registers as for SYSCALL.

// func noyauHostcall(nr, a1, a2, a3, a4, a5, a6 uintptr) uintptr
TEXT runtime·noyauHostcall<ABIInternal>(SB),NOSPLIT,$0
	MOVQ	SI, R10 // a4
	MOVQ	DI, DX  // a3
	MOVQ	CX, SI  // a2
	MOVQ	BX, DI  // a1
	MOVQ	runtime·noyauHyper(SB), R11
	TESTQ	R11, R11
	JNE	vm
	SYSCALL
	RET
vm:
	MOVL	AX, (R11)
	RET

// noyauRaw stands where sys_linux_amd64.s has SYSCALL: number in AX, arguments
// in DI SI DX R10 R8 R9, result in AX. It lets through the few calls of the
// host ABI that the runtime makes itself, answers some others and refuses the
// rest with ENOSYS.
TEXT runtime·noyauRaw(SB),NOSPLIT|NOFRAME,$0
	CMPL	AX, $1		// write: the standard handles are sockets
	JEQ	write
	CMPL	AX, $231	// exit_group
	JEQ	pass
	CMPL	AX, $13		// rt_sigaction
	JEQ	pass
	CMPL	AX, $131	// sigaltstack
	JEQ	sigstack
	CMPL	AX, $228	// clock_gettime, where the vDSO cannot
	JEQ	pass
	CMPL	AX, $14		// rt_sigprocmask: nothing blocks signals here
	JEQ	zero
	CMPL	AX, $24		// sched_yield
	JEQ	zero
	CMPL	AX, $35		// nanosleep
	JEQ	zero
	CMPL	AX, $38		// setitimer
	JEQ	zero
	CMPL	AX, $39		// getpid
	JEQ	one
	CMPL	AX, $186	// gettid
	JEQ	one
	CMPL	AX, $62		// kill(self, SI): the end, if the runtime asks for it
	JEQ	kill
	CMPL	AX, $234	// tgkill(self, self, DX)
	JEQ	tgkill
	MOVQ	$-38, AX
	RET
sigstack:
	CMPQ	runtime·noyauHyper(SB), $0
	JEQ	pass
	MOVQ	runtime·noyauInfo(SB), R11
	MOVQ	0x40(R11), R11	// abi.VMInfoSignals
	TESTQ	SI, SI
	JEQ	set
	MOVQ	0(R11), AX	// abi.VMSigStack
	MOVQ	AX, 0(SI)
	MOVQ	8(R11), AX	// abi.VMSigSize
	MOVQ	AX, 16(SI)
	TESTQ	AX, AX
	SETEQ	AX
	MOVBLZX	AX, AX
	ADDL	AX, AX		// SS_DISABLE
	MOVQ	AX, 8(SI)
set:
	TESTQ	DI, DI
	JEQ	zero
	MOVQ	0(DI), AX
	MOVQ	AX, 0(R11)
	MOVQ	16(DI), AX
	MOVL	8(DI), DI
	TESTL	$2, DI
	JEQ	size
	XORL	AX, AX
size:
	MOVQ	AX, 8(R11)
zero:
	XORL	AX, AX
	RET
one:
	MOVL	$1, AX
	RET
tgkill:
	MOVL	DX, SI
kill:
	CMPL	SI, $23		// SIGURG: preemption needs no signal here
	JEQ	zero
	LEAQ	128(SI), DI
	MOVL	$231, AX
	JMP	pass
badfd:
	MOVQ	$-9, AX		// EBADF
	RET
write:
	CMPQ	DI, $2		// other numbers are the app's descriptors, not handles
	JHI	badfd
	MOVL	$44, AX		// sendto(fd, p, n, MSG_NOSIGNAL, 0, 0)
	MOVL	$0x4000, R10
	XORL	R8, R8
	XORL	R9, R9
	MOVQ	$100000, R12	// a full buffer is waited for, but not for ever
again:
	MOVL	$44, AX
	MOVQ	runtime·noyauHyper(SB), R11
	TESTQ	R11, R11
	JNE	vmwrite
	SYSCALL
	JMP	written
vmwrite:
	MOVL	AX, (R11)
written:
	CMPQ	AX, $-11
	JNE	done
	PAUSE
	DECQ	R12
	JNE	again
done:
	RET
pass:
	MOVQ	runtime·noyauHyper(SB), R11
	TESTQ	R11, R11
	JNE	vm
	SYSCALL
	RET
vm:
	MOVL	AX, (R11)
	RET

// noyauNotHosted says so with the plain Linux calls, then exits: the program
// was started without a monitor.
TEXT runtime·noyauNotHosted(SB),NOSPLIT,$0
	MOVL	$1, AX
	MOVL	$2, DI
	LEAQ	noyauMsg<>(SB), SI
	MOVL	$80, DX
	SYSCALL
	MOVL	$231, AX
	MOVL	$125, DI
	SYSCALL
	INT	$3

DATA noyauMsg<>+0(SB)/8, $"noyau: t"
DATA noyauMsg<>+8(SB)/8, $"his is a"
DATA noyauMsg<>+16(SB)/8, $" pVM ima"
DATA noyauMsg<>+24(SB)/8, $"ge of AB"
DATA noyauMsg<>+32(SB)/8, $"I 2 and "
DATA noyauMsg<>+40(SB)/8, $"has no m"
DATA noyauMsg<>+48(SB)/8, $"onitor: "
DATA noyauMsg<>+56(SB)/8, $"start it"
DATA noyauMsg<>+64(SB)/8, $" by 'noy"
DATA noyauMsg<>+72(SB)/8, $"au run'\n"
GLOBL noyauMsg<>(SB), RODATA, $80

// func noyauVMClockPC() uintptr
TEXT runtime·noyauVMClockPC(SB),NOSPLIT,$0-8
	LEAQ	runtime·noyauVMClock(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// noyauVMClock is clock_gettime in the C calling convention: DI = clock (0 wall,
// others monotonic), SI = *timespec. It reads the info page (abi.VMInfo…) under
// its sequence count and keeps BX, R12-R15.
TEXT runtime·noyauVMClock(SB),NOSPLIT|NOFRAME,$0
	MOVQ	runtime·noyauInfo(SB), R8
retry:
	MOVQ	0x10(R8), R9	// seq
	TESTQ	$1, R9
	JNE	retry
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	SUBQ	0x18(R8), AX	// - TSCBase
	IMULQ	0x20(R8)	// DX:AX = d * TSCMul, signed
	SHRQ	$32, DX, AX	// AX = (DX:AX) >> 32
	MOVQ	0x28(R8), R10	// MonoBase
	TESTL	DI, DI
	JNE	mono
	MOVQ	0x30(R8), R10	// WallBase
mono:
	ADDQ	R10, AX
	CMPQ	R9, 0x10(R8)
	JNE	retry
	XORL	DX, DX
	MOVQ	$1000000000, CX
	DIVQ	CX
	MOVQ	AX, 0(SI)
	MOVQ	DX, 8(SI)
	XORL	AX, AX
	RET

// The entry point of an image. The system stack lies among the variables, at an address
// that no host chooses, so that it means the same in a snapshot. Arguments, environment
// and auxiliary vector stay on the stack that the host made.
TEXT _rt0_amd64_linux(SB),NOSPLIT|NOFRAME,$0
	MOVQ	0(SP), DI	// argc
	LEAQ	8(SP), SI	// argv
	LEAQ	runtime·noyauStack+const_noyauStackSize(SB), SP
	JMP	runtime·rt0_go(SB)

// func noyauSave(h *abi.SnapHeader) (restored, info, gettimeofday, clockGettime uintptr)
TEXT runtime·noyauSave<ABIInternal>(SB),NOSPLIT|NOFRAME,$0-40
	LEAQ	8(SP), CX	// as after the return
	MOVQ	CX, 24(AX)
	MOVQ	BP, 32(AX)
	MOVQ	0(SP), CX	// where the next call puts its own
	MOVQ	CX, runtime·noyauBack(SB)
	LEAQ	noyauAgain<>(SB), CX
	MOVQ	CX, 40(AX)
	XORL	AX, AX
	RET

// noyauAgain is where a restored pVM begins: the second return of noyauSave. BX is the
// address of the info page of isolation=vm or 0, CX and DI are functions of the vDSO.
TEXT noyauAgain<>(SB),NOSPLIT|NOFRAME,$0
	LEAQ	runtime·m0+(m_tls+8)(SB), AX
	// WRFSBASEQ AX
	BYTE	$0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xd0
	LEAQ	runtime·g0(SB), R14
	XORPS	X15, X15
	CLD
	MOVL	$1, AX
	MOVQ	runtime·noyauBack(SB), R15
	JMP	R15

// func noyauResume(r *noyauResumption)
// It replaces the variables, and with them the stack, so it keeps everything in
// registers and in r, which lies elsewhere.
TEXT runtime·noyauResume(SB),NOSPLIT|NOFRAME,$0-8
	MOVQ	8(SP), R12
	MOVQ	R12, SP
	LEAQ	noyauResumption_ext(R12), R13
	MOVQ	noyauResumption_n(R12), R14
next:
	TESTQ	R14, R14
	JEQ	mapped
	MOVL	$9, AX		// mmap(address, length, read and write, private and fixed, …)
	MOVQ	0(R13), DI
	MOVQ	8(R13), SI
	MOVL	$3, DX
	MOVL	$0x12, R10
	MOVQ	noyauResumption_handle(R12), R8
	MOVQ	16(R13), R9
	SYSCALL
	CMPQ	AX, 0(R13)
	JNE	bad
	ADDQ	$24, R13
	DECQ	R14
	JMP	next
mapped:
	// From here on it is the snapshot that runs, and the file has what others had.
	MOVL	$3, AX		// close
	MOVQ	noyauResumption_handle(R12), DI
	SYSCALL
	XORL	BX, BX
	MOVQ	noyauResumption_gettimeofday(R12), CX
	MOVQ	noyauResumption_clockGettime(R12), DI
	MOVQ	noyauResumption_pc(R12), R15
	MOVQ	noyauResumption_bp(R12), BP
	MOVQ	noyauResumption_sp(R12), SP
	JMP	R15
bad:
	MOVL	$231, AX
	MOVL	$125, DI
	SYSCALL
	INT	$3
