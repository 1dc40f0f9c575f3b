package vm_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/host/policy"
)

// gateway is how a guest that may reach the host's loopback names addr.
func gateway(addr net.Addr) string {
	_, port, _ := net.SplitHostPort(addr.String())
	return net.JoinHostPort("10.0.2.2", port)
}

// TestOutgoing moves data of all sizes through connections that the guest makes, and
// datagrams through its UDP sockets, connected and not, whose data is batched; nothing
// is lost, mixed up or stuck, and a reset is an error.
func TestOutgoing(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sum := sha256.Sum256(b)
		w.Write(append(sum[:], b...))
	}))
	defer web.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go slowEcho(c.(*net.TCPConn))
		}
	}()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			udp.WriteTo(b[:n], from)
		}
	}()
	for _, unrestricted := range []bool{false, true} {
		t.Run(fmt.Sprintf("unrestricted=%v", unrestricted), func(t *testing.T) {
			said := make(lines, 100)
			c := monitor.Config{Image: image(t, "outward"), Stdout: said,
				Args: []string{"http://" + gateway(web.Listener.Addr()), gateway(tcp.Addr()), gateway(udp.LocalAddr())},
				Net:  policy.Net{HostLoopback: true, Unrestricted: unrestricted}}
			c.Publish = []monitor.Publish{{UDP: true, IP: netip.MustParseAddr("127.0.0.1"), GuestPort: 9000}}
			inst, _ := startConfig(t, c)
			for _, want := range []string{"reset: ", "write: ", "done"} {
				select {
				case line := <-said:
					if !strings.HasPrefix(line, want) || want == "reset: " && !strings.Contains(line, "connection reset") {
						t.Errorf("the guest said %q, want %q", line, want)
					}
				case <-inst.Done():
					t.Fatalf("the guest ended: %+v", inst.Wait())
				case <-time.After(2 * time.Minute):
					t.Fatal("the guest is stuck")
				}
			}
			askUDP(t, inst.Info().Ports[0].Host)
		})
	}
}

// slowEcho gives back what comes, at times slower than it comes; "reset" makes it
// give the connection up.
func slowEcho(c *net.TCPConn) {
	defer c.Close()
	b := make([]byte, 100000)
	for i := 0; ; i++ {
		n, err := c.Read(b)
		if string(b[:n]) == "reset" {
			c.SetLinger(0)
			return
		}
		if _, werr := c.Write(b[:n]); err != nil || werr != nil {
			return
		}
		if i%10 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// askUDP sends bursts of datagrams to the guest's server and wants each back.
func askUDP(t *testing.T, addr string) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	in := make([]byte, 64<<10)
	for round := range 50 {
		for i := range 10 {
			if _, err := c.Write(bytes.Repeat([]byte{byte(round), byte(i)}, 1+i*i*30)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			n, err := c.Read(in)
			if err != nil || !bytes.Equal(in[:n], bytes.Repeat([]byte{byte(round), byte(i)}, 1+i*i*30)) {
				t.Fatalf("round %d: datagram %d came back as %d bytes, %v", round, i, n, err)
			}
		}
	}
}

// lines gives the lines that are written to it.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		l <- strings.TrimSuffix(line, "\n")
	}
	return len(b), nil
}
