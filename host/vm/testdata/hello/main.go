// Command hello says what it was given.
package main

import (
	"os"
	"strings"
)

func main() {
	os.Stdout.WriteString("hello " + strings.Join(os.Args[1:], " ") + " " + os.Getenv("WHO") + "\n")
}
