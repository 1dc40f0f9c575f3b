// Restore loads as many MB as its argument says, and prints a line when it finds that it
// was made of a snapshot: its host name is another.
package main

import (
	"fmt"
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
	first, _ := os.Hostname()
	fmt.Println("ready")
	for {
		if h, _ := os.Hostname(); h != first {
			break
		}
		runtime.Gosched()
	}
	fmt.Println("restored")
	time.Sleep(time.Hour)
	runtime.KeepAlive(block)
}
