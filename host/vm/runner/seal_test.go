package runner

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

type sealCase struct {
	allowed bool
	do      func()
}

// sealCases are system calls tried in a process that has sealed itself. The
// arguments are such that an allowed call does no harm.
var sealCases = map[string]sealCase{
	"recvfrom":                      {true, func() { unix.RawSyscall6(unix.SYS_RECVFROM, 99, 0, 0, 0, 0, 0) }},
	"sendto":                        {true, func() { unix.RawSyscall6(unix.SYS_SENDTO, 99, 0, 0, 0, 0, 0) }},
	"sendto an address":             {false, func() { unix.RawSyscall6(unix.SYS_SENDTO, 99, 0, 0, 0, 0x1000, 16) }},
	"sendto an address above 4 GiB": {false, func() { unix.RawSyscall6(unix.SYS_SENDTO, 99, 0, 0, 0, 1<<32, 16) }},
	"KVM_RUN":                       {true, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xAE80, 0) }},
	"KVM_CREATE_VM":                 {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xAE01, 0) }},
	"KVM_SET_MSRS":                  {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0x4008AE89, 0) }},
	"TIOCSTI":                       {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, 0) }},
	"recvmsg 3":                     {true, func() { unix.RawSyscall(unix.SYS_RECVMSG, 3, 0, 0) }},
	"recvmsg 4":                     {false, func() { unix.RawSyscall(unix.SYS_RECVMSG, 4, 0, 0) }},
	"mmap":                          {true, func() { unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON) }},
	"mmap exec":                     {false, func() { unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON) }},
	"mprotect":                      {false, func() { unix.RawSyscall(unix.SYS_MPROTECT, 0x1000, 4096, 7) }},
	"madvise free":                  {false, func() { unix.RawSyscall(unix.SYS_MADVISE, 0x1000, 4096, unix.MADV_FREE) }},
	"a thread":                      {true, func() { done := make(chan int); go func() { runtime.LockOSThread(); done <- 1 }(); <-done }},
	"fork":                          {false, func() { unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0) }},
	"clone3":                        {false, func() { unix.RawSyscall(435, 0, 0, 0) }},
	"vfork":                         {false, func() { unix.RawSyscall(unix.SYS_VFORK, 0, 0, 0) }},
	"execve":                        {false, func() { unix.RawSyscall(unix.SYS_EXECVE, 0, 0, 0) }},
	"openat":                        {false, func() { unix.Open("/", unix.O_RDONLY, 0) }},
	"socket":                        {false, func() { unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) }},
	"connect":                       {false, func() { unix.RawSyscall(unix.SYS_CONNECT, 0, 0, 0) }},
	"ptrace":                        {false, func() { unix.RawSyscall(unix.SYS_PTRACE, 0, 0, 0) }},
	"kill":                          {false, func() { unix.Kill(1, 0) }},
	"tgkill SIGKILL":                {false, func() { unix.RawSyscall(unix.SYS_TGKILL, 1, 1, 9) }},
	"write 2":                       {true, func() { unix.Write(2, nil) }},
	"write 1":                       {false, func() { unix.Write(1, nil) }},
	"prctl":                         {false, func() { unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }},
	"seccomp":                       {false, func() { unix.RawSyscall(unix.SYS_SECCOMP, 0, 0, 0) }},
	"bpf":                           {false, func() { unix.RawSyscall(unix.SYS_BPF, 0, 0, 0) }},
	"io_uring":                      {false, func() { unix.RawSyscall(unix.SYS_IO_URING_SETUP, 0, 0, 0) }},
	"userfaultfd":                   {false, func() { unix.RawSyscall(unix.SYS_USERFAULTFD, 0, 0, 0) }},
	"x32":                           {false, func() { unix.RawSyscall(unix.SYS_CLOSE|1<<30, 99, 0, 0) }},
}

