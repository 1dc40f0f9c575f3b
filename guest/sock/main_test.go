package sock

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"noyau.dev/abi"
	_ "noyau.dev/guest/fs"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/rt"
	"noyau.dev/host/broker"
	"noyau.dev/host/names"
	"noyau.dev/host/policy"
)

// published is where the guest's ports 8080/tcp and 5353/udp are on the host.
var published = map[uint16]netip.AddrPort{}

// TestMain starts a real broker at the other end of the control channel: what
// these tests send to the outside goes through the monitor's own code. Only
// tests cross the line between guest and host.
func TestMain(m *testing.M) { os.Exit(alone(m)) }

// run is what is done in the network namespace.
func run(m *testing.M) int {
	if err := startBroker(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot start a broker:", err)
		return 1
	}
	return m.Run()
}

func startBroker() error {
	rt.Native.Boot = abi.BootHeader{PID: uint32(os.Getpid()), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	local := netip.MustParseAddr("127.0.0.1")
	guard := policy.NewGuard(policy.Net{HostLoopback: true})
	c := broker.Config{
		Control: os.NewFile(uintptr(fds[0]), "control"), Guard: guard, Names: names.New(guard, "pvm", nil),
		Failed: func(err error) { panic(err) },
	}
	if c.Ports, err = broker.OpenPorts([]policy.Publish{
		{IP: local, GuestPort: 8080}, {IP: local, GuestPort: 5353, UDP: true},
	}); err != nil {
		return err
	}
	for p, a := range c.Ports.Bound() {
		published[p.GuestPort] = a
	}
	b, err := broker.New(c)
	if err != nil {
		return err
	}
	go b.Serve()
	if e := host.Start(int32(fds[1])); e != 0 {
		return e
	}
	kernel.Setup(&host.Boot{Header: rt.Boot(), Dir: "/"})
	return nil
}
