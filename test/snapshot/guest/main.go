// Guest is what the tests of package snapshot run as a pVM: its first argument says what.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

func main() {
	cases.Run(map[string]func(args []string){
		"count": count, "who": who, "template": template, "args": arguments, "clock": clock, "share": share, "heap": heap, "connection": connection, "fault": fault,
		"traffic": traffic, "tree": tree, "programs": programs, "echo": echo, "names": names, "post": post, "sparse": sparse, "files": files, "prefork": prefork, "storm": storm, "busy": busy, "idle": idle, "places": places, "pieces": pieces, "shortlived": shortlived,
	})
}

// restored waits until this program runs in a pVM that was made of a snapshot: its host
// name is another. Whoever waits may be preempted anywhere.
func restored() {
	first, _ := os.Hostname()
	fmt.Println("ready")
	for {
		if h, _ := os.Hostname(); h != first {
			return
		}
		runtime.Gosched()
	}
}

var ballast [][]byte

// count is a server that counts its answers, while timers run.
func count([]string) {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		cases.Die(err)
	}
	for range 10 << 10 {
		ballast = append(ballast, make([]byte, 1024))
	}
	var n, ticks atomic.Int64
	go func() {
		for range time.Tick(time.Millisecond) {
			ticks.Add(1)
		}
	}()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var b [8]byte
		rand.Read(b[:])
		fmt.Fprintf(w, "%d %x %d\n", n.Add(1), b, ticks.Load())
	})
	fmt.Println("serving")
	cases.Die(http.Serve(l, nil))
}

// template has as many MB as it is told, and says so when it was restored.
func template(args []string) {
	mb, err := strconv.Atoi(args[0])
	if err != nil {
		cases.Die(err)
	}
	block := make([]byte, mb<<20)
	for i := range block {
		block[i] = byte(i)
	}
	restored()
	fmt.Println("restored")
	if len(args) > 1 {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			cases.Die(err)
		}
		cases.Die(http.Serve(l, nil))
	}
	time.Sleep(time.Hour)
	runtime.KeepAlive(block)
}

// who says who it is as soon as it was restored: host name, process id, what is random, and
// the time.
func who([]string) {
	restored()
	now := time.Now().UnixNano()
	var b [8]byte
	rand.Read(b[:])
	host, _ := os.Hostname()
	fmt.Println(host, fmt.Sprintf("%x-%x", b, mathrand.Uint64()), now)
	time.Sleep(time.Hour)
}

// arguments and environment lie where the host had put them only at the start.
func arguments([]string) {
	want := strings.Join(os.Args, " ") + os.Getenv("A")
	env := strings.Join(os.Environ(), " ")
	restored()
	if got := strings.Join(os.Args, " ") + os.Getenv("A"); got != want || strings.Join(os.Environ(), " ") != env {
		cases.Die("before:", want, "after:", got)
	}
	fmt.Println(want)
}

