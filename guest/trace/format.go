package trace

import (
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// most is how many bytes of a string are printed.
const most = 32

func number(b []byte, v uint64, base uint64) []byte {
	var t [24]byte
	i := len(t)
	for {
		i--
		t[i] = "0123456789abcdef"[v%base]
		if v /= base; v == 0 {
			return append(b, t[i:]...)
		}
	}
}

//go:noinline
func dec(b []byte, v int64) []byte {
	if v < 0 {
		return number(append(b, '-'), uint64(-v), 10)
	}
	return number(b, uint64(v), 10)
}

//go:noinline
func hex(b []byte, v uintptr) []byte {
	if v == 0 {
		return append(b, '0')
	}
	return number(append(b, "0x"...), uint64(v), 16)
}

//go:noinline
func pointer(b []byte, v uintptr) []byte {
	if v == 0 {
		return append(b, "NULL"...)
	}
	return hex(b, v)
}

// quote prints p as a C string, cut after n bytes.
func quote(b, p []byte, n int) []byte {
	cut := len(p) > n
	if cut {
		p = p[:n]
	}
	b = append(b, '"')
	for i, c := range p {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c >= ' ' && c < 0x7f:
			b = append(b, c)
		default:
			b = append(b, '\\')
			if i+1 < len(p) && p[i+1] >= '0' && p[i+1] <= '9' {
				b = append(b, '0'+c>>6, '0'+c>>3&7, '0'+c&7)
			} else {
				b = number(b, uint64(c), 8)
			}
		}
	}
	if b = append(b, '"'); cut {
		b = append(b, "..."...)
	}
	return b
}

type named struct {
	v    uint32
	name string
}

// name prints the name of a value, flags those of its bits.
//
//go:noinline
func name(b []byte, v uint32, table []named) []byte {
	for i := range table {
		if table[i].v == v {
			return append(b, table[i].name...)
		}
	}
	return dec(b, int64(int32(v)))
}

func flags(b []byte, v uint32, table []named, zero string) []byte {
	if v == 0 {
		return append(b, zero...)
	}
	start := len(b)
	for i := range table {
		if f := table[i]; v&f.v == f.v {
			if len(b) > start {
				b = append(b, '|')
			}
			b = append(b, f.name...)
			v &^= f.v
		}
	}
	if v != 0 {
		if len(b) > start {
			b = append(b, '|')
		}
		b = hex(b, uintptr(v))
	}
	return b
}

func openFlags(b []byte, v uint32) []byte {
	b = name(b, v&linux.O_ACCMODE, []named{{0, "O_RDONLY"}, {1, "O_WRONLY"}, {2, "O_RDWR"}})
	if v &^= linux.O_ACCMODE; v != 0 {
		b = flags(append(b, '|'), v, opens, "")
	}
	return b
}

func timespec(b []byte, addr uintptr, valid bool) []byte {
	t, e := kernel.Ptr[linux.Timespec](addr)
	if e != 0 || !valid {
		return pointer(b, addr)
	}
	b = dec(append(b, "{tv_sec="...), t.Sec)
	b = dec(append(b, ", tv_nsec="...), t.Nsec)
	return append(b, '}')
}

func stat(b []byte, st *linux.Stat) []byte {
	b = append(b, "{st_mode="...)
	b = name(b, st.Mode&linux.S_IFMT, fileTypes)
	b = number(append(b, "|0"...), uint64(st.Mode&07777), 8)
	b = dec(append(b, ", st_size="...), st.Size)
	return append(b, ", ...}"...)
}

func sockaddr(b []byte, addr uintptr, valid bool) []byte {
	p, e := kernel.Bytes(addr, 2)
	if e != 0 || !valid {
		return pointer(b, addr)
	}
	family := uint32(p[0]) | uint32(p[1])<<8
	b = name(append(b, "{sa_family="...), family, families)
	port := func(size uintptr) {
		p, _ = kernel.Bytes(addr, size)
		b = dec(append(b, ", port="...), int64(p[2])<<8|int64(p[3]))
	}
	switch family {
	case linux.AF_INET:
		port(16)
		b = append(b, ", addr="...)
		for i := range 4 {
			if i > 0 {
				b = append(b, '.')
			}
			b = dec(b, int64(p[4+i]))
		}
	case linux.AF_INET6:
		port(28)
		b = append(b, ", addr="...)
		for i := range 8 {
			if i > 0 {
				b = append(b, ':')
			}
			b = number(b, uint64(p[8+2*i])<<8|uint64(p[9+2*i]), 16)
		}
	case linux.AF_UNIX:
		if s, e := kernel.String(addr + 2); e == 0 && s != "" {
			b = quote(append(b, ", path="...), []byte(s), 108)
		}
	}
	return append(b, '}')
}
