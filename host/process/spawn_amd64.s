#include "textflag.h"

// Offsets of step, see step_unsafe.go.
#define STEP_NR    0
#define STEP_ARGS  8
#define STEP_FLAGS 56
#define STEP_WANT  64
#define STEP_RET   72
#define STEP_SIZE  80

#define FLAG_OPTIONAL 1
#define FLAG_EXACT    2
#define FLAG_SPAWN    4

#define SYS_exit 60

#define CALL_STEP \
	MOVQ STEP_NR(R12), AX; \
	MOVQ STEP_ARGS+0(R12), DI; \
	MOVQ STEP_ARGS+8(R12), SI; \
	MOVQ STEP_ARGS+16(R12), DX; \
	MOVQ STEP_ARGS+24(R12), R10; \
	MOVQ STEP_ARGS+32(R12), R8; \
	MOVQ STEP_ARGS+40(R12), R9; \
	SYSCALL

// func spawn(prog *step, n uintptr, fail *failure) (r uintptr)
//
// The first step is a clone. The parent returns its result. The child shares
// the parent's memory and uses no stack and no Go code: it executes the other
// steps from registers alone.
TEXT ·spawn(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ prog+0(FP), R12
	MOVQ n+8(FP), R13
	MOVQ fail+16(FP), BX
	CALL_STEP
	TESTQ AX, AX
	JNZ  parent

next:
	ADDQ $STEP_SIZE, R12
	DECQ R13
	JLE  done
	CALL_STEP
	MOVQ STEP_FLAGS(R12), R15
	TESTQ $FLAG_SPAWN, R15
	JNZ  spawned
	MOVQ AX, STEP_RET(R12)
	TESTQ $FLAG_OPTIONAL, R15
	JNZ  next
	TESTQ $FLAG_EXACT, R15
	JNZ  exact
	CMPQ AX, $0xfffffffffffff001
	JCS  next
	JMP  failed

exact:
	CMPQ AX, STEP_WANT(R12)
	JEQ  next

failed:
	MOVQ AX, 8(BX)
	MOVQ R12, 0(BX)
	MOVL $1, DI
	JMP  exit

spawned:
	// In the grandchild the rest of the program goes on. Its parent has done
	// its work; its result tells the pid.
	TESTQ AX, AX
	JZ   next
	CMPQ AX, $0xfffffffffffff001
	JCC  failed
	MOVQ AX, 16(BX)

done:
	XORL DI, DI

exit:
	MOVL $SYS_exit, AX
	SYSCALL
	JMP  exit

parent:
	MOVQ AX, ret+24(FP)
	RET
