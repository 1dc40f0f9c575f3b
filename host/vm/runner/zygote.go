package runner

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/vm/kvm"
)

// A zygote is a runner that has begun and has no machine: it waits on its mailbox, and
// for each message it forks itself. The child goes on as a runner or shell would that has
// just been launched, with a mailbox of its own, and the monitor is its parent too. So
// launch and start of the Go runtime become one clone. Its descriptors are a shell's.
//
// A zygote knows nothing of any guest. What it gets is a kind and a mailbox, which it
// gives up at once; the order comes over that, to the child alone.
//
// What fork.go says of a Go program that goes on after a fork holds here, and more of it,
// as the child has its start still to do: it allocates, and makes system calls of which
// the scheduler is told. Why it may:
//
//   - GOMAXPROCS is 1. Nobody runs Go code, or allocates, without the one P, and the
//     goroutine that forks has it, in a raw system call. So no lock of the heap is held
//     by another thread. Garbage is not collected.
//   - The scheduler takes sched.lock at a system call only if sysmon waits for that,
//     (sched.sysmonwait), which it does only if no P is in use, or if somebody wants the
//     world to stop. Neither is so at the fork, and in the child there is nobody to
//     change it; no sysmon takes the P away either.
//   - The goroutine is locked to its thread and pinned, for good in a child.
//
// The process that was launched makes one child, which is the zygote that is used: it
// has one thread, so that the locks of its children are those that it has itself. It
// has tried them before it says that it is ready. And nothing wakes it while it waits.
const (
	// bornRun is a runner whose order is on the way: it need not say that it is ready.
	bornRun = 1 + iota
	bornShell
	bornTemplate
	bornZygote
	// bornSpare is bornRun whose order will come later: it uses the time.
	bornSpare
)

const (
	// zygoteKVM is where a zygote keeps /dev/kvm: above all handles of those that it
	// makes, and in the part of a table of descriptors that is cheap to copy.
	zygoteKVM = 60
	// zygotePilot and the next number are a virtual machine and a vCPU without memory, that
	// never run. With the first vCPU of a host, and after its last one, KVM rewrites code of
	// the kernel on all processors: where there are no others it would do so for each
	// start, which would take 0.2 ms more.
	zygotePilot   = 61
	zygoteMessage = 16
	zygoteReply   = 8

	// ownPIDs in a message: the child gets a pid namespace.
	ownPIDs = 1 << 8
)

// ZygoteEnv returns the environment of a zygote. Until it has made another, it is one that
// should make no guests: see ZygoteTwin.
func ZygoteEnv(cpuid []kvm.CPUIDEntry) []string {
	return append(base(cpuid), "GOMAXPROCS=1", envRun+zygoteRun)
}

// The messages of a zygote, with each of which goes the child's mailbox. It answers with the
// child's number, or a negative error number: see ZygoteChild.

// ZygoteTwin makes another zygote. It says ShellReady.
func ZygoteTwin() []byte { return zygoteOrder(bornZygote, 0) }

// ZygoteRun makes a runner that will be sent ShellOrder. pids: in a pid namespace.
func ZygoteRun(pids bool) []byte { return zygoteOrder(withPIDs(bornRun, pids), 0) }

// ZygoteSpare makes the same, some time before there is an order.
func ZygoteSpare(pids bool) []byte { return zygoteOrder(withPIDs(bornSpare, pids), 0) }

// ZygoteShell makes what ShellEnv would.
func ZygoteShell(pids bool) []byte { return zygoteOrder(withPIDs(bornShell, pids), 0) }

// ZygoteTemplate makes what TemplateEnv would.
func ZygoteTemplate(pids bool, memory uint64) []byte {
	return zygoteOrder(withPIDs(bornTemplate, pids), memory)
}

func withPIDs(kind uint64, pids bool) uint64 {
	if pids {
		kind |= ownPIDs
	}
	return kind
}

func zygoteOrder(kind, memory uint64) []byte {
	le := binary.LittleEndian
	return le.AppendUint64(le.AppendUint64(nil, kind), memory)
}

// ZygoteChild takes the answer of a zygote apart.
func ZygoteChild(b []byte) (pid int, err error) {
	if len(b) != zygoteReply {
		return 0, fmt.Errorf("vm: a zygote says %q", b)
	}
	if pid = int(int64(binary.LittleEndian.Uint64(b))); pid <= 0 {
		return 0, fmt.Errorf("vm: a zygote cannot fork: %w", unix.Errno(-pid))
	}
	return pid, nil
}

// zygote is what the loop of a zygote uses. It never allocates, and is no part of a stack,
// which can move.
type zygote struct {
	msg     msghdr
	iov     iovec
	b       [zygoteMessage + 1]byte
	control [64]byte
	reply   [zygoteReply]byte
	random  [8]byte
}

var theZygote zygote

var (
	errZygoteOrder = errors.New("vm: a message to a zygote is malformed")
	errZygoteFiles = errors.New("vm: a message to a zygote must come with one descriptor")
)

