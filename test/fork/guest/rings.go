package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"noyau.dev/pvm"
	"noyau.dev/test/internal/cases"
)

// killed: members die at any moment while they take jobs from one queue and answer into
// another. Who dies takes one job with it at most, and nobody hangs.
func killed(args []string) {
	kills := number(args[0])
	workers := kills + 2
	jobs, results := must(pvm.NewQueue()), must(pvm.NewQueue())
	work := func() {
		jobs.CloseSend()
		results.CloseReceive()
		b := make([]byte, pvm.MaxMessage)
		for {
			n, err := jobs.Receive(b)
			if err == io.EOF {
				os.Exit(0)
			}
			if err != nil {
				cases.Die("a worker:", err)
			}
			for _, c := range b[4:n] {
				if c != b[4] {
					cases.Die("a job is not whole")
				}
			}
			if err := results.Send(b[:min(n, 5000)]); err != nil {
				cases.Die("a worker:", err)
			}
		}
	}
	var alive []int
	for range workers {
		alive = append(alive, fork(work))
	}
	var sent atomic.Int64
	var over atomic.Bool
	sending := make(chan bool)
	go func() {
		defer close(sending)
		for i := uint32(0); !over.Load(); i++ {
			size := 5 + rand.IntN(100)
			if i%4 == 0 {
				size = pvm.MaxMessage - rand.IntN(1000)
			}
			m := bytes.Repeat([]byte{byte(i)}, size)
			binary.LittleEndian.PutUint32(m, i)
			if err := jobs.Send(m); err != nil {
				cases.Die("send:", err)
			}
			sent.Add(1)
		}
	}()
	go func() {
		for i := range kills {
			time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
			if err := pvm.Signal(alive[i], syscall.SIGKILL); err != nil {
				cases.Die("kill:", err)
			}
			if i%2 == 0 { // the others are not waited for yet
				pvm.Wait(alive[i])
			}
		}
		over.Store(true)
		<-sending
		jobs.CloseSend()
		results.CloseSend()
	}()
	seen := map[uint32]bool{}
	b := make([]byte, pvm.MaxMessage)
	for {
		n, err := results.Receive(b)
		if err == io.EOF {
			break
		}
		if err != nil {
			cases.Die("receive:", err)
		}
		id := binary.LittleEndian.Uint32(b)
		if seen[id] || n < 5 {
			cases.Die("job", id, "came twice, or as", n, "bytes")
		}
		seen[id] = true
	}
	for _, p := range alive[kills:] {
		wait(p, 0)
	}
	if lost := int(sent.Load()) - len(seen); lost < 0 || lost > kills {
		cases.Die(lost, "of", sent.Load(), "jobs are lost by", kills, "deaths")
	}
	fmt.Println("done")
}

// findRing finds the memory of a pair, into whose first end the pattern alone was written, near
// other memory that members share.
func findRing(near unsafe.Pointer, pattern []byte) unsafe.Pointer {
	const page, far = 4096, 2 << 20
	base := uintptr(near) &^ (page - 1)
	for off := uintptr(page); off < far; off += page {
		for _, at := range [2]uintptr{base + off, base - off} {
			p := *(*unsafe.Pointer)(unsafe.Pointer(&at))
			if bytes.Equal(unsafe.Slice((*byte)(p), len(pattern)), pattern) {
				return unsafe.Add(p, -page)
			}
		}
	}
	cases.Die("the ring is not to be found")
	return nil
}

func word(p unsafe.Pointer, i int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Add(p, 4*i)) }

