package broker

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/policy"
)

// Round trips of single requests, guest to monitor and back.
func BenchmarkRequest(b *testing.B) {
	g, _ := withVolume(b, false)
	g.open("f", unix.O_CREAT|unix.O_RDWR)
	b.Run("stat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g.must(abi.Msg{Op: abi.OpStat}, str("f"))
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a := g.must(abi.Msg{Op: abi.OpOpen, B: unix.O_RDWR}, str("f"))
			unix.Close(a.fd)
			g.send(abi.Msg{Op: abi.OpDrop, Handle: a.Handle}, nil)
		}
	})
	b.Run("flock", func(b *testing.B) {
		a := g.open("f", unix.O_RDWR)
		for b.Loop() {
			g.must(abi.Msg{Op: abi.OpFlock, Handle: a.Handle, A: unix.LOCK_SH}, nil)
		}
	})
	b.Run("connect", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		g := start(b, setup{net: policy.Net{HostLoopback: true}})
		for b.Loop() {
			a := g.must(abi.Msg{Op: abi.OpConnect, A: abi.ProtoTCP}, addr("10.0.2.2:"+port))
			unix.Close(a.fd)
			g.send(abi.Msg{Op: abi.OpDrop, Handle: a.Handle}, nil)
		}
	})
}
