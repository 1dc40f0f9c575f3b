// Prefork is an HTTP server of several processes on one listener. As a pVM it forks, and
// its workers share one counter; as an ordinary process it serves alone.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"noyau.dev/pvm"
)

func main() {
	listen := flag.String("listen", ":8080", "`address` to serve on")
	workers := flag.Int("workers", 4, "`number` of processes")
	flag.Parse()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	total := new(atomic.Uint64)
	if m, err := pvm.Share(8); err == nil {
		total = m.Uint64(0)
	} else if !errors.Is(err, pvm.ErrNotPVM) {
		log.Fatal(err)
	}
	for i := range *workers {
		pid, err := pvm.Fork()
		switch {
		case errors.Is(err, pvm.ErrNotPVM):
			serve(l, total)
		case err != nil:
			log.Fatalf("worker %d: %v", i, err)
		case pid == 0:
			serve(l, total)
		}
	}
	supervise(l, total)
}

func serve(l net.Listener, total *atomic.Uint64) {
	signal.Reset() // a worker that is forked later has what supervise wants
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "process %d, answer %d\n", os.Getpid(), total.Add(1))
	})
	log.Fatal(http.Serve(l, nil))
}

// supervise makes a new worker for each that ends, until it is told to stop; then it
// stops them.
func supervise(l net.Listener, total *atomic.Uint64) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	ended := make(chan int)
	watch := func() {
		pid, status, err := pvm.WaitAny()
		if errors.Is(err, syscall.ECHILD) {
			ended <- 0 // noyau fork has copied this process, and this is the copy: it has no children
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		log.Printf("worker %d has ended (exit %d, signal %d)", pid, status.ExitStatus(), status.Signal())
		ended <- pid
	}
	go watch()
	for {
		select {
		case <-stop:
			os.Exit(0) // what is left ends with noyau stop
		case pid := <-ended:
			if pid == 0 {
				serve(l, total)
			}
			if pid, err := pvm.Fork(); err != nil {
				log.Print(err)
			} else if pid == 0 {
				serve(l, total)
			}
			go watch()
		}
	}
}
