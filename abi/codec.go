package abi

// The encodings are little endian and written by hand: the guest decodes them
// below every package that could do it by reflection. Decoders never index past
// their input and report short input with ok == false.

func put16(b []byte, v uint16) { b[0], b[1] = byte(v), byte(v>>8) }
func put32(b []byte, v uint32) { put16(b, uint16(v)); put16(b[2:], uint16(v>>16)) }
func put64(b []byte, v uint64) { put32(b, uint32(v)); put32(b[4:], uint32(v>>32)) }
func get16(b []byte) uint16    { return uint16(b[0]) | uint16(b[1])<<8 }
func get32(b []byte) uint32    { return uint32(get16(b)) | uint32(get16(b[2:]))<<16 }
func get64(b []byte) uint64    { return uint64(get32(b)) | uint64(get32(b[4:]))<<32 }

// Append16, Append32 and Append64 append a little-endian integer.
func Append16(b []byte, v uint16) []byte { return append(b, byte(v), byte(v>>8)) }
func Append32(b []byte, v uint32) []byte {
	return append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
}
func Append64(b []byte, v uint64) []byte { return Append32(Append32(b, uint32(v)), uint32(v>>32)) }

// Take16, Take32 and Take64 read an integer and return what follows it.
func Take16(b []byte) (v uint16, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return get16(b), b[2:], true
}
func Take32(b []byte) (v uint32, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, false
	}
	return get32(b), b[4:], true
}
func Take64(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) < 8 {
		return 0, nil, false
	}
	return get64(b), b[8:], true
}

// AppendString appends a string as its length (u16) and bytes. Longer strings
// than 65,535 bytes are cut; callers check against MaxPath first.
func AppendString(b []byte, s string) []byte {
	if len(s) > 0xffff {
		s = s[:0xffff]
	}
	return append(Append16(b, uint16(len(s))), s...)
}

