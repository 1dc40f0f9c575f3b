// Command kv is a key-value server. It answers a write only after it is on disk,
// so that nothing it acknowledged is lost even if it is killed.
//
// The protocol is lines. A key has no spaces; a value is the rest of the line.
//
//	SET key value   OK
//	GET key         VALUE value, or NONE
//	DEL key         OK, or NONE
//	COUNT           COUNT n
//	anything else   ERROR why
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
)

func main() {
	log.SetFlags(0)
	listen := flag.String("listen", "127.0.0.1:7070", "`address` to serve on")
	data := flag.String("data", ".", "`directory` of the database")
	flag.Parse()
	if err := serve(*listen, *data); err != nil {
		log.Fatal("kv: ", err)
	}
}

// serve answers clients until SIGTERM or SIGINT.
func serve(listen, data string) error {
	store, err := Open(filepath.Join(data, "kv.db"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	log.Printf("serving %s on %s", store.Path(), l.Addr())

	var conns clients
	context.AfterFunc(ctx, func() { l.Close(); conns.close() })
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				err = nil
			}
			conns.close()
			conns.wait()
			return errors.Join(err, store.Close())
		}
		conns.serve(c, store)
	}
}

// clients are the connections that are open.
type clients struct {
	mu     sync.Mutex
	wg     sync.WaitGroup
	open   map[net.Conn]bool
	closed bool
}

func (cs *clients) serve(c net.Conn, s *Store) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		c.Close()
		return
	}
	if cs.open == nil {
		cs.open = make(map[net.Conn]bool)
	}
	cs.open[c] = true
	cs.wg.Go(func() {
		Serve(c, s)
		c.Close()
		cs.mu.Lock()
		delete(cs.open, c)
		cs.mu.Unlock()
	})
}

func (cs *clients) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	for c := range cs.open {
		c.Close()
	}
}

func (cs *clients) wait() { cs.wg.Wait() }