// sealForkCases are those tried with the list of a runner whose image may fork.
var sealForkCases = map[string]sealCase{
	"fork":                     {true, func() { forkTo(uintptr(abi.ForkFlags), 0) }},
	"fork without the parent":  {false, func() { forkTo(uintptr(unix.SIGCHLD), 0) }},
	"fork and another stack":   {false, func() { forkTo(uintptr(abi.ForkFlags), 0x1000) }},
	"fork of the memory alone": {false, func() { forkTo(unix.CLONE_VM|unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0) }},
	"namespaces":               {false, func() { forkTo(unix.CLONE_NEWUSER|uintptr(abi.ForkFlags), 0) }},
	"a thread":                 {true, func() { done := make(chan int); go func() { runtime.LockOSThread(); done <- 1 }(); <-done }},
	"KVM_RUN":                  {true, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xAE80, 0) }},
	"KVM_CREATE_VM":            {true, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xAE01, 0) }},
	"KVM_CREATE_VCPU":          {true, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xAE41, 0) }},
	"KVM_SET_MSRS":             {true, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0x4008AE89, 0) }},
	"KVM_CREATE_DEVICE":        {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xC00CAEE0, 0) }},
	"KVM_CREATE_IRQCHIP":       {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xAE60, 0) }},
	"KVM_IRQFD":                {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0x4020AE76, 0) }},
	"TIOCSTI":                  {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, 0) }},
	"dup3":                     {true, func() { unix.RawSyscall(unix.SYS_DUP3, 99, 98, unix.O_CLOEXEC) }},
	"dup3 over exec":           {false, func() { unix.RawSyscall(unix.SYS_DUP3, 99, 98, 0) }},
	"die with the monitor":     {true, func() { unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0) }},
	"live without it":          {false, func() { unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0, 0) }},
	"name memory":              {true, func() { unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_VMA, 0, 0, 0, 0, 0) }},
	"prctl":                    {false, func() { unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }},
	"tick":                     {true, func() { unix.RawSyscall(unix.SYS_SETITIMER, 2, 0, 0) }},
	"alarm":                    {false, func() { unix.RawSyscall(unix.SYS_SETITIMER, 0, 0, 0) }},
	"seals":                    {true, func() { unix.RawSyscall(unix.SYS_FCNTL, 99, unix.F_GET_SEALS, 0) }},
	"fcntl F_SETOWN":           {false, func() { unix.RawSyscall(unix.SYS_FCNTL, 99, unix.F_SETOWN, 1) }},
	"clone3":                   {false, func() { unix.RawSyscall(435, 0, 0, 0) }},
	"execve":                   {false, func() { unix.RawSyscall(unix.SYS_EXECVE, 0, 0, 0) }},
	"openat":                   {false, func() { unix.Open("/", unix.O_RDONLY, 0) }},
	"setpgid":                  {false, func() { unix.Setpgid(0, 0) }},
	"sendto an address":        {false, func() { unix.RawSyscall6(unix.SYS_SENDTO, 99, 0, 0, 0, 0x1000, 16) }},
}

// sealStandbyCases are those tried with the list of a runner of a template.
var sealStandbyCases = map[string]sealCase{
	"dup3":           {true, func() { unix.RawSyscall(unix.SYS_DUP3, 99, 98, unix.O_CLOEXEC) }},
	"dup3 over exec": {false, func() { unix.RawSyscall(unix.SYS_DUP3, 99, 98, 0) }},
	"recvmsg 3":      {true, func() { unix.RawSyscall(unix.SYS_RECVMSG, 3, 0, 0) }},
	"recvmsg 0":      {false, func() { unix.RawSyscall(unix.SYS_RECVMSG, 0, 0, 0) }},
	"tick":           {false, func() { unix.RawSyscall(unix.SYS_SETITIMER, 2, 0, 0) }},
	"KVM_CREATE_VM":  {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xAE01, 0) }},
	"fork":           {false, func() { unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0) }},
	"seccomp":        {false, func() { unix.RawSyscall(unix.SYS_SECCOMP, 0, 0, 0) }},
	"openat":         {false, func() { unix.Open("/", unix.O_RDONLY, 0) }},
}

