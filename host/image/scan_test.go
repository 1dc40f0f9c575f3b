package image

import (
	"errors"
	"strings"
	"testing"
)

// stock is where the stock standard library has kernel entries.
func stock(t *testing.T) []string {
	all, err := Scan(compile(t, map[string]string{"main.go": hello}), nil)
	var se *ScanError
	if !errors.As(err, &se) {
		t.Fatalf("a stock program without allowed functions: %v", err)
	}
	var names []string
	for _, f := range all {
		if f.Func == "" || f.Unsure {
			t.Errorf("in a stock program: %v", f)
		}
		names = append(names, f.Func)
	}
	return names
}

const asmMain = "package main\n\nfunc f() uint64\n\nfunc main() { println(f()) }\n"

func TestScan(t *testing.T) {
	allowed := stock(t)
	tests := []struct {
		name, asm string
		want      string // "" for clean
	}{
		{"immediate", "MOVL $0x050f050f, AX\n\tMOVQ $0x340f80cd050f050f, CX\n", ""},
		{"displacement", "MOVQ 0x050f0(AX), CX\n\tLEAQ 0x80cd(AX), DX\n", ""},
		{"syscall", "MOVQ $39, AX\n\tSYSCALL\n", "SYSCALL in main.f+0x"},
		{"sysenter", "SYSENTER\n", "SYSENTER in main.f+0x0"},
		{"int 0x80", "INT $0x80\n", "INT 0x80 in main.f+0x0"},
		{"int 0x81", "INT $0x81\n", ""},
		{"after AVX", "VZEROUPPER\n\tVPADDD 0x44332211(AX)(BX*4), Y1, Y2\n\tVPSHUFD $5, X1, X2\n\tVPALIGNR $15, Y1, Y2, Y3\n\tSYSCALL\n", "SYSCALL in main.f+0x"},
		{"after AVX-512", "VPADDD Z1, Z2, Z3\n\tVPTERNLOGD $15, 64(AX), Z2, Z3\n\tSYSCALL\n", "SYSCALL in main.f+0x"},
		{"inside AVX", "VPADDD 0x050f(AX), Y1, Y2\n\tVPALIGNR $15, 0x050f0034(AX), Y2, Y3\n", ""},
		{"after SHA and ADX", "SHA256RNDS2 X0, X1, X2\n\tSHA1RNDS4 $3, X1, X2\n\tADCXQ 0x050f(AX), BX\n\tSYSCALL\n", "SYSCALL in main.f+0x"},
		{"after rubbish", "BYTE $0x06; BYTE $0x48; BYTE $0xb8; SYSCALL\n", "SYSCALL in main.f+0x3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := compile(t, map[string]string{
				"main.go": asmMain,
				"f.s":     "TEXT ·f(SB), 4, $0-8\n\t" + tt.asm + "\tMOVQ AX, ret+0(FP)\n\tRET\n",
			}, "-asmflags=-e")
			_, err := Scan(path, allowed)
			if tt.want == "" {
				if err != nil {
					t.Fatalf("bytes inside an operand were reported: %v", err)
				}
				return
			}
			var se *ScanError
			if !errors.As(err, &se) || len(se.Findings) != 1 || !strings.Contains(se.Findings[0].String(), tt.want) {
				t.Fatalf("got %v, want one finding with %q", err, tt.want)
			}
			if _, err := Scan(path, append(allowed, "main.f")); err != nil {
				t.Errorf("with main.f allowed: %v", err)
			}
		})
	}
}

// A stripped executable still has its function table.
func TestScanStripped(t *testing.T) {
	path := compile(t, map[string]string{
		"main.go": asmMain,
		"f.s":     "TEXT ·f(SB), 4, $0-8\n\tSYSCALL\n\tMOVQ AX, ret+0(FP)\n\tRET\n",
	}, "-ldflags=-s -w")
	_, err := Scan(path, stock(t))
	if err == nil || !strings.Contains(err.Error(), "main.f") {
		t.Errorf("got %v, want main.f reported", err)
	}
}
