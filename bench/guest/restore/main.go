// Restore loads as many MB as its argument says. When it finds that it was made of a
// snapshot, as its host name is another, it prints what time it was then, in ns since 1970. With one more
// argument it serves HTTP.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"
)

func main() {
	mb, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	block := make([]byte, mb<<20)
	for i := range block {
		block[i] = byte(i)
	}
	if len(os.Args) > 2 {
		l, err := net.Listen("tcp", ":8080")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") }))
		fmt.Println("ready")
		time.Sleep(time.Hour)
	}
	first, _ := os.Hostname()
	fmt.Println("ready")
	for {
		if h, _ := os.Hostname(); h != first {
			break
		}
		runtime.Gosched()
	}
	fmt.Println(time.Now().UnixNano())
	time.Sleep(time.Hour)
	runtime.KeepAlive(block)
}
