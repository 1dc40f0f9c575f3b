package runner

import (
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/host/vm/kvm"
	"noyau.dev/host/vm/machine"
)

// ahead is what a zygote has made for all whom it makes: what does not depend on a guest,
// and room for what does. A child copies the pages that it writes, where it would else
// have to make them and what the Go runtime keeps of them: a hundred faults.
type ahead struct {
	m       *machine.Machine
	r       *Runner
	box     *box
	filters [2][2][]unix.SockFilter // by netOut and fork
}

func newAhead(dev int, cpuid []kvm.CPUIDEntry) (*ahead, error) {
	a := &ahead{r: newRoom(), box: new(box)}
	var err error
	if a.m, err = machine.Prepare(dev, cpuid); err != nil {
		return nil, err
	}
	for i := range a.filters {
		for j := range a.filters[i] {
			if a.filters[i][j], err = compile(Calls(i == 1, j == 1)); err != nil {
				return nil, err
			}
		}
	}
	// What is still allocated is small. The first of a size takes most.
	for n := 16; n <= 2048; n += 16 {
		tried = make([]byte, n)
		triedPointers = make([]*byte, n/8)
	}
	return a, nil
}

var (
	tried         []byte
	triedPointers []*byte
)

// filter is the compiled list of Calls(netOut, fork).
func (a *ahead) filter(netOut, fork bool) ([]unix.SockFilter, error) {
	if a == nil {
		return compile(Calls(netOut, fork))
	}
	i, j := 0, 0
	if netOut {
		i = 1
	}
	if fork {
		j = 1
	}
	return a.filters[i][j], nil
}

// box is room for a message with descriptors.
type box struct {
	msg     msghdr
	iov     iovec
	control [cmsgHdr + (4*mostFiles+7)&^7]byte
	fds     [mostFiles]int
	b       [maxOrder + 1]byte
}

// mostFiles go with an order.
const mostFiles = shellHandles + 2

// receive takes a message and its descriptors from the mailbox. It ends the process if
// there will be none.
func (x *box) receive(recv func(nr, a1, a2, a3, a4, a5, a6 uintptr) uint64) ([]byte, []int, error) {
	x.iov = iovec{ptrOf(&x.b), maxOrder}
	var n uint64
	for {
		x.msg = msghdr{iov: ptrOf(&x.iov), iovlen: 1, control: ptrOf(&x.control), controllen: uint64(len(x.control))}
		if n = recv(unix.SYS_RECVMSG, mailbox, ptrOf(&x.msg), unix.MSG_CMSG_CLOEXEC, 0, 0, 0); n != fail(unix.EINTR) {
			break
		}
	}
	switch {
	case n == 0:
		exit(0)
	case int64(n) < 0:
		return nil, nil, fmt.Errorf("vm: a shell's mailbox: %w", unix.Errno(-n))
	}
	fds, ok := rightsOf(x.control[:min(x.msg.controllen, uint64(len(x.control)))], x.fds[:0])
	if !ok || x.msg.flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return nil, nil, fmt.Errorf("vm: the order of a shell came with %d descriptors, flags %#x", len(fds), x.msg.flags)
	}
	return x.b[:n:n], fds, nil
}
