// Command http serves a small body at / and one of 10 MB at /big.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
)

func main() {
	listen := flag.String("listen", ":8080", "`address` to serve on")
	flag.Parse()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
	small := []byte("hello, world\n")
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { w.Write(small) })
	var big []byte // made at the first use: an idle server has none
	http.HandleFunc("GET /big", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(big)))
		w.Write(big)
	})
	http.HandleFunc("POST /big", func(w http.ResponseWriter, r *http.Request) { big = make([]byte, 10<<20) })
	fmt.Println("listening", l.Addr())
	fmt.Fprintln(os.Stderr, "http:", http.Serve(l, nil))
	os.Exit(1)
}
