package runtime

// A note is a one-time event that one goroutine may wait for. See lock_noyau.go.
type note struct {
	key  uintptr
	gp   guintptr
	next uintptr // *note: see noteWaiters
}