// clock: a timer of 300 ms goes on with what was left of it, time.Since counts what the
// program has lived through, and the wall clock is right.
func clock([]string) {
	began := time.Now()
	const long = 24 * time.Hour
	short, far := time.After(300*time.Millisecond), time.NewTimer(long)
	restored()
	lived := time.Since(began)
	<-short
	at := time.Since(began)
	select {
	case <-far.C:
		cases.Die("a timer of a day fired after", at)
	default:
	}
	if lived > time.Minute || at < 300*time.Millisecond || at > time.Minute {
		cases.Die("lived", lived, "when restored, and", at, "when a timer of 300 ms fired")
	}
	var mono [2]syscall.Timespec
	for i := range mono {
		if _, _, e := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(ptr(&mono[i])), 0); e != 0 {
			cases.Die(e)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if d := time.Duration(mono[1].Nano() - mono[0].Nano()); d < 10*time.Millisecond || d > time.Minute {
		cases.Die("the monotonic clock went on by", d)
	}
	fmt.Println("wall", time.Now().Unix())
}

// heap works hard on memory, collects and gives memory back, before and after.
func heap([]string) {
	var mu sync.Mutex
	keep := map[int][]byte{}
	sums := map[int][32]byte{}
	work := func(from, to int) {
		for i := from; i < to; i++ {
			b := make([]byte, 1+i*37%50_000)
			rand.Read(b)
			mu.Lock()
			keep[i], sums[i] = b, sha256.Sum256(b)
			delete(keep, i-500)
			delete(sums, i-500)
			mu.Unlock()
		}
	}
	check := func() {
		mu.Lock()
		defer mu.Unlock()
		for i, b := range keep {
			if sha256.Sum256(b) != sums[i] {
				cases.Die("block", i, "is damaged")
			}
		}
	}
	work(0, 3000)
	check()
	restored()
	check()
	for round := range 4 {
		work(3000+1000*round, 4000+1000*round)
		runtime.GC()
		check()
	}
	mu.Lock()
	clear(keep)
	mu.Unlock()
	big := make([]byte, 64<<20) // zeros, whatever was there before
	for i, c := range big {
		if c != 0 {
			cases.Die("fresh memory has", c, "at", i)
		}
	}
	fmt.Println("done")
}

// share: memory that was shared before is shared again, by what is forked from now on, and
// pairs of which both ends were here go on, with what was in them.
func share([]string) {
	s, err := pvm.Share(10_000)
	if err != nil {
		cases.Die(err)
	}
	near, far, err := pvm.Pair()
	if err != nil {
		cases.Die(err)
	}
	near.WriteString("before ")
	m := s.Bytes()
	for i := range m {
		m[i] = byte(i)
	}
	restored()
	for i := range m {
		if m[i] != byte(i) {
			cases.Die("byte", i, "is", m[i])
		}
	}
	turn := s.Uint32(0)
	before := turn.Load()
	pid, err := pvm.Fork()
	if err != nil {
		cases.Die(err)
	}
	if pid == 0 {
		near.Close()
		b := make([]byte, 12)
		if _, err := io.ReadFull(far, b); err != nil || string(b) != "before after" {
			cases.Die("the pair gave", string(b), err)
		}
		if err := s.Wait(turn, before); err != nil || turn.Load() != before+1 {
			cases.Die("wait:", err, turn.Load())
		}
		turn.Store(before)
		for i := range m {
			m[i]++
		}
		far.WriteString("done")
		os.Exit(0)
	}
	far.Close()
	near.WriteString("after")
	turn.Store(before + 1)
	if err := s.Wake(); err != nil {
		cases.Die("wake:", err)
	}
	if b, err := io.ReadAll(near); err != nil || string(b) != "done" {
		cases.Die("the pair gave", string(b), err)
	}
	if st, err := pvm.Wait(pid); err != nil || st.ExitStatus() != 0 {
		cases.Die(st, err)
	}
	for i := range m {
		if m[i] != byte(i)+1 {
			cases.Die("byte", i, "of shared memory is", m[i], "after a child has changed it")
		}
	}
	fmt.Println("done")
}

// connection: one that was open before fails, and does not hang.
func connection([]string) {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		cases.Die(err)
	}
	fmt.Println("listening")
	c, err := l.Accept()
	if err != nil {
		cases.Die(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		cases.Die(err)
	}
	c.Write(b) // which is in the ring, under isolation=vm
	_, err = c.Read(b)
	fmt.Println("read:", errors.Is(err, syscall.ECONNRESET), err)
	if _, err = c.Write(b); err == nil {
		cases.Die("a write to a connection of before succeeds")
	}
	c.Close()
	if c, err = l.Accept(); err != nil {
		cases.Die(err)
	}
	io.Copy(c, c)
	c.Close()
	fmt.Println("done")
}

// fault: signals are at work again.
func fault([]string) {
	restored()
	func() {
		defer func() {
			if r := recover(); r == nil {
				cases.Die("no panic")
			}
		}()
		var p *int
		*p = 1
	}()
	var stop atomic.Bool
	time.AfterFunc(20*time.Millisecond, func() { stop.Store(true) })
	for !stop.Load() { // ends only if it is preempted
	}
	fmt.Println("done")
}

// sparse has memory of which few pages hold something: every 16th of the first 64 MB; with an
// argument, every 66th of more than there are extents in a snapshot.
func sparse(args []string) {
	const page, near = 4096, 64 << 20
	far := 0
	if len(args) > 0 {
		far = 2800 * 66 * page
	}
	b := make([]byte, near+far)
	step := func(i int) int {
		if i < near {
			return 16 * page
		}
		return 66 * page
	}
	for i := 0; i < len(b); i += step(i) {
		b[i] = byte(i/page) | 1
	}
	first, _ := os.Hostname()
	fmt.Println("ready")
	for h := first; h == first; h, _ = os.Hostname() {
		time.Sleep(time.Millisecond) // without much garbage
	}
	for i := 0; i < len(b); i += page {
		want := byte(0)
		if i < near && i%(16*page) == 0 || i >= near && (i-near)%(66*page) == 0 {
			want = byte(i/page) | 1
		}
		if b[i] != want || b[i+page-1] != 0 {
			cases.Die("page", i/page, b[i], want, b[i+page-1])
		}
	}
	fmt.Println("done")
}