// locked: the lock of a ring that a member had when it died is taken over, whether or not
// somebody has waited for that member; while its holder lives the others wait.
func locked([]string) {
	a, b, err := pvm.Pair()
	if err != nil {
		cases.Die(err)
	}
	pattern := []byte("what lies at the beginning of the ring")
	a.Write(pattern)
	m := must(pvm.Share(400_000))
	ring := findRing(unsafe.Pointer(&m.Bytes()[0]), pattern)
	got := make([]byte, len(pattern))
	const writer, reader = 1, 16 + 1 // words of the head
	dead, waited, alive := fork(func() {}), fork(func() {}), fork(func() { time.Sleep(time.Hour) })
	wait(waited, 0)
	for _, pid := range []int{dead, waited, 1 << 30} {
		word(ring, reader).Store(uint32(pid))
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, pattern) {
			cases.Die(string(got), err)
		}
		word(ring, writer).Store(uint32(pid))
		if _, err := a.Write(pattern); err != nil {
			cases.Die(err)
		}
	}
	word(ring, reader).Store(uint32(alive))
	b.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, err := b.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		cases.Die("read", n, err, "while a member that lives has the lock")
	}
	b.SetReadDeadline(time.Time{})
	go pvm.Signal(alive, syscall.SIGKILL)
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, pattern) {
		cases.Die(string(got), err)
	}
	fmt.Println("done")
}

