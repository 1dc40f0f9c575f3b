package image

// vector reports whether b begins a VEX or EVEX instruction. For these skip is
// asked before x86asm, which gets the length of some of them wrong.
func vector(b byte) bool { return b == 0xc4 || b == 0xc5 || b == 0x62 }

// skip returns the length of an instruction that x86asm may not know, or 0. It
// knows lengths only: VEX and EVEX instructions (AVX, BMI), and those of the
// three-byte opcode maps (SHA, ADX …). None of these enters the kernel.
func skip(b []byte) int {
	i := 0
	for i < len(b) && i < 4 && (b[i] == 0x66 || b[i] == 0xf2 || b[i] == 0xf3) {
		i++
	}
	if i < len(b) && b[i]&0xf0 == 0x40 { // REX
		i++
	}
	var opmap, op byte
	switch {
	case len(b) > i+3 && b[i] == 0xc5:
		opmap, op, i = 1, b[i+2], i+3
	case len(b) > i+4 && b[i] == 0xc4:
		opmap, op, i = b[i+1]&0x1f, b[i+3], i+4
	case len(b) > i+6 && b[i] == 0x62:
		opmap, op, i = b[i+1]&0x07, b[i+4], i+5
	case len(b) > i+3 && b[i] == 0x0f && b[i+1] == 0x38:
		opmap, op, i = 2, b[i+2], i+3
	case len(b) > i+3 && b[i] == 0x0f && b[i+1] == 0x3a:
		opmap, op, i = 3, b[i+2], i+3
	default:
		return 0
	}
	if opmap < 1 || opmap > 3 {
		return 0
	}
	if opmap == 1 && op == 0x77 { // VZEROUPPER: no operands
		return i
	}
	n := modrm(b[i:])
	if n == 0 {
		return 0
	}
	i += n
	if opmap == 3 || opmap == 1 && (op >= 0x70 && op <= 0x73 || op == 0xc2 || op >= 0xc4 && op <= 0xc6) {
		i++ // immediate byte
	}
	if i > len(b) || i > 15 {
		return 0
	}
	return i
}

// modrm returns the length of a ModRM byte with its SIB and displacement.
func modrm(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	mod, rm, n := b[0]>>6, b[0]&7, 1
	if mod == 3 {
		return n
	}
	base := rm
	if rm == 4 {
		if len(b) < 2 {
			return 0
		}
		base, n = b[1]&7, 2
	}
	switch {
	case mod == 1:
		n++
	case mod == 2, mod == 0 && rm == 5, mod == 0 && rm == 4 && base == 5:
		n += 4
	}
	return n
}
