// Package sock is the sockets brick of the library OS: TCP and UDP over
// loopback in memory, unix sockets, routing netlink, and TCP and UDP to the
// outside by handles of the monitor. It is linked if the program can make
// sockets.
//
// A connection inside the pVM is two halves (half.go), a listener a queue of
// connections (stream.go), a datagram socket a queue of segments (dgram.go),
// and what lies outside a hostSock (host.go). Names are in tables of ports
// (port.go) and of unix names (unix.go).
//
// # Locks
//
// netMu guards everything that connects sockets; each half and each datagram
// queue has a mutex for its data. The order is netMu, then those; no two halves
// are locked at once. Nothing is notified, no description released and no
// request made under any of them.
//
// # Why no wake-up is lost
//
// A waiter is a goroutine in the runtime's poller, a blocked call or an epoll
// instance. All follow one protocol: announce yourself (a registration with the
// poller, an entry in the wait queue), then look (try the call, ask Ready), and
// only then sleep. All that change a state follow the other half: change it
// under its mutex, unlock, then notify. So whoever looks before the change has
// announced itself before the notification, which wakes it or, if it does not
// sleep yet, leaves a mark that it finds (the poller's "ready", the parker's
// token). Whoever looks after the change needs no notification.
//
// What is left is to notify at each change that somebody may wait for:
//
//   - data, FIN or reset put into a half: its reader, always, not only when the
//     half was empty;
//   - room made in a half: its writer, if full is set. full is set under the
//     half's mutex by whoever saw too little room there (a write that got EAGAIN
//     or took a part, a Ready without Out), and cleared by the reader that
//     notifies. A reader that leaves too little room leaves full set, and the
//     reader that takes the rest will find it: an empty half has room;
//   - a reader that closes: its writer, always;
//   - a connection put into a listener's queue: the listener, always;
//   - a place in that queue: the oldest connector that waits is let in by the
//     accept that made the place, and notified. A connector waits only if the
//     queue is full under netMu, so an accept is to come, or a close, which
//     refuses all;
//   - a datagram: its receiver; room for unix datagrams: all senders that
//     entered blocked under the mutex, where the receiver takes the list;
//   - the answer to a dial: the socket, after its state; a registration with the
//     poller that came before has been copied to the host's source before that
//     source is watched (attach, under netMu, as AttachPD is);
//   - events of the host: see hostSock.
//
// The pVM is one thread, but goroutines are preempted anywhere, so the argument
// makes no use of that; the tests run on several threads.
package sock
