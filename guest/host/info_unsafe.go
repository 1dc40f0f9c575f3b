package host

import (
	"noyau.dev/abi"
	"noyau.dev/guest/rt"
)

// copyBoot copies the boot block to b, which is as long as that, if isolation=vm has it in
// the info page. The page is another after a snapshot or in a fork: nothing keeps what is in it.
func copyBoot(b []byte) bool {
	rt.Pin()
	defer rt.Unpin()
	info := vmInfo()
	if info == 0 || *(*uint64)(at(info, abi.VMInfoBootSize)) != uint64(len(b)) {
		return false
	}
	copy(b, bytesAt(info+abi.VMInfoBoot, uintptr(len(b))))
	return true
}
