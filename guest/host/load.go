package host

import (
	"noyau.dev/abi"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// LoadBoot reads the boot block behind handle. A small one is there already. The
// pages of others are mapped where that is possible, and so cost this pVM no memory.
func LoadBoot(handle int32) (*Boot, linux.Errno) {
	h := rt.Boot()
	if h.Size < abi.BootSize || h.Size > maxBoot {
		return nil, linux.EINVAL
	}
	if p := rt.BootPayload(); p != nil {
		return parsed(h, p)
	}
	n := (uintptr(h.Size) + abi.PageSize - 1) &^ (abi.PageSize - 1)
	p := rt.Pages(n)
	if p == 0 {
		return nil, linux.ENOMEM
	}
	b := bytesAt(p, uintptr(h.Size))
	if copyBoot(b) {
		return parsed(h, b[abi.BootSize:])
	}
	if vmInfo() != 0 || Map(p, n, false, handle, 0) != 0 {
		for done := 0; done < len(b); {
			m, e := Pread(handle, b[done:], int64(done))
			if e != 0 || m == 0 {
				return nil, linux.EIO
			}
			done += m
		}
	}
	return parsed(h, b[abi.BootSize:])
}

func parsed(h *abi.BootHeader, payload []byte) (*Boot, linux.Errno) {
	boot, ok := ParseBoot(h, payload)
	if !ok {
		return nil, linux.EINVAL
	}
	return boot, 0
}

const maxBoot = 1 << 30
