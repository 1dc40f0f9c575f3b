//go:build noyau_bricks

package syscall

// The build adds the tag for programs that make calls of any number in assembly, which it
// sends to noyauNoError.
func init() { noyauAny() }
