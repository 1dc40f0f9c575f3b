// Guest is what the tests of package fork run as a pVM: its first argument says what.
package main

import (
	"fmt"
	"os"
	"time"

	"noyau.dev/pvm"
)

func main() {
	t := time.Now()
	pid, err := pvm.Fork()
	if err != nil {
		fmt.Println("fork:", err)
		os.Exit(1)
	}
	if pid == 0 {
		h, _ := os.Hostname()
		fmt.Println("child", os.Getpid(), os.Getppid(), h, time.Since(t))
		os.Exit(7)
	}
	fmt.Println("parent", os.Getpid(), "of", pid, time.Since(t))
	s, err := pvm.Wait(pid)
	fmt.Println("waited", s.ExitStatus(), err)
}
