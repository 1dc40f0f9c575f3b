// Command hello says hello, and where it runs.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	name := "world"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	host, err := os.Hostname()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
	fmt.Printf("Hello, %s! I am process %d on %s, built with %s.\n", name, os.Getpid(), host, runtime.Version())
}
