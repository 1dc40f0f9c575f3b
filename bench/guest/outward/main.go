// Command outward makes round trips to servers outside: HTTP GETs on kept connections
// (-http URL) or datagrams that come back (-udp ADDRESS), so many in all, on so many
// connections at a time.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

func main() {
	url := flag.String("http", "", "`URL` to get")
	udp := flag.String("udp", "", "`address` that echoes datagrams")
	n := flag.Int("n", 1000, "`number` of round trips")
	conns := flag.Int("c", 1, "`connections`")
	flag.Parse()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = *conns
	var wg sync.WaitGroup
	for i := range *conns {
		mine := *n / *conns
		if i < *n%*conns {
			mine++
		}
		wg.Go(func() {
			var err error
			if *url != "" {
				err = gets(*url, mine)
			} else {
				err = echoes(*udp, mine)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "outward:", err)
				os.Exit(1)
			}
		})
	}
	wg.Wait()
}

func gets(url string, n int) error {
	for range n {
		r, err := http.Get(url)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != 200 {
			return fmt.Errorf("%s: %s, %v", url, r.Status, err)
		}
	}
	return nil
}

// echoes allows for the datagrams that a network may lose.
func echoes(addr string, n int) error {
	if n == 0 {
		return nil
	}
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, 64)
	for i, lost := 0, 0; i < n; {
		if _, err := c.Write(b); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(b); err != nil {
			if lost++; lost > 10 {
				return err
			}
			continue
		}
		i++
	}
	return nil
}
