package trace

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// args prints arguments by their kinds:
//
//	d signed   u unsigned   x hexadecimal   p address   m octal mode   w whence
//	f descriptor   a descriptor or AT_FDCWD   s string   2 two descriptors
//	b, B bytes to be written, bytes that were read; the length is the next argument
//	S struct stat returned   G string returned   t, T timespec given, timespec returned
//	o, O, P, M flags of open, such flags without access mode, protection, flags of mmap
//	F, k, K address family, socket type and flags, socket flags   n, N socket address given, returned
//	i signal   c command of fcntl   e operation of epoll_ctl
func args(b []byte, kinds string, v [6]uintptr, r uintptr, e linux.Errno) []byte {
	for i := range len(kinds) {
		if i > 0 {
			b = append(b, ", "...)
		}
		a := v[i]
		switch k := kinds[i]; k {
		case 'd', 'f':
			if v := int64(a); v == int64(uint32(a)) {
				b = dec(b, int64(int32(a)))
			} else {
				b = dec(b, v)
			}
		case 'a':
			if int32(a) == linux.AT_FDCWD {
				b = append(b, "AT_FDCWD"...)
			} else {
				b = dec(b, int64(int32(a)))
			}
		case 'u':
			b = dec(b, int64(a))
		case 'm':
			b = append(b, '0')
			if a != 0 {
				b = number(b, uint64(a), 8)
			}
		case 'w':
			b = name(b, uint32(a), whences)
		case 's':
			s, err := kernel.String(a)
			if err != 0 {
				b = pointer(b, a)
			} else {
				b = quote(b, []byte(s), most)
			}
		case 'b', 'B':
			n := v[min(i+1, 5)]
			if k == 'B' {
				n = r
			}
			p, err := kernel.Bytes(a, min(n, most+1))
			if err != 0 || k == 'B' && e != 0 {
				b = pointer(b, a)
			} else {
				b = quote(b, p, most)
			}
		case '2':
			if p, err := kernel.Ptr[[2]int32](a); err == 0 && e == 0 {
				b = dec(append(dec(append(b, '['), int64(p[0])), ", "...), int64(p[1]))
				b = append(b, ']')
			} else {
				b = pointer(b, a)
			}
		case 't', 'T':
			b = timespec(b, a, k == 't' || e == 0)
		case 'o':
			b = openFlags(b, uint32(a))
		case 'O':
			b = flags(b, uint32(a), opens, "0")
		case 'P':
			b = flags(b, uint32(a), prots, "PROT_NONE")
		case 'M':
			b = flags(b, uint32(a), mapFlags, "0")
		case 'F':
			b = name(b, uint32(a), families)
		case 'k':
			b = name(b, uint32(a)&0xf, types)
			if a &^= 0xf; a != 0 {
				b = flags(append(b, '|'), uint32(a), typeFlags, "")
			}
		case 'K':
			b = flags(b, uint32(a), typeFlags, "0")
		case 'n', 'N':
			b = sockaddr(b, a, k == 'n' || e == 0)
		case 'i':
			if s := word(signals, int(a)-1); s != "" {
				b = append(append(b, "SIG"...), s...)
			} else {
				b = dec(b, int64(a))
			}
		case 'c':
			b = name(b, uint32(a), fcntls)
		case 'e':
			b = name(b, uint32(a), epollOps)
		case 'S':
			if st, err := kernel.Ptr[linux.Stat](a); err == 0 && e == 0 {
				b = stat(b, st)
			} else {
				b = pointer(b, a)
			}
		case 'G':
			if s, err := kernel.String(a); err == 0 && e == 0 {
				b = quote(b, []byte(s), most)
			} else {
				b = pointer(b, a)
			}
		case 'p':
			b = pointer(b, a)
		default:
			b = hex(b, a)
		}
	}
	return b
}
