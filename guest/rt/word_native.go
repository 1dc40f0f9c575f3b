//go:build !noyau

package rt

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// words are those that a goroutine looks at, every now and then. It says that it sleeps
// too, so that who changes a word rings; but it does not need to be rung for.
var words struct {
	sync.Mutex
	m       map[*Word]chan struct{}
	looking bool
}

// Await and the others are described in rt.go.
func Await(w *Word, old uint32) { await(w, old, nil) }

func await(w *Word, old uint32, done chan struct{}) {
	words.Lock()
	defer words.Unlock()
	if words.m == nil {
		words.m = make(map[*Word]chan struct{})
	}
	w.old = old
	if w.armed {
		return
	}
	w.armed = true
	words.m[w] = done
	if !words.looking {
		words.looking = true
		go look()
	}
	b := (*Bell)(nativeAt(w.Bell))
	n := b.flag.Load()
	b.flag.CompareAndSwap(n, (n>>32+1)<<32|1)
}

func ForgetWord(w *Word) {
	words.Lock()
	delete(words.m, w)
	w.armed = false
	words.Unlock()
}

func ParkWord(w *Word, old uint32) {
	done := make(chan struct{})
	await(w, old, done)
	<-done
}

func nativeAt(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

func look() {
	for {
		words.Lock()
		if len(words.m) == 0 {
			words.looking = false
			words.Unlock()
			return
		}
		for w, done := range words.m {
			if atomic.LoadUint32((*uint32)(nativeAt(w.At))) == w.old {
				continue
			}
			delete(words.m, w)
			w.armed = false
			if done != nil {
				close(done)
				continue
			}
			poll.Lock()
			var pd PD
			var notify func(uint32)
			if s := poll.sources[w.Handle]; s != nil {
				if pd = s.PD; s.Slow {
					notify = s.Notify
				}
			}
			poll.Unlock()
			if pd != 0 {
				Ready(pd, w.Events)
			}
			if notify != nil {
				go notify(w.Events)
			}
		}
		words.Unlock()
		time.Sleep(20 * time.Microsecond)
	}
}
