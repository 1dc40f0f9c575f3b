// Fork measures forks of a pVM with 10 MB of heap.
//
//	fork first N   N forks: from the call to the child's first instruction, in ns
//	fork rows N    N forks in a row, each waited for: ns for each
//	fork answer    serves by forks: see answer
//	fork idle      forks one child that then does nothing, and says so
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"noyau.dev/pvm"
)

var heap [][]byte

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func fork(child func()) int {
	pid := must(pvm.Fork())
	if pid == 0 {
		child()
		os.Exit(0)
	}
	return pid
}

func main() {
	for range 10 << 10 {
		heap = append(heap, make([]byte, 1<<10))
	}
	runtime.GC()
	switch os.Args[1] {
	case "first":
		for range must(strconv.Atoi(os.Args[2])) {
			t := time.Now()
			must(pvm.Wait(fork(func() {
				fmt.Println("fork to the child's first instruction, 10 MB:", time.Since(t).Nanoseconds())
			})))
		}
	case "rows":
		n := must(strconv.Atoi(os.Args[2]))
		t := time.Now()
		for range n {
			must(pvm.Wait(fork(func() {})))
		}
		fmt.Printf("fork, exit and wait, %d in a row, 10 MB: %d\n", n, time.Since(t).Nanoseconds()/int64(n))
	case "answer":
		answer()
	case "idle":
		fork(func() {
			fmt.Println("idle")
			time.Sleep(time.Hour)
		})
		time.Sleep(time.Hour)
	}
	runtime.KeepAlive(heap)
}

// answer forks for each byte that comes by a connection to port 8081. The child answers
// the HTTP request that waits at port 8080, and ends.
func answer() {
	l, orders := must(net.Listen("tcp", ":8080")), must(net.Listen("tcp", ":8081"))
	fmt.Println("listening")
	c := must(orders.Accept())
	for b := make([]byte, 1); ; must(c.Write(b)) {
		if _, err := c.Read(b); err != nil {
			return
		}
		must(pvm.Wait(fork(func() {
			srv := http.Server{ConnState: func(_ net.Conn, s http.ConnState) {
				if s == http.StateClosed {
					os.Exit(0)
				}
			}}
			http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "Hello, world\n") })
			srv.Serve(l)
		})))
	}
}
