package real

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// caddy serves files of a volume.
func caddy(t *testing.T, p *program) {
	large := make([]byte, 8<<20)
	rand.New(rand.NewSource(1)).Read(large)
	dir := files(t, map[string][]byte{"index.html": []byte("<p>hello</p>\n"), "large": large})
	addr := port(t)
	r := p.start(t, []string{"-p", addr + ":8080", "-v", dir + ":/srv:ro"}, "file-server", "--listen", ":8080", "--root", "/srv")
	url := "http://" + addr
	r.until(func() error { return get(url+"/", 200, []byte("<p>hello</p>\n")) })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				for _, err := range []error{
					get(url+"/large", 200, large),
					get(url+"/large", 206, large[1000:5001], "Range", "bytes=1000-5000"),
					get(url+"/absent", 404, nil),
				} {
					if err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	r.stop(0)
}

// coredns answers for names of a zone, over UDP and TCP.
func coredns(t *testing.T, p *program) {
	dir := files(t, map[string][]byte{
		"Corefile": []byte("example.test:1053 {\n\thosts {\n\t\t192.0.2.7 a.example.test\n\t\t2001:db8::7 b.example.test\n\t}\n\tcache 30\n\terrors\n}\n")})
	addr := port(t)
	r := p.start(t, []string{"-p", addr + ":1053/udp", "-p", addr + ":1053", "-v", dir + ":/zone:ro"}, "-conf", "/zone/Corefile")
	for _, network := range []string{"udp", "tcp"} {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}}
		look := func(name, want string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			got, err := resolver.LookupHost(ctx, name)
			if err != nil {
				return err
			}
			if len(got) != 1 || got[0] != want {
				return fmt.Errorf("%s over %s is %v, want %s", name, network, got, want)
			}
			return nil
		}
		r.until(func() error { return look("a.example.test.", "192.0.2.7") })
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 25 {
					if err := look("b.example.test.", "2001:db8::7"); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if err := look("absent.example.test.", ""); err == nil {
			t.Errorf("a name that is not there has an answer over %s", network)
		}
	}
	r.stop(0)
}

// nats carries messages from publishers to subscribers.
func nats(t *testing.T, p *program) {
	addr := port(t)
	r := p.start(t, []string{"-p", addr + ":4222"}, "-a", "0.0.0.0", "-p", "4222")
	connect := func() (c net.Conn, in *bufio.Reader, err error) {
		if c, err = net.Dial("tcp", addr); err != nil {
			return nil, nil, err
		}
		c.SetDeadline(time.Now().Add(patience))
		in = bufio.NewReader(c)
		fmt.Fprint(c, "CONNECT {\"verbose\":false}\r\nPING\r\n")
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				c.Close()
				return nil, nil, err
			}
			if line == "PONG\r\n" {
				return c, in, nil
			}
		}
	}
	r.until(func() error {
		c, _, err := connect()
		if err == nil {
			c.Close()
		}
		return err
	})
	const subscribers, messages = 10, 2000
	var wg sync.WaitGroup
	ready := make(chan bool, subscribers)
	for range subscribers {
		wg.Go(func() {
			c, in, err := connect()
			ready <- true
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprint(c, "SUB subject 1\r\nPING\r\n")
			for n := 0; n < messages; {
				line, err := in.ReadString('\n')
				if err != nil {
					t.Errorf("after %d messages: %v", n, err)
					return
				}
				if line == "PONG\r\n" {
					ready <- true
					continue
				}
				if line == "PING\r\n" {
					fmt.Fprint(c, "PONG\r\n")
					continue
				}
				want := fmt.Sprintf("message %d", n)
				if body, err := in.ReadString('\n'); err != nil || body != want+"\r\n" {
					t.Errorf("got %q after %q, %v; want %q", body, line, err, want)
					return
				}
				n++
			}
		})
	}
	for range 2 * subscribers {
		select {
		case <-ready:
		case <-time.After(patience):
			t.Fatal("subscribers are not ready")
		}
	}
	c, _, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out := bufio.NewWriter(c)
	for n := range messages {
		m := fmt.Sprintf("message %d", n)
		fmt.Fprintf(out, "PUB subject %d\r\n%s\r\n", len(m), m)
	}
	out.Flush()
	wg.Wait()
	r.stop(1) // as natively: it counts SIGTERM as no regular end
}

// bbolt writes the same file as natively, byte for byte, and finds no fault with the
// native one.
func bbolt(t *testing.T, p *program) {
	native := filepath.Join(t.TempDir(), "bin")
	cmd := exec.Command("go", "install", p.pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+native)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", p.pkg, err, out)
	}
	dir := files(t, nil)
	args := func(path string) []string {
		return []string{"bench", "-work", "-path", path, "-count", "5000", "-batch-size", "500", "-write-mode", "seq"}
	}
	if out, err := exec.Command(filepath.Join(native, "bbolt"), args(filepath.Join(dir, "native.db"))...).CombinedOutput(); err != nil {
		t.Fatalf("natively: %v\n%s", err, out)
	}
	flags := []string{"-v", dir + ":/data", "-u", fmt.Sprint(os.Getuid())}
	p.start(t, flags, args("/data/pvm.db")...).ended(0)
	a, err := os.ReadFile(filepath.Join(dir, "native.db"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "pvm.db"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("the files differ: %d and %d bytes", len(a), len(b))
	}
	p.start(t, flags, "check", "/data/native.db").ended(0)
	if out, err := exec.Command(filepath.Join(native, "bbolt"), "check", filepath.Join(dir, "pvm.db")).CombinedOutput(); err != nil {
		t.Errorf("the native check of the pVM's file: %v\n%s", err, out)
	}
}
