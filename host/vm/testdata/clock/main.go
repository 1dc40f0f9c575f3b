// Clock is the guest of TestStopped: for each line on its standard input it prints the
// nanoseconds since its start and since the Unix epoch.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

func main() {
	begin := time.Now()
	in := bufio.NewScanner(os.Stdin)
	fmt.Println(0, 0)
	for in.Scan() {
		now := time.Now()
		fmt.Println(now.Sub(begin).Nanoseconds(), now.UnixNano())
	}
}