// beZygote is the life of a zygote. It returns in the processes that it makes, and does not
// in itself but for an error.
func beZygote(o *orders) error {
	if err := unix.Dup3(o.kvm, zygoteKVM, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("vm: a zygote's /dev/kvm: %w", err)
	}
	o.kvm = zygoteKVM
	// Received descriptors have the numbers behind the mailbox.
	if err := unix.Dup3(mailbox, shellKVM, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("vm: a zygote's mailbox: %w", err)
	}
	z := &theZygote
	deepen()
	pin()
	if e := tell(ShellReady); e != 0 {
		return fmt.Errorf("vm: a zygote's mailbox: %w", e)
	}
	for {
		kind, memory, fd, err := z.receive()
		if err != nil {
			return err
		}
		flags := uintptr(abi.ForkFlags)
		if kind&ownPIDs != 0 {
			flags |= unix.CLONE_NEWPID
		}
		switch pid := raw(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0); pid {
		case 0:
			again, err := o.born(kind&^ownPIDs, memory, fd)
			if err != nil || !again {
				return err
			}
		default:
			raw(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
			binary.LittleEndian.PutUint64(z.reply[:], pid)
			if v := raw(unix.SYS_WRITE, mailbox, ptrOf(&z.reply), zygoteReply, 0, 0, 0); int64(v) < 0 {
				exit(0) // the monitor is gone
			}
		}
	}
}

// receive waits for a message and the descriptor that comes with it.
func (z *zygote) receive() (kind, memory uint64, fd uintptr, err error) {
	z.iov = iovec{ptrOf(&z.b), uint64(len(z.b))}
	z.msg = msghdr{iov: ptrOf(&z.iov), iovlen: 1, control: ptrOf(&z.control), controllen: uint64(len(z.control))}
	n := raw(unix.SYS_RECVMSG, mailbox, ptrOf(&z.msg), unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
	for n == fail(unix.EINTR) {
		n = raw(unix.SYS_RECVMSG, mailbox, ptrOf(&z.msg), unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
	}
	if int64(n) <= 0 {
		exit(0) // the monitor is gone, or wants no zygote
	}
	le := binary.LittleEndian
	const one = cmsgHdr + 4
	if z.msg.flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || z.msg.controllen < one || le.Uint64(z.control[:]) != one ||
		le.Uint32(z.control[8:]) != unix.SOL_SOCKET || le.Uint32(z.control[12:]) != unix.SCM_RIGHTS {
		return 0, 0, 0, errZygoteFiles
	}
	kind, memory = le.Uint64(z.b[:]), le.Uint64(z.b[8:])
	if k := kind &^ ownPIDs; n != zygoteMessage || k < bornRun || k > bornSpare || kind == bornZygote|ownPIDs {
		return 0, 0, 0, errZygoteOrder
	}
	return kind, memory, uintptr(le.Uint32(z.control[cmsgHdr:])), nil
}

// born is the first thing in a process that a zygote has made. It reports whether that is
// a zygote again.
func (o *orders) born(kind, memory uint64, mail uintptr) (again bool, err error) {
	o.began = gettime(unix.CLOCK_MONOTONIC)
	if kind != bornZygote {
		// What the zygote had to make pid namespaces with.
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			return false, fmt.Errorf("vm: give up capabilities: %w", err)
		}
	}
	if v := raw(unix.SYS_SETPGID, 0, 0, 0, 0, 0, 0); v != 0 {
		return false, fmt.Errorf("vm: a process group: %w", unix.Errno(-v))
	}
	if v := raw(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0); v != 0 {
		return false, fmt.Errorf("vm: die with the monitor: %w", unix.Errno(-v))
	}
	for to := range uintptr(3) { // the zygote's mailbox is closed by this
		if v := raw(unix.SYS_DUP3, mail, to, unix.O_CLOEXEC, 0, 0, 0); v != uint64(to) {
			return false, fmt.Errorf("vm: a mailbox: %w", unix.Errno(-v))
		}
	}
	raw(unix.SYS_CLOSE, mail, 0, 0, 0, 0, 0)
	raw(unix.SYS_CLOSE_RANGE, zygotePilot, zygotePilot+1, 0, 0, 0, 0)
	o.isBorn = true
	if err := shift(); err != nil {
		return false, err
	}
	switch kind {
	case bornZygote:
		name(zygoteName)
		if err := kvm.Pilot(o.kvm, zygotePilot); err != nil {
			return false, err
		}
		if o.ahead, err = newAhead(o.kvm, o.cpuid); err != nil {
			return false, err
		}
		// The locks of those that it will make.
		tried = make([]byte, 1<<20)
		unix.Syscall(unix.SYS_GETPID, 0, 0, 0)
		if e := tell(ShellReady); e != 0 {
			return false, fmt.Errorf("vm: a zygote's mailbox: %w", e)
		}
		return true, nil
	case bornRun, bornSpare:
		o.direct, o.spare = true, kind == bornSpare
	case bornTemplate:
		o.template, o.memory = true, memory
	}
	if o.spare {
		name(spareName)
	} else {
		name(runnerName)
	}
	o.shell = true
	return false, nil
}

// The names of processes, for people who look at them from outside.
const zygoteName, spareName, runnerName = "noyau-zygote\x00", "noyau-spare\x00", "noyau-vm\x00"

// shift makes the kernel map what comes next at addresses that are not those of the
// zygote's other children: below a hole of random size.
func shift() error {
	const most = 1 << 44
	b := &theZygote.random
	if v := raw(unix.SYS_GETRANDOM, ptrOf(b), 8, 0, 0, 0, 0); v != 8 {
		return fmt.Errorf("vm: getrandom: %w", unix.Errno(-v))
	}
	n := uintptr(binary.LittleEndian.Uint64(b[:]) % most &^ (abi.PageSize - 1))
	if v := raw(unix.SYS_MMAP, 0, n+abi.PageSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE, ^uintptr(0), 0); int64(v) < 0 {
		return fmt.Errorf("vm: address space: %w", unix.Errno(-v))
	}
	return nil
}

// late is the error err of a start. Whoever was born to run a pVM can say it where the
// monitor looks only when it has its handles.
func (o *orders) late(cfg *Config, err error) error {
	if !o.direct {
		return err
	}
	if e := o.takeHandles(cfg); e != nil {
		return errors.Join(err, e)
	}
	return err
}
