package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// roles are what this program does for itself in processes of its own.
var roles = map[string]func(args []string) error{
	"load": load,
	"host": host,
}

// load is a load generator: connections keep-alive connections, each with one
// request at a time. It prints a driven as JSON.
func load(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want load ADDRESS PATH DURATION")
	}
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	request := []byte("GET " + args[1] + " HTTP/1.1\r\nHost: " + args[0] + "\r\n\r\n")
	var requests, errors atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	end := begin.Add(d)
	for range connections {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := converse(args[0], request, end, &requests); err != nil {
					errors.Add(1)
				}
			}
		})
	}
	wg.Wait()
	r := driven{float64(requests.Load()) / time.Since(begin).Seconds(), int(requests.Load()), int(errors.Load())}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// converse makes requests on one connection until end.
func converse(addr string, request []byte, end time.Time, done *atomic.Int64) error {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(end.Add(30 * time.Second))
	in := bufio.NewReaderSize(c, 64<<10)
	for time.Now().Before(end) {
		if _, err := c.Write(request); err != nil {
			return err
		}
		if err := response(in); err != nil {
			return err
		}
		done.Add(1)
	}
	return nil
}

// response reads one response, which must have a length and be a success.
func response(in *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first {
			if !strings.HasPrefix(string(line), "HTTP/1.1 200 ") {
				return fmt.Errorf("the answer is %q", line)
			}
			continue
		}
		if len(line) <= 2 {
			break
		}
		if k, v, _ := strings.Cut(string(line), ":"); strings.EqualFold(k, "content-length") {
			if length, err = strconv.Atoi(strings.TrimSpace(v)); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("the answer has no length")
	}
	_, err := io.CopyN(io.Discard, in, int64(length))
	return err
}
