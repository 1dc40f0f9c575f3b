package broker

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"noyau.dev/abi"
	"noyau.dev/host/policy"
	"noyau.dev/host/volume"
)

// FuzzBroker gives messages of a hostile guest to the real decoder and the real
// handlers, over a volume beside which lies a file that must stay as it is. The
// input is a row of packets: length u16, flags u8 (bit 0: a descriptor beside
// it), then the bytes.
func FuzzBroker(f *testing.F) {
	row := func(packets ...[]byte) []byte {
		var in []byte
		for _, p := range packets {
			in = append(append(abi.Append16(in, uint16(len(p))), 0), p...)
		}
		return in
	}
	msg := func(m abi.Msg, payload []byte) []byte {
		p := make([]byte, abi.MsgSize)
		m.ID = 1
		m.Put(p)
		return append(p, payload...)
	}
	h := uint32(firstHandle)
	open := msg(abi.Msg{Op: abi.OpOpen, B: unix.O_RDWR | unix.O_CREAT, C: 0o644}, str("f"))
	f.Add(row(open, msg(abi.Msg{Op: abi.OpFstat, Handle: h}, nil), msg(abi.Msg{Op: abi.OpTruncate, Handle: h, A: 10}, nil),
		msg(abi.Msg{Op: abi.OpDrop, Handle: h}, nil), msg(abi.Msg{Op: abi.OpFstat, Handle: h}, nil)))
	f.Add(row(msg(abi.Msg{Op: abi.OpOpen}, str("")), msg(abi.Msg{Op: abi.OpReadDir, Handle: h, B: 4096}, nil)))
	f.Add(row(msg(abi.Msg{Op: abi.OpMkdir, C: 0o755}, str("x")), msg(abi.Msg{Op: abi.OpRename}, str("x", "y")),
		msg(abi.Msg{Op: abi.OpSymlink}, str("../secret", "l")), msg(abi.Msg{Op: abi.OpChmod, C: 0o777}, str("l")),
		msg(abi.Msg{Op: abi.OpOpen, B: unix.O_RDWR | unix.O_TRUNC}, str("l")), msg(abi.Msg{Op: abi.OpLink}, str("l", "m"))))
	f.Add(row(msg(abi.Msg{Op: abi.OpUDP}, addr("0.0.0.0:0")), msg(abi.Msg{Op: abi.OpSockopt, Handle: h, A: 1, B: 9, C: 1, D: 1}, nil),
		msg(abi.Msg{Op: abi.OpSendTo, Handle: h}, append(addr("127.0.0.1:9"), 1))))
	f.Add(row(msg(abi.Msg{Op: abi.OpConnect, A: abi.ProtoTCP}, addr("127.0.0.1:1")), msg(abi.Msg{Op: abi.OpListen, A: 6}, addr("0.0.0.0:80"))))
	f.Add(row(open, msg(abi.Msg{Op: abi.OpFlock, Handle: h, A: 2}, nil), open, msg(abi.Msg{Op: abi.OpFlock, Handle: h + 1, A: 2}, nil),
		msg(abi.Msg{Op: abi.OpLock, Handle: h, A: 1, C: 5, D: 1}, nil), msg(abi.Msg{Op: abi.OpSync, Handle: h}, nil)))
	for op := range len(ops) {
		f.Add(row(msg(abi.Msg{Op: uint16(op), Handle: h}, str("a", "b"))))
	}

	dir := f.TempDir()
	outside := filepath.Join(dir, "secret")
	os.WriteFile(outside, []byte(secret), 0o640)
	os.Chmod(outside, 0o640)
	null, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		root := filepath.Join(dir, "root")
		os.RemoveAll(root)
		os.MkdirAll(root, 0o755)
		// No place outside is allowed, so that nothing is ever sent to the network;
		// name-service channels go the whole way.
		rule, _ := policy.ParseRule("nowhere.invalid:1")
		// A file may be as long as the fuzzer likes to say: keep it sparse and short lived.
		g := start(t, setup{net: policy.Net{Rules: []policy.Rule{rule}}, volumes: []volume.Spec{{Host: root, Guest: "/v"}}, max: 64})
		drained := make(chan struct{})
		go func() { defer close(drained); drainGuest(g.fd) }()
		for len(in) >= 3 {
			n := min(int(in[0])|int(in[1])<<8, len(in)-3)
			var oob []byte
			if in[2]&1 != 0 {
				oob = unix.UnixRights(int(null.Fd()))
			}
			p := in[3 : 3+n]
			in = in[3+n:]
			if n == 0 || isFalloc(p) {
				continue
			}
			if err := unix.Sendmsg(g.fd, p, oob, nil, unix.MSG_NOSIGNAL); err != nil {
				break
			}
		}
		unix.Shutdown(g.fd, unix.SHUT_WR)
		<-g.b.Done()
		<-drained
		if b, err := os.ReadFile(outside); err != nil || string(b) != secret {
			t.Fatalf("the file outside was changed: %q, %v", b, err)
		}
		if st, err := os.Stat(outside); err != nil || st.Mode() != 0o640 {
			t.Fatalf("the file outside was changed: %v, %v", st, err)
		}
		if d, _ := os.ReadDir(dir); len(d) != 2 {
			t.Fatalf("%d entries beside the volume; want 2", len(d))
		}
	})
}

// isFalloc keeps the fuzzer from filling the disk.
func isFalloc(p []byte) bool {
	m, _, ok := abi.TakeMsg(p)
	return ok && m.Op == abi.OpFalloc && m.C > 1<<20
}

// drainGuest reads answers until the end, closing what comes beside them.
func drainGuest(fd int) {
	buf := make([]byte, abi.MaxMsg)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, 1000); err != nil && err != unix.EINTR {
			return
		}
		n, fds, _, err := recvPacket(fd, buf, oobRoom)
		for _, f := range fds {
			unix.Close(f)
		}
		if n == 0 && err == nil || err != nil && err != unix.EAGAIN {
			return
		}
	}
}
