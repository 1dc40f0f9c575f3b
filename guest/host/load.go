package host

import (
	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// LoadBoot reads the boot block behind handle. Its pages are mapped where that
// is possible, and so cost this pVM no memory of its own.
func LoadBoot(handle int32) (*Boot, linux.Errno) {
	h := rt.Boot()
	if h.Size < abi.BootSize || h.Size > maxBoot {
		return nil, linux.EINVAL
	}
	n := (uintptr(h.Size) + abi.PageSize - 1) &^ (abi.PageSize - 1)
	p := rt.Pages(n)
	if p == 0 {
		return nil, linux.ENOMEM
	}
	b := bytesAt(p, uintptr(h.Size))
	if Map(p, n, false, handle, 0) != 0 {
		for done := 0; done < len(b); {
			m, e := Pread(handle, b[done:], int64(done))
			if e != 0 || m == 0 {
				return nil, linux.EIO
			}
			done += m
		}
	}
	boot, ok := ParseBoot(h, b[abi.BootSize:])
	if !ok {
		return nil, linux.EINVAL
	}
	return boot, 0
}

const maxBoot = 1 << 30
