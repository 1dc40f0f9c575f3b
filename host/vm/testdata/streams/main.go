// Streams is the guest of TestStreams: HTTP with bodies of any size, a raw echo,
// and a server that writes more than its peer reads and then closes.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
)

func serve(addr string, f func(net.Conn)) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() { f(c); c.Close() }()
	}
}

func main() {
	http.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x %v\n", n, h.Sum(nil), err)
	})
	http.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 7)
		}
		w.Write(b)
	})
	go serve(":8081", func(c net.Conn) { io.Copy(c, c) })
	go serve(":8082", func(c net.Conn) {
		b := make([]byte, 1000)
		for i := range 20000 {
			for j := range b {
				b[j] = byte(i)
			}
			if _, err := c.Write(b); err != nil {
				log.Print(err)
				return
			}
		}
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
