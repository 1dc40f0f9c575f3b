package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/host/policy"
)

// exits counts how often a virtual machine leaves the guest for a round trip. Unlike
// times, these counts are about the same on every machine.
func (b *Bench) exits() ([]Result, error) {
	if !slices.Contains(b.isolation, "vm") {
		fmt.Println("only -isolation vm has exits")
		return nil, nil
	}
	var results []Result
	add := func(what string, per float64, err error) error {
		if err == nil {
			results = append(results, newResult(what, "exits a round trip", []string{"pVM vm"}, [][]float64{{per}}))
		}
		return err
	}
	served, err := b.exitsServing()
	if err := add(fmt.Sprintf("HTTP in, %d connections", connections), served, err); err != nil {
		return results, err
	}

	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("hello, world\n")) }))
	defer web.Close()
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return results, err
	}
	defer echo.Close()
	go func() {
		p := make([]byte, 2048)
		for {
			n, from, err := echo.ReadFrom(p)
			if err != nil {
				return
			}
			echo.WriteTo(p[:n], from)
		}
	}()
	outside := func(a net.Addr) string {
		_, port, _ := net.SplitHostPort(a.String())
		return net.JoinHostPort("10.0.2.2", port)
	}
	for _, c := range []int{1, connections} {
		per, err := b.exitsOf(c, "-http", "http://"+outside(web.Listener.Addr()))
		if err := add(fmt.Sprintf("HTTP out, connections: %d", c), per, err); err != nil {
			return results, err
		}
	}
	for _, c := range []int{1, connections} {
		per, err := b.exitsOf(c, "-udp", outside(echo.LocalAddr()))
		if err := add(fmt.Sprintf("UDP out, sockets: %d", c), per, err); err != nil {
			return results, err
		}
	}
	return results, nil
}

var exitCount = regexp.MustCompile(`noyau: vm: exits (\d+)`)

// counted is the configuration of a pVM that says in errs how many exits it took.
func counted(p *Program, errs *bytes.Buffer, args ...string) monitor.Config {
	c := Subject{Isolation: "vm"}.config(p, args...)
	c.Options = map[string]string{"stats": "1"}
	c.Stderr = errs
	c.Net = policy.Net{HostLoopback: true}
	return c
}

func exitsIn(errs *bytes.Buffer) (float64, error) {
	m := exitCount.FindSubmatch(errs.Bytes())
	if m == nil {
		return 0, fmt.Errorf("the runner printed no count of exits\n%s", errs.Bytes())
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// exitsServing loads a server and then ends it.
func (b *Bench) exitsServing() (float64, error) {
	p, err := b.program("http")
	if err != nil {
		return 0, err
	}
	var errs bytes.Buffer
	said := newLine()
	c := counted(p, &errs, "-listen", ":8080")
	c.Publish = []monitor.Publish{{IP: netip.MustParseAddr("127.0.0.1"), GuestPort: 8080}}
	c.Stdout = said
	inst, err := monitor.Start(b.ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { inst.Kill(); inst.Wait() }()
	if _, err := said.wait(inst.Done()); err != nil {
		return 0, err
	}
	got, err := b.drive(inst.Info().Ports[0].Host, "/", b.load)
	if err != nil {
		return 0, err
	}
	inst.Stop(30 * time.Second)
	n, err := exitsIn(&errs)
	if err != nil || got.Requests == 0 || got.Errors > 0 {
		return 0, fmt.Errorf("%d requests, %d failed: %w", got.Requests, got.Errors, err)
	}
	return n / float64(got.Requests), nil
}

// exitsOf compares a run of many round trips with one that only connects.
func (b *Bench) exitsOf(conns int, args ...string) (float64, error) {
	p, err := b.program("outward")
	if err != nil {
		return 0, err
	}
	var counts [2]float64
	trips := [2]int{conns, 20 * conns * max(1, 100/conns)}
	for i, n := range trips {
		var errs bytes.Buffer
		inst, err := monitor.Start(b.ctx, counted(p, &errs, append(args, "-n", strconv.Itoa(n), "-c", strconv.Itoa(conns))...))
		if err != nil {
			return 0, err
		}
		if e := inst.Wait(); e.Code != 0 {
			return 0, fmt.Errorf("outward: exit code %d %s\n%s", e.Code, e.Reason, errs.Bytes())
		}
		if counts[i], err = exitsIn(&errs); err != nil {
			return 0, err
		}
	}
	return (counts[1] - counts[0]) / float64(trips[1]-trips[0]), nil
}
