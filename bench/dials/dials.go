// Package dials makes many short TCP connections and looks for those that hang:
// a wake-up that is lost somewhere shows as a dial that never ends.
package dials

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Hang is how long a dial with its one byte may take before it counts as hung.
const Hang = 5 * time.Second

// Variables for the sake of tests.
var (
	hang = Hang
	// giveUp ends a dial that hangs, so that the rest can be tried too.
	giveUp = 15 * time.Second
)

// Result is what came of a number of dials.
type Result struct {
	Dials, Hangs, Failed int64
	Took, Longest        time.Duration
	First                error // the first failure
}

// String is one line that Parse reads.
func (r Result) String() string {
	return fmt.Sprintf("dials %d hangs %d failed %d took %d longest %d", r.Dials, r.Hangs, r.Failed, r.Took, r.Longest)
}

// Parse reads what String wrote.
func Parse(s string) (r Result, err error) {
	_, err = fmt.Sscanf(s, "dials %d hangs %d failed %d took %d longest %d", &r.Dials, &r.Hangs, &r.Failed, &r.Took, &r.Longest)
	return r, err
}

// Serve answers each connection's byte with the same byte.
func Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			var b [1]byte
			if _, err := io.ReadFull(c, b[:]); err == nil {
				c.Write(b[:])
			}
		}()
	}
}

// Dial makes n connections to addr, parallel at a time. from, if not nil, gives
// the local address of dial i, so that ports do not run out.
func Dial(addr string, n, parallel int, from func(i int64) net.Addr) Result {
	var r Result
	var next, longest, hangs, failed atomic.Int64
	var first sync.Once
	start := time.Now()
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				d := net.Dialer{Timeout: giveUp}
				if from != nil {
					d.LocalAddr = from(i)
				}
				t := time.Now()
				err := once(&d, addr)
				took := time.Since(t)
				for old := longest.Load(); int64(took) > old && !longest.CompareAndSwap(old, int64(took)); old = longest.Load() {
				}
				if took > hang {
					hangs.Add(1)
				}
				if err != nil {
					failed.Add(1)
					first.Do(func() { r.First = err })
				}
				if i%16 == 0 {
					time.Sleep(50 * time.Microsecond) // let everything go to sleep
				}
			}
		})
	}
	wg.Wait()
	r.Dials, r.Hangs, r.Failed = int64(n), hangs.Load(), failed.Load()
	r.Took, r.Longest = time.Since(start), time.Duration(longest.Load())
	return r
}

func once(d *net.Dialer, addr string) error {
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(giveUp))
	b := [1]byte{42}
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	// The other side closes first and so keeps the port's TIME_WAIT.
	_, err = c.Read(b[:])
	if err != io.EOF {
		return fmt.Errorf("want the end of the connection, got %v", err)
	}
	return nil
}
