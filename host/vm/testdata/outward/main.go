// Outward is the guest of TestOutgoing: a client of the servers named by its
// arguments, and a UDP server on port 9000. It prints what it has done, or what went
// wrong, and serves until it is killed.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"os"
	"sync"
)

func main() {
	web, tcp, udp := os.Args[1], os.Args[2], os.Args[3]
	go serve()
	var wg sync.WaitGroup
	for k := range 4 {
		rnd := rand.New(rand.NewSource(int64(k)))
		wg.Go(func() { bodies(web, rnd) })
		wg.Go(func() { echo(tcp, rnd.Int63()) })
		wg.Go(func() { datagrams(udp, rnd.Int63()) })
	}
	wg.Wait()
	reset(tcp)
	fmt.Println("done")
	select {}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// serve echoes datagrams to whoever sent them.
func serve() {
	c, err := net.ListenPacket("udp", ":9000")
	check(err)
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		check(err)
		if _, err := c.WriteTo(b[:n], from); err != nil {
			log.Print(err)
		}
	}
}

func bodies(url string, rnd *rand.Rand) {
	for range 30 {
		b := make([]byte, rnd.Intn(1<<(4+rnd.Intn(18))))
		rnd.Read(b)
		r, err := http.Post(url, "x", bytes.NewReader(b))
		check(err)
		got, err := io.ReadAll(r.Body)
		check(err)
		r.Body.Close()
		if want := sha256.Sum256(b); !bytes.Equal(got[:32], want[:]) || !bytes.Equal(got[32:], b) {
			log.Fatalf("a body of %d bytes came back as %d", len(b), len(got)-32)
		}
	}
}

// echo writes, ends its side, and wants all of it back.
func echo(addr string, seed int64) {
	c, err := net.Dial("tcp", addr)
	check(err)
	defer c.Close()
	rnd := rand.New(rand.NewSource(seed))
	b := make([]byte, 3<<20)
	rnd.Read(b)
	go func() {
		for o := 0; o < len(b); {
			n := min(1+rnd.Intn(30000), len(b)-o)
			if _, err := c.Write(b[o : o+n]); err != nil {
				log.Fatal(err)
			}
			o += n
		}
		check(c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	check(err)
	if !bytes.Equal(got, b) {
		log.Fatalf("echo: %d of %d bytes", len(got), len(b))
	}
}

// datagrams sends some at a time and wants each back, whole and in order.
func datagrams(addr string, seed int64) {
	c, err := net.Dial("udp", addr)
	check(err)
	defer c.Close()
	rnd := rand.New(rand.NewSource(seed))
	in := make([]byte, 64<<10)
	for range 100 {
		var sent [][]byte
		for range 1 + rnd.Intn(8) {
			b := make([]byte, rnd.Intn(1<<(1+rnd.Intn(13))))
			rnd.Read(b)
			n, err := c.Write(b)
			check(err)
			if n != len(b) {
				log.Fatalf("wrote %d of %d bytes", n, len(b))
			}
			sent = append(sent, b)
		}
		for _, b := range sent {
			n, err := c.Read(in)
			check(err)
			if !bytes.Equal(in[:n], b) {
				log.Fatalf("a datagram of %d bytes came back as %d", len(b), n)
			}
		}
	}
}

// reset wants the error of a connection that its peer gives up, not an end.
func reset(addr string) {
	c, err := net.Dial("tcp", addr)
	check(err)
	defer c.Close()
	_, err = c.Write([]byte("reset"))
	check(err)
	b := make([]byte, 100)
	for err == nil {
		_, err = c.Read(b)
	}
	fmt.Println("reset:", err)
	// Writing alone finds out as well.
	for err = nil; err == nil; {
		_, err = c.Write([]byte("more"))
	}
	fmt.Println("write:", err)
}