// sealZygoteCases are those tried with the list of a zygote.
var sealZygoteCases = map[string]sealCase{
	"a child":                    {true, func() { forkTo(uintptr(abi.ForkFlags), 0) }},
	"one in a pid namespace":     {true, func() { forkTo(unix.CLONE_NEWPID|uintptr(abi.ForkFlags), 0) }},
	"one in a user namespace":    {false, func() { forkTo(unix.CLONE_NEWUSER|uintptr(abi.ForkFlags), 0) }},
	"one in a mount namespace":   {false, func() { forkTo(unix.CLONE_NEWNS|uintptr(abi.ForkFlags), 0) }},
	"one on another stack":       {false, func() { forkTo(unix.CLONE_NEWPID|uintptr(abi.ForkFlags), 0x1000) }},
	"a child of its own":         {false, func() { forkTo(unix.CLONE_NEWPID|uintptr(unix.SIGCHLD), 0) }},
	"a thread":                   {true, func() { done := make(chan int); go func() { runtime.LockOSThread(); done <- 1 }(); <-done }},
	"a group of its own":         {true, func() { unix.Setpgid(0, 0) }},
	"a group for another":        {false, func() { unix.Setpgid(1, 0) }},
	"a group of another":         {false, func() { unix.Setpgid(0, 1) }},
	"fewer capabilities":         {true, func() { unix.RawSyscall(unix.SYS_CAPSET, 0, 0, 0) }},
	"close_range":                {true, func() { unix.CloseRange(900, 901, 0) }},
	"a message from the mailbox": {true, func() { unix.RawSyscall(unix.SYS_RECVMSG, 0, 0, 0) }},
	"a message from another":     {false, func() { unix.RawSyscall(unix.SYS_RECVMSG, 5, 0, 0) }},
	"an answer":                  {true, func() { unix.RawSyscall(unix.SYS_WRITE, 0, 0, 0) }},
	"write to another":           {false, func() { unix.RawSyscall(unix.SYS_WRITE, 5, 0, 0) }},
	"KVM_CREATE_VM":              {true, func() { unix.RawSyscall(unix.SYS_IOCTL, 99, 0xAE01, 0) }},
	"TIOCSTI":                    {false, func() { unix.RawSyscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, 0) }},
	"unshare":                    {false, func() { unix.Unshare(0) }},
	"setns":                      {false, func() { unix.Setns(0, 0) }},
	"mount":                      {false, func() { unix.RawSyscall(unix.SYS_MOUNT, 0, 0, 0) }},
	"pivot_root":                 {false, func() { unix.RawSyscall(unix.SYS_PIVOT_ROOT, 0, 0, 0) }},
	"chroot":                     {false, func() { unix.RawSyscall(unix.SYS_CHROOT, 0, 0, 0) }},
	"setuid":                     {false, func() { unix.RawSyscall(unix.SYS_SETUID, 0, 0, 0) }},
	"kill":                       {false, func() { unix.Kill(1, 0) }},
	"pidfd_open":                 {false, func() { unix.PidfdOpen(1, 0) }},
	"execve":                     {false, func() { unix.RawSyscall(unix.SYS_EXECVE, 0, 0, 0) }},
	"socket":                     {false, func() { unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) }},
	"clone3":                     {false, func() { unix.RawSyscall(435, 0, 0, 0) }},
}

// forkTo makes a raw clone; a child ends at once.
func forkTo(flags, stack uintptr) {
	if pid, _, _ := unix.RawSyscall6(unix.SYS_CLONE, flags, stack, 0, 0, 0, 0); pid == 0 {
		exit(0)
	}
}

const sealEnv = "NOYAU_SEAL_CASE"

func TestMain(m *testing.M) {
	if Wanted() {
		Main()
	}
	if name := os.Getenv(sealEnv); name != "" {
		list, name, _ := strings.Cut(name, ":")
		c, calls := sealCases[name], Calls(false, list == "fork")
		switch list {
		case "fork":
			c = sealForkCases[name]
		case "standby":
			c, calls = sealStandbyCases[name], append(calls, standbyCalls()...)
		case "zygote":
			c, calls = sealZygoteCases[name], slices.Concat(Calls(true, true), StartCalls(), ZygoteCalls())
		}
		if err := seal(calls); err != nil {
			unix.Write(2, []byte(err.Error()))
			unix.Exit(3)
		}
		c.do()
		unix.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSeal tries calls that the sealed runner may make and calls that it may not.
func TestSeal(t *testing.T) {
	for list, cases := range map[string]map[string]sealCase{"": sealCases, "fork": sealForkCases, "standby": sealStandbyCases, "zygote": sealZygoteCases} {
		testSeal(t, list, cases)
	}
}

func testSeal(t *testing.T, list string, cases map[string]sealCase) {
	for name, c := range cases {
		t.Run(list+":"+name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), goDebug, sealEnv+"="+list+":"+name)
			out, err := cmd.CombinedOutput()
			killed := false
			var ee *exec.ExitError
			if errors.As(err, &ee) {
				killed = ee.Sys().(syscall.WaitStatus).Signal() == unix.SIGSYS
			}
			if c.allowed && err != nil || !c.allowed && !killed {
				t.Errorf("allowed %v, but: %v %s", c.allowed, err, out)
			}
		})
	}
}