// TakeString reads a string written by AppendString.
func TakeString(b []byte) (s string, rest []byte, ok bool) {
	n, b, ok := Take16(b)
	if !ok || int(n) > len(b) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// Put encodes m into b, which has at least MsgSize bytes.
func (m *Msg) Put(b []byte) {
	_ = b[MsgSize-1]
	put32(b[0:], m.ID)
	put16(b[4:], m.Op)
	put16(b[6:], m.Flags)
	put32(b[8:], m.Handle)
	put32(b[12:], uint32(m.Errno))
	put64(b[16:], m.A)
	put64(b[24:], m.B)
	put64(b[32:], m.C)
	put64(b[40:], m.D)
}

// TakeMsg decodes a header and returns the payload that follows it.
func TakeMsg(b []byte) (m Msg, payload []byte, ok bool) {
	if len(b) < MsgSize || len(b) > MaxMsg {
		return Msg{}, nil, false
	}
	return Msg{
		ID: get32(b[0:]), Op: get16(b[4:]), Flags: get16(b[6:]),
		Handle: get32(b[8:]), Errno: int32(get32(b[12:])),
		A: get64(b[16:]), B: get64(b[24:]), C: get64(b[32:]), D: get64(b[40:]),
	}, b[MsgSize:], true
}

// AppendAddr appends an encoded address.
func AppendAddr(b []byte, a Addr) []byte {
	b = append(b, a.Family, 0, byte(a.Port), byte(a.Port>>8))
	b = Append32(b, a.Zone)
	return append(b, a.IP[:]...)
}

// TakeAddr reads an address; a family other than 4 and 6 is not ok.
func TakeAddr(b []byte) (a Addr, rest []byte, ok bool) {
	if len(b) < AddrSize || b[0] != 4 && b[0] != 6 {
		return Addr{}, nil, false
	}
	a = Addr{Family: b[0], Port: get16(b[2:]), Zone: get32(b[4:])}
	copy(a.IP[:], b[8:24])
	return a, b[AddrSize:], true
}

// AppendStat appends an encoded Stat.
func AppendStat(b []byte, s *Stat) []byte {
	b = Append64(Append64(Append64(b, s.Dev), s.Ino), s.Nlink)
	b = Append32(Append32(Append32(Append32(b, s.Mode), s.UID), s.GID), 0)
	b = Append64(Append64(b, s.Rdev), uint64(s.Size))
	b = Append64(Append64(b, uint64(s.Blksize)), uint64(s.Blocks))
	return Append64(Append64(Append64(b, uint64(s.Atime)), uint64(s.Mtime)), uint64(s.Ctime))
}

// TakeStat reads a Stat.
func TakeStat(b []byte) (s Stat, rest []byte, ok bool) {
	if len(b) < StatSize {
		return Stat{}, nil, false
	}
	s = Stat{
		Dev: get64(b), Ino: get64(b[8:]), Nlink: get64(b[16:]),
		Mode: get32(b[24:]), UID: get32(b[28:]), GID: get32(b[32:]),
		Rdev: get64(b[40:]), Size: int64(get64(b[48:])),
		Blksize: int64(get64(b[56:])), Blocks: int64(get64(b[64:])),
		Atime: int64(get64(b[72:])), Mtime: int64(get64(b[80:])), Ctime: int64(get64(b[88:])),
	}
	return s, b[StatSize:], true
}

// AppendStatfs appends an encoded Statfs.
func AppendStatfs(b []byte, s *Statfs) []byte {
	for _, v := range [...]uint64{s.Type, s.Bsize, s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree, s.Namelen} {
		b = Append64(b, v)
	}
	return b
}

// TakeStatfs reads a Statfs.
func TakeStatfs(b []byte) (s Statfs, rest []byte, ok bool) {
	if len(b) < StatfsSize {
		return Statfs{}, nil, false
	}
	for i, p := range [...]*uint64{&s.Type, &s.Bsize, &s.Blocks, &s.Bfree, &s.Bavail, &s.Files, &s.Ffree, &s.Namelen} {
		*p = get64(b[8*i:])
	}
	return s, b[StatfsSize:], true
}

// Put encodes h into b, which has at least BootSize bytes.
func (h *BootHeader) Put(b []byte) {
	_ = b[BootSize-1]
	clear(b[:BootSize])
	put64(b[0:], h.Magic)
	put32(b[8:], h.Version)
	put32(b[12:], h.Flags)
	put64(b[16:], h.Size)
	put64(b[24:], h.Memory)
	put64(b[32:], h.ID)
	put32(b[40:], h.PID)
	put32(b[44:], h.PPID)
	put32(b[48:], h.UID)
	put32(b[52:], h.GID)
	put32(b[56:], h.TickUS)
	put32(b[60:], h.Restore)
	copy(b[64:96], h.Seed[:])
	put64(b[96:], h.RestoreAt)
	put32(b[104:], h.Shared)
}

// Take decodes h from b and reports whether b is a boot block of this Version.
// It allocates nothing.
func (h *BootHeader) Take(b []byte) bool {
	if len(b) < BootSize {
		return false
	}
	h.Magic, h.Version, h.Flags = get64(b), get32(b[8:]), get32(b[12:])
	h.Size, h.Memory, h.ID = get64(b[16:]), get64(b[24:]), get64(b[32:])
	h.PID, h.PPID, h.UID, h.GID = get32(b[40:]), get32(b[44:]), get32(b[48:]), get32(b[52:])
	h.TickUS, h.Restore = get32(b[56:]), get32(b[60:])
	copy(h.Seed[:], b[64:96])
	h.RestoreAt, h.Shared = get64(b[96:]), get32(b[104:])
	return h.Magic == Magic && h.Version == Version
}

// AppendRecord appends a boot record with the given content.
func AppendRecord(b []byte, kind uint16, content []byte) []byte {
	b = Append32(Append16(Append16(b, kind), 0), uint32(len(content)))
	b = append(b, content...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// TakeRecord reads the next boot record. The payload begins at a multiple of 8
// bytes and so does every record.
func TakeRecord(b []byte) (kind uint16, content, rest []byte, ok bool) {
	if len(b) < 8 {
		return 0, nil, nil, false
	}
	n := int(get32(b[4:]))
	if n < 0 || n > len(b)-8 {
		return 0, nil, nil, false
	}
	pad := (n + 7) &^ 7
	if pad > len(b)-8 {
		pad = len(b) - 8
	}
	return get16(b), b[8 : 8+n], b[8+pad:], true
}
