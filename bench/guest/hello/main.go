// Command hello prints one line and ends: what is measured is everything around it.
package main

import "fmt"

func main() { fmt.Println("hello") }
