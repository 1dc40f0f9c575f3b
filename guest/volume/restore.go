package volume

import (
	"sync"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
)

// gate is held by a snapshot from before the monitor notes which files are open, and how
// large they are, until all is written; and by a restored pVM until it has them again.
// Who uses or closes a descriptor holds it for reading.
var gate sync.RWMutex

// opened are all open files and directories; nil stands for directories.
var opened struct {
	mu sync.Mutex
	m  map[*node]*file
}

func init() {
	// After those of the bricks: whoever freezes what lies on a file still uses it.
	kernel.OnInit(func(*host.Boot) {
		kernel.OnSnapshot(gate.Lock, gate.Unlock)
		kernel.OnRestore(reopen)
	})
}

func remember(n *node, f *file) {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if opened.m == nil {
		opened.m = make(map[*node]*file)
	}
	opened.m[n] = f
}

func forget(n *node) {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	delete(opened.m, n)
}

// reopen asks for the descriptors of files that were open. The monitor has opened them
// before the pVM began, by the names that they had, and those that it has not are closed:
// all that is done with them is EBADF. gate is held.
func reopen() {
	opened.mu.Lock()
	if opened.m == nil { // none ever was
		opened.mu.Unlock()
		return
	}
	list := make(map[*node]*file, len(opened.m))
	for n, f := range opened.m {
		list[n] = f
	}
	opened.mu.Unlock()
	for n, f := range list {
		if n.fd >= 0 {
			host.Close(n.fd) // what stands for it
		}
		n.fd, n.until = -1, 0
		r, e := host.Request(abi.Msg{Op: abi.OpReopen, Handle: n.name})
		if e != 0 {
			n.name = 0
			continue
		}
		n.fd = r.FD
		var st linux.Stat
		if f != nil && takeStat(r.Payload, &st) == 0 {
			f.rekey(key{st.Dev, st.Ino})
		}
	}
	host.Request(abi.Msg{Op: abi.OpReopen})
}

// rekey is for a file that is another one of the host's now, which is the same.
func (f *file) rekey(k key) {
	if k == *f.key {
		return
	}
	posix.mu.Lock()
	defer posix.mu.Unlock()
	for _, h := range posix.holders[*f.key] {
		if h == f {
			posix.holders[k] = append(posix.holders[k], f)
		}
	}
	f.key, f.boxed = &k, k
}
