package event

import (
	"sync"

	"noyau.dev/guest/kernel"
	"noyau.dev/guest/linux"
	"noyau.dev/guest/rt"
)

// An epoll is an epoll instance.
//
// Lock order: the queue of a watched file, then mu. So nothing here touches
// another file's queue, or asks another file's Ready, while holding mu.
type epoll struct {
	kernel.Base
	queue kernel.WaitQueue
	ctl   sync.Mutex // one epoll_ctl at a time; before every other lock

	mu    sync.Mutex
	items map[key]*item
	ready []*item // candidates: Ready is asked when they are harvested
}

// key is what epoll means by "the same entry": a description under a number.
type key struct {
	fd   int32
	desc *kernel.Desc
}

type item struct {
	kernel.Watcher
	ep   *epoll
	key  key
	ev   linux.EpollEvent // events and data as the app gave them
	in   bool             // in ep.ready
	gone bool
}

// Wake puts the item among the candidates. The watched file's queue is locked.
func (it *item) Wake(uint32) {
	it.ep.mu.Lock()
	if !it.in && !it.gone {
		it.in = true
		it.ep.ready = append(it.ep.ready, it)
	}
	it.ep.mu.Unlock()
	it.ep.queue.Notify(rt.In)
}

// now is what is ready of what the item asks for. mu is not held.
func (it *item) now(asked uint32) uint32 {
	ev := it.key.desc.Ready()
	if ev&rt.In != 0 {
		ev |= linux.EPOLLRDNORM
	}
	if ev&rt.Out != 0 {
		ev |= linux.EPOLLWRNORM
	}
	return ev & (asked | kernel.Always)
}

const bits = linux.EPOLLET | linux.EPOLLONESHOT | linux.EPOLLWAKEUP | linux.EPOLLEXCLUSIVE

// disabled reports whether a one-shot has fired.
func (it *item) disabled() bool {
	return it.ev.Events&^bits == 0 && it.ev.Events&linux.EPOLLONESHOT != 0
}

// interest is the watcher's mask for the app's events.
func interest(events uint32) uint32 {
	m := events &^ bits
	if m&linux.EPOLLRDNORM != 0 {
		m |= rt.In
	}
	if m&linux.EPOLLWRNORM != 0 {
		m |= rt.Out
	}
	return m
}

// harvest moves ready items into out.
func (ep *epoll) harvest(out []linux.EpollEvent) int {
	ep.mu.Lock()
	list := ep.ready
	ep.ready = nil
	for _, it := range list {
		it.in = false
	}
	ep.mu.Unlock()
	n := 0
	for i, it := range list {
		if n == len(out) {
			ep.again(list[i:])
			break
		}
		ep.mu.Lock()
		ev, skip := it.ev, it.gone || it.disabled()
		ep.mu.Unlock()
		if skip {
			continue
		}
		got := it.now(ev.Events)
		if got == 0 {
			continue
		}
		out[n] = linux.EpollEvent{Events: got, Data: ev.Data}
		n++
		switch {
		case ev.Events&linux.EPOLLONESHOT != 0:
			ep.mu.Lock()
			if it.ev == ev {
				it.ev.Events &= bits
			}
			ep.mu.Unlock()
		case ev.Events&linux.EPOLLET == 0:
			ep.again(list[i : i+1])
		}
	}
	return n
}

// again makes items candidates once more.
func (ep *epoll) again(items []*item) {
	ep.mu.Lock()
	for _, it := range items {
		if !it.in && !it.gone {
			it.in = true
			ep.ready = append(ep.ready, it)
		}
	}
	ep.mu.Unlock()
}

// Ready asks the candidates, and forgets those that are ready no more.
func (ep *epoll) Ready() uint32 {
	ep.mu.Lock()
	list := append([]*item(nil), ep.ready...)
	ep.mu.Unlock()
	for _, it := range list {
		ep.mu.Lock()
		asked, skip := it.ev.Events, it.gone || it.disabled()
		ep.mu.Unlock()
		if !skip && it.now(asked) != 0 {
			return rt.In
		}
	}
	return 0
}

func (ep *epoll) Queue() *kernel.WaitQueue { return &ep.queue }

// Release forgets all items.
func (ep *epoll) Release() {
	ep.ctl.Lock()
	defer ep.ctl.Unlock()
	ep.mu.Lock()
	items := ep.items
	ep.items, ep.ready = nil, nil
	for _, it := range items {
		it.gone = true
	}
	ep.mu.Unlock()
	for _, it := range items {
		it.key.desc.SetHook(it, nil)
		it.key.desc.Queue().Remove(&it.Watcher)
	}
}

// remove forgets one item.
func (ep *epoll) remove(it *item) {
	ep.mu.Lock()
	it.gone = true
	if ep.items[it.key] == it {
		delete(ep.items, it.key)
	}
	ep.mu.Unlock()
	it.key.desc.Queue().Remove(&it.Watcher)
}

// reaches reports whether an epoll instance is, or watches, target, and how
// deep its nesting is.
func (ep *epoll) reaches(target *epoll, depth int) bool {
	if ep == target || depth > 4 {
		return true
	}
	ep.mu.Lock()
	var inner []*epoll
	for k := range ep.items {
		if e, ok := k.desc.File.(*epoll); ok {
			inner = append(inner, e)
		}
	}
	ep.mu.Unlock()
	for _, e := range inner {
		if e.reaches(target, depth+1) {
			return true
		}
	}
	return false
}
