package monitor

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMailboxAlive asks whether a standby lives while the thread that asks gets signals, as
// those of the Go runtime are.
func TestMailboxAlive(t *testing.T) {
	ours, its, err := MailboxPair()
	if err != nil {
		t.Fatal(err)
	}
	m := NewMailbox(ours)
	defer m.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, stop, done := unix.Gettid(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			}
		}
	}()
	for n := range 100_000 {
		if !m.Alive() {
			t.Errorf("look %d: dead, but it waits", n)
			break
		}
	}
	close(stop)
	<-done
	its.Close()
	if m.Alive() {
		t.Error("alive, but its end is closed")
	}
}
