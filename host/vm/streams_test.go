package vm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"noyau.dev/host/build"
	"noyau.dev/host/monitor"
	"noyau.dev/host/vm"
	"noyau.dev/host/vm/vmtest"
)

// start builds the program in testdata and runs it as a VM. It returns the host
// addresses of the published ports.
func start(t testing.TB, name string, ports ...uint16) (*monitor.Instance, []string) {
	t.Helper()
	return startConfig(t, monitor.Config{Image: image(t, name)}, ports...)
}

func startConfig(t testing.TB, c monitor.Config, ports ...uint16) (*monitor.Instance, []string) {
	t.Helper()
	if c.Stdout == nil {
		c.Stdout = os.Stderr
	}
	c.Isolation, c.Stderr = "vm", os.Stderr
	for _, p := range ports {
		c.Publish = append(c.Publish, monitor.Publish{IP: netip.MustParseAddr("127.0.0.1"), GuestPort: p})
	}
	inst, err := monitor.Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inst.Kill(); inst.Wait() })
	var addrs []string
	for _, p := range inst.Info().Ports {
		addrs = append(addrs, p.Host)
	}
	return inst, addrs
}

var images struct {
	sync.Mutex
	dir  string
	done map[string]string
}

// image builds the program in testdata, once, and the runner. It skips the test
// where there are no virtual machines.
func image(t testing.TB, name string) string {
	t.Helper()
	if why := vmtest.Available(); why != "" {
		t.Skip(why)
	}
	vm.RunnerPath = runnerFile(t)
	images.Lock()
	defer images.Unlock()
	if img := images.done[name]; img != "" {
		return img
	}
	if images.done == nil {
		dir, err := os.MkdirTemp("", "noyau-images-")
		if err != nil {
			t.Fatal(err)
		}
		images.dir, images.done = dir, map[string]string{}
	}
	img := filepath.Join(images.dir, name)
	var out bytes.Buffer
	if _, err := build.Build(context.Background(), build.Options{Package: ".", Dir: "testdata/" + name, Output: img, Stdout: &out, Stderr: &out}); err != nil {
		t.Fatalf("build: %v\n%s", err, out.Bytes())
	}
	images.done[name] = img
	return img
}

var runnerOnce struct {
	sync.Once
	path string
	err  error
}

// runnerFile builds the runner once for all tests.
func runnerFile(t testing.TB) string {
	t.Helper()
	runnerOnce.Do(func() {
		dir, err := os.MkdirTemp("", "noyau-vm-")
		if err != nil {
			runnerOnce.err = err
			return
		}
		runnerOnce.path = filepath.Join(dir, vm.RunnerName)
		cmd := exec.Command("go", "build", "-o", runnerOnce.path, "./noyau-vm")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			runnerOnce.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if runnerOnce.err != nil {
		t.Fatal(runnerOnce.err)
	}
	return runnerOnce.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	vm.Keep(0, "")
	if images.dir != "" {
		os.RemoveAll(images.dir)
	}
	if runnerOnce.path != "" {
		os.RemoveAll(filepath.Dir(runnerOnce.path))
	}
	os.Exit(code)
}

// dial waits for the guest to listen.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(200 * time.Microsecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.SetDeadline(time.Now().Add(time.Minute))
			return c
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}
}

// TestStreams moves data of all sizes in both directions through connections
// whose data calls are batched, with half-closes, and with peers that read slowly
// while the guest closes.
func TestStreams(t *testing.T) {
	_, addr := start(t, "streams", 8080, 8081, 8082)
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for k := range 4 {
		rnd := rand.New(rand.NewSource(int64(k)))
		wg.Go(func() { bodies(t, client, "http://"+addr[0], rnd) })
		wg.Go(func() { echo(t, dial(t, addr[1]), rand.New(rand.NewSource(int64(100+k)))) })
	}
	for range 2 {
		wg.Go(func() { slowReader(t, dial(t, addr[2])) })
	}
	wg.Wait()
}

func bodies(t *testing.T, client *http.Client, url string, rnd *rand.Rand) {
	for range 30 {
		b := make([]byte, rnd.Intn(1<<(4+rnd.Intn(18))))
		rnd.Read(b)
		n := rnd.Intn(1 << (4 + rnd.Intn(18)))
		sum := fetch(t, func() (*http.Response, error) { return client.Post(url+"/sum", "x", bytes.NewReader(b)) })
		if want := fmt.Sprintf("%d %x <nil>\n", len(b), sha256.Sum256(b)); string(sum) != want {
			t.Errorf("body of %d bytes: the guest got %q", len(b), sum)
			return
		}
		got := fetch(t, func() (*http.Response, error) { return client.Get(fmt.Sprint(url, "/get?n=", n)) })
		for j := range got {
			if len(got) != n || got[j] != byte(j*7) {
				t.Errorf("got %d bytes, want %d; byte %d is wrong", len(got), n, j)
				return
			}
		}
	}
}

func fetch(t *testing.T, f func() (*http.Response, error)) []byte {
	r, err := f()
	for i := 0; err != nil && strings.Contains(err.Error(), "refused") && i < 200; i++ {
		time.Sleep(10 * time.Millisecond)
		r, err = f()
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return b
}

func echo(t *testing.T, c net.Conn, rnd *rand.Rand) {
	defer c.Close()
	b := make([]byte, 2<<20)
	rnd.Read(b)
	go func() {
		for o := 0; o < len(b); {
			n := min(1+rnd.Intn(30000), len(b)-o)
			c.Write(b[o : o+n])
			o += n
		}
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, b) {
		t.Errorf("echo: %d of %d bytes, %v", len(got), len(b), err)
	}
}

func slowReader(t *testing.T, c net.Conn) {
	defer c.Close()
	time.Sleep(time.Second)
	total, b := 0, make([]byte, 4096)
	for {
		n, err := c.Read(b)
		for _, x := range b[:n] {
			if x != byte(total/1000) {
				t.Errorf("byte %d is out of order", total)
				return
			}
			total++
		}
		if err != nil {
			if err != io.EOF || total != 20000000 {
				t.Errorf("%d bytes, then %v; want 20000000 and EOF", total, err)
			}
			return
		}
	}
}
