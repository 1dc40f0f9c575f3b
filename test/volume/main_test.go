// Package volume tests the guest's volumes against the real broker over a real
// control channel, in one process: the guest's side makes its host calls as
// system calls.
package volume

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/guest/host"
	"noyau.dev/guest/kernel"
	"noyau.dev/guest/rt"
	_ "noyau.dev/guest/volume"
	"noyau.dev/host/broker"
	"noyau.dev/host/names"
	"noyau.dev/host/policy"
	"noyau.dev/host/volume"
)

// The volumes: one that is written, one that is not, one within the first.
var rw, ro, nested string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "noyau")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	rw, ro, nested = dir+"/rw", dir+"/ro", dir+"/nested"
	for _, d := range []string{rw, ro, nested} {
		os.Mkdir(d, 0o755)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	guard := policy.NewGuard(policy.Net{})
	c := broker.Config{
		Control: os.NewFile(uintptr(fds[0]), "control"), Guard: guard, Names: names.New(guard, "pvm", nil),
		Failed: func(err error) { fmt.Fprintln(os.Stderr, "the broker failed:", err); os.Exit(2) },
	}
	if c.Ports, err = broker.OpenPorts(nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ids := volume.IDs{HostUID: uint32(os.Geteuid()), HostGID: uint32(os.Getegid()), GuestUID: 0, GuestGID: 0}
	for n, d := range []string{rw, ro, nested} {
		r, err := volume.Open(volume.Spec{Host: d, Guest: "/v", ReadOnly: d == ro}, uint32(n), ids)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		c.Roots = append(c.Roots, r)
	}
	b, err := broker.New(c)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go b.Serve()
	rt.Native.Boot = abi.BootHeader{PID: 7, PPID: 1, Memory: 256 << 20}
	if e := host.Start(int32(fds[1])); e != 0 {
		fmt.Fprintln(os.Stderr, "control channel:", e)
		return 1
	}
	kernel.Setup(&host.Boot{Header: &rt.Native.Boot, Hostname: "noyau", Dir: "/", Volumes: []host.Volume{
		{Path: "/v/nested", Number: 2}, {Path: "/v", Number: 0}, {Path: "/srv/ro", Number: 1, ReadOnly: true},
	}})
	return m.Run()
}
