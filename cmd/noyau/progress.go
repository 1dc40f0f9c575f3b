package main

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows on a terminal that something is under way, if it takes long.
// It is a writer for the output of what is under way, so that the two do not
// mix.
type progress struct {
	out   *os.File
	what  string
	stop  chan struct{}
	ended chan struct{}

	mu    sync.Mutex
	shown bool
	tail  []byte // of what was written
}

// missing are the words of the go command for a package that does not exist.
var missing = []string{
	"is not in std", "no required module provides package", "cannot find module providing package", "cannot find package",
	"directory not found", "unknown revision", "no matching versions", "malformed import path", "no Go files in", "does not contain package",
}

// sawMissing reports whether the output says that a package does not exist.
func (p *progress) sawMissing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range missing {
		if bytes.Contains(p.tail, []byte(m)) {
			return true
		}
	}
	return false
}

// Nothing is shown of what is done in this time.
const progressAfter = time.Second

func newProgress(out *os.File, what string) *progress {
	p := &progress{out: out, what: what, stop: make(chan struct{}), ended: make(chan struct{})}
	if !term.IsTerminal(int(out.Fd())) {
		close(p.ended)
		return p
	}
	go p.loop()
	return p
}

func (p *progress) loop() {
	defer close(p.ended)
	start := time.Now()
	next := time.NewTimer(progressAfter)
	defer next.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-next.C:
			p.mu.Lock()
			fmt.Fprintf(p.out, "\r\x1b[Knoyau: %s (%ds)", p.what, int(time.Since(start).Seconds()))
			p.shown = true
			p.mu.Unlock()
			next.Reset(time.Second)
		}
	}
}

// Write prints b in place of the progress line.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.tail = append(p.tail, b...)
	p.tail = p.tail[max(0, len(p.tail)-(4<<10)):]
	return p.out.Write(b)
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

// done takes the progress line away.
func (p *progress) done() {
	close(p.stop)
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}