// forged: a member writes anything into the memory behind a pair and into what the library
// OS keeps of shared memory. The other gets data or errors there, ends what it began, and
// all else works.
func forged([]string) {
	a, b, err := pvm.Pair()
	if err != nil {
		cases.Die(err)
	}
	pattern := []byte("what lies at the beginning of the ring")
	if _, err := a.Write(pattern); err != nil {
		cases.Die(err)
	}
	m := must(pvm.Share(400_000)) // of about the size of a pair, so it lies beside it
	good := must(pvm.NewQueue())
	stop := must(pvm.Share(8))
	head := unsafe.Pointer(&m.Bytes()[0])
	ring := findRing(head, pattern)
	got := make([]byte, len(pattern))
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, pattern) {
		cases.Die(got, err)
	}
	pid := fork(func() {
		for stop.Uint32(0).Load() == 0 {
			w := word(ring, rand.IntN(160))
			if rand.IntN(8) == 0 {
				w = word(unsafe.Add(head, -128), rand.IntN(32))
			}
			switch rand.IntN(5) {
			case 0:
				w.Store(rand.Uint32())
			case 1:
				w.Add(rand.Uint32N(1 << 17))
			case 2:
				w.Store(1 << 31)
			default:
				w.Store(0)
			}
			if rand.IntN(100) == 0 { // which rings, whatever it finds
				a.SetWriteDeadline(time.Now().Add(time.Millisecond))
				b.SetWriteDeadline(time.Now().Add(time.Millisecond))
				a.Write(pattern[:1])
				b.Write(pattern[:1])
			}
		}
	})
	healthy := fork(func() {
		for i := 0; stop.Uint32(0).Load() == 0; i++ {
			if err := good.Send(fmt.Append(nil, i)); err != nil {
				cases.Die(err)
			}
			if i%50 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		good.Send([]byte("end"))
	})
	var wg sync.WaitGroup
	for i, f := range []*os.File{a, b} {
		wg.Go(func() {
			p := make([]byte, 1+i*80<<10)
			for stop.Uint32(0).Load() == 0 {
				f.SetDeadline(time.Now().Add(5 * time.Millisecond))
				f.Read(p)
				f.Write(p)
			}
		})
	}
	wg.Go(func() {
		for stop.Uint32(0).Load() == 0 {
			if err := m.Wake(); err != nil {
				cases.Die(err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	wg.Go(func() {
		time.Sleep(500 * time.Millisecond)
		stop.Uint32(0).Store(1)
	})
	for i := 0; ; i++ {
		p := make([]byte, 20)
		n, err := good.Receive(p)
		if err != nil {
			cases.Die(err)
		}
		if string(p[:n]) == "end" && i > 0 {
			break
		}
		if string(p[:n]) != fmt.Sprint(i) {
			cases.Die("message", i, "is", string(p[:n]))
		}
	}
	wg.Wait()
	a.Close()
	b.Close()
	wait(pid, 0)
	wait(healthy, 0)
	fmt.Println("done")
}

// files: the ends of a pair are files like any others.
func pairFiles([]string) {
	a, b, err := pvm.Pair()
	if err != nil {
		cases.Die(err)
	}
	p := make([]byte, 1<<20)
	a.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := a.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		cases.Die("read:", err)
	}
	a.SetReadDeadline(time.Time{})
	a.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	n, err := a.Write(p)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n < 64<<10 || n > 512<<10 {
		cases.Die("write:", n, err)
	}
	a.SetWriteDeadline(time.Time{})
	wrote := make(chan error)
	go func() {
		_, err := a.Write(p[:300<<10])
		wrote <- err
	}()
	if _, err := io.ReadFull(b, p[:n+300<<10]); err != nil {
		cases.Die(err)
	}
	if err := <-wrote; err != nil {
		cases.Die(err)
	}
	// A close ends what is blocked, here and at the other end.
	for _, f := range []*os.File{a, b} {
		go func() {
			_, err := f.Read(make([]byte, 1))
			wrote <- err
		}()
	}
	time.Sleep(10 * time.Millisecond)
	a.Close()
	if x, y := <-wrote, <-wrote; !errors.Is(x, os.ErrClosed) && !errors.Is(y, os.ErrClosed) || x != io.EOF && y != io.EOF {
		cases.Die(x, y)
	}
	if _, err := b.Write(p[:1]); !errors.Is(err, syscall.EPIPE) {
		cases.Die("a write to nobody:", err)
	}
	b.Close()
	// A pipe is one, as that of os.Pipe: for one direction.
	r, w, err := pvm.Pipe()
	if err != nil {
		cases.Die(err)
	}
	w.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := w.Read(p[:1]); !errors.Is(err, syscall.EBADF) {
		cases.Die("read of the end that writes:", err)
	}
	if _, err := r.Write(p[:1]); !errors.Is(err, syscall.EBADF) {
		cases.Die("write to the end that reads:", err)
	}
	if st, err := r.Stat(); err != nil || st.Mode().Type() != os.ModeNamedPipe {
		cases.Die("stat:", st.Mode(), err)
	}
	// A wait is for a number in shared memory.
	m, err := pvm.Share(64)
	if err != nil {
		cases.Die(err)
	}
	if err := m.Wait(new(atomic.Uint32), 0); !errors.Is(err, syscall.EINVAL) {
		cases.Die("wait for a number elsewhere:", err)
	}
	if err := m.Wait(m.Uint32(60), 1); err != nil {
		cases.Die(err)
	}
	// In blocking mode, as a program without os.File has it.
	x, y, err := pvm.Pair()
	if err != nil {
		cases.Die(err)
	}
	fd, fd2 := int(x.Fd()), int(y.Fd())
	syscall.SetNonblock(fd, false)
	syscall.SetNonblock(fd2, false)
	go func() {
		time.Sleep(5 * time.Millisecond)
		syscall.Write(fd2, p[:200<<10])
		y.Close()
	}()
	for total := 0; ; total += n {
		if n, err = syscall.Read(fd, p); err != nil {
			cases.Die(err)
		}
		if n == 0 {
			if total != 200<<10 {
				cases.Die("read", total)
			}
			break
		}
	}
	x.Close()
	// Many, and each is given back.
	for range 3000 {
		x, y, err := pvm.Pair()
		if err != nil {
			cases.Die(err)
		}
		x.Write(p[:10])
		x.Close()
		y.Close()
	}
	fmt.Println("done")
}

// idlePairs waits for ever, for each kind of thing that members share.
func idlePairs([]string) {
	a, b, err := pvm.Pair()
	if err != nil {
		cases.Die(err)
	}
	q, m := must(pvm.NewQueue()), must(pvm.Share(8))
	end := a
	if must(pvm.Fork()) == 0 {
		end = b
	}
	go q.Receive(make([]byte, 1))
	go m.Wait(m.Uint32(0), 0)
	go end.Write(make([]byte, 1<<20))
	time.AfterFunc(20*time.Millisecond, func() { fmt.Println("ready") })
	select {}
}

// little: a writer that waits for room goes on when there is enough for what is left, however
// little was read, in another member and in its own.
func little([]string) {
	for _, forks := range []bool{false, true} {
		r, w, err := pvm.Pipe()
		if err != nil {
			cases.Die(err)
		}
		q := must(pvm.NewQueue())
		const more = 16 << 10
		p := make([]byte, 1<<20)
		w.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		full, err := w.Write(p) // the room that there is
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			cases.Die("full:", err)
		}
		w.SetWriteDeadline(time.Time{})
		write := func() {
			if _, err := w.Write(p[:more]); err != nil {
				cases.Die(err)
			}
			if err := q.Send([]byte("written")); err != nil {
				cases.Die(err)
			}
		}
		pid := 0
		if forks {
			pid = fork(write)
		} else {
			go write()
		}
		time.Sleep(20 * time.Millisecond) // it sleeps
		if _, err := io.ReadFull(r, p[:2*more]); err != nil {
			cases.Die(err)
		}
		if n, err := q.Receive(p); err != nil || string(p[:n]) != "written" {
			cases.Die(n, err)
		}
		if _, err := io.ReadFull(r, p[:full-more]); err != nil {
			cases.Die(err)
		}
		if forks {
			wait(pid, 0)
		}
	}
	fmt.Println("done")
}

// turns has two members change a number by turns, after a line of standard input. Then
// they stay, so that they can be looked at.
func turns(args []string) {
	n, m := 2*uint32(number(args[0])), must(pvm.Share(8))
	v := m.Uint32(0)
	until := func(want uint32) {
		for x := v.Load(); x != want; x = v.Load() {
			if err := m.Wait(v, x); err != nil {
				cases.Die(err)
			}
		}
	}
	play := func(mine uint32) {
		for i := mine; i < n; i += 2 {
			until(i)
			v.Store(i + 1)
			if err := m.Wake(); err != nil {
				cases.Die(err)
			}
		}
	}
	fork(func() { play(1); until(n + 1) })
	fmt.Println("ready")
	must(bufio.NewReader(os.Stdin).ReadString('\n'))
	play(0)
	until(n)
	fmt.Println("done")
	until(n + 1)
}

// rung: members are rung more often than there is room for in a connection, and take no byte
// out since they read what was announced and no more, or wait for something else that is in
// the same memory. The last ring counts as the first.
func rung([]string) {
	const times = 600
	r, w, err := pvm.Pipe()
	if err != nil {
		cases.Die(err)
	}
	m := must(pvm.Share(128))
	late, other := m.Uint32(0), m.Uint32(64)
	polls := fork(func() {
		w.Close()
		fd, b := int(r.Fd()), make([]byte, times)
		for got := 0; got < times; {
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != nil || n != 1 {
				cases.Die("poll", n, err)
			}
			got += must(unix.Read(fd, b))
		}
	})
	waits := fork(func() {
		if err := m.Wait(late, 0); err != nil {
			cases.Die(err)
		}
	})
	for range times {
		w.Write([]byte("x"))
		other.Add(1)
		m.Wake()
		time.Sleep(time.Millisecond) // so that they sleep
	}
	late.Store(1)
	m.Wake()
	lost := time.AfterFunc(20*time.Second, func() { cases.Die("a ring is lost") })
	wait(polls, 0)
	wait(waits, 0)
	lost.Stop()
	fmt.Println("done")
}

// many: a pVM makes as many pairs as it gets, hears why there are no more, and closes all at once,
// with nothing else to do. Then it gets as many again.
func many([]string) {
	count := 0
	for round := range 2 {
		var ends []*os.File
		for {
			a, b, err := pvm.Pair()
			if errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EMFILE) {
				break
			} else if err != nil || len(ends) > 40_000 {
				cases.Die(len(ends)/2, "pairs:", err)
			}
			ends = append(ends, a, b)
		}
		for _, f := range ends {
			if err := f.Close(); err != nil {
				cases.Die(err)
			}
		}
		if round > 0 && len(ends) < count {
			cases.Die(count/2, "pairs, and then", len(ends)/2)
		}
		count = len(ends)
	}
	fmt.Println("done")
}
