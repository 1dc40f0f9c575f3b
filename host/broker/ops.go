package broker

import (
	"golang.org/x/sys/unix"

	"noyau.dev/abi"
)

// An op is how one request is answered.
type op struct {
	do func(*request) (reply, error)
	// waits: do runs on a goroutine of its own, since it may take long.
	waits bool
	// wait is run on a goroutine of its own if do returns errLater.
	wait func(*request) (reply, error)
}

var ops [abi.OpLast + 1]op

func init() {
	ops = [abi.OpLast + 1]op{
		abi.OpListen:  {do: doListen},
		abi.OpConnect: {do: doConnect, waits: true},
		abi.OpUDP:     {do: doUDP},
		abi.OpSendTo:  {do: doSendTo},
		abi.OpSockopt: {do: doSockopt},
		abi.OpShut:    {do: doShut},
		abi.OpDrop:    {do: doDrop},

		abi.OpOpen:     {do: doOpen},
		abi.OpStat:     {do: doStat},
		abi.OpFstat:    {do: doFstat},
		abi.OpReadDir:  {do: doReadDir},
		abi.OpMkdir:    {do: doMkdir},
		abi.OpUnlink:   {do: doUnlink},
		abi.OpRename:   {do: doRename},
		abi.OpLink:     {do: doLink},
		abi.OpSymlink:  {do: doSymlink},
		abi.OpReadlink: {do: doReadlink},
		abi.OpChmod:    {do: doChmod},
		abi.OpChown:    {do: doChown},
		abi.OpTruncate: {do: doTruncate},
		abi.OpTimes:    {do: doTimes},
		abi.OpSync:     {do: doSync, waits: true},
		abi.OpFlock:    {do: doFlock, wait: waitFlock},
		abi.OpLock:     {do: doLock, wait: waitLock},
		abi.OpStatfs:   {do: doStatfs},
		abi.OpFalloc:   {do: doFalloc, waits: true},
		abi.OpAccess:   {do: doAccess},
		abi.OpMknod:    {do: doMknod},

		abi.OpKilled:  {do: doKilled},
		abi.OpTermGet: {do: doTermGet},
		abi.OpTermSet: {do: doTermSet, waits: true},

		abi.OpFork:   {do: doFork, wait: waitFork},
		abi.OpForked: {do: doForked},
		abi.OpWait:   {do: doWait, waits: true},
		abi.OpKill:   {do: doKill, waits: true},
		abi.OpPair:   {do: doPair},
		abi.OpShare:  {do: doShare},

		abi.OpSnapshot:    {do: doSnapshot},
		abi.OpSnapshotted: {do: doSnapshotted},
		abi.OpReopen:      {do: doReopen},
		abi.OpKeep:        {do: doKeep},
		abi.OpRejoin:      {do: doRejoin},
		abi.OpUnshare:     {do: doUnshare},

		abi.OpExecNew:   {do: doExecNew},
		abi.OpExecText:  {do: doExecText},
		abi.OpExecFile:  {do: doExecFile},
		abi.OpExecStart: {do: doExecStart, wait: waitExecStart},
		abi.OpExecDrop:  {do: doExecDrop},

		abi.OpNameListen: {do: doNameListen},
		abi.OpNameDial:   {do: doNameDial, wait: waitNameDial},
		abi.OpNarrow:     {do: doNarrow, waits: true},

		abi.OpSignalLink:   {do: doSignalLink},
		abi.OpSignalUnlink: {do: doSignalUnlink},

		abi.OpGroup: {do: doGroup},
	}
}

// doDrop forgets a handle. With handle 0 it gives up the waiting request A.
func doDrop(r *request) (reply, error) {
	if r.msg.Handle != 0 {
		r.b.table.drop(r.msg.Handle)
	} else if id, err := small(r.msg.A); err == nil && id != 0 {
		r.b.inflight.cancel(id)
	}
	return reply{}, errNoReply
}

// doKilled notes the signal that the guest is about to end by.
func doKilled(r *request) (reply, error) {
	if r.msg.A >= 1 && r.msg.A <= 64 {
		r.b.killedBy.Store(r.msg.A)
	}
	return reply{}, errNoReply
}

const maxSlow = 8 // threads that one pVM may block at once

// slowCalls bounds the threads that all pVMs together may block, well below the
// Go runtime's own limit, at which it would end the process.
var slowCalls = make(chan struct{}, 1024)

// slow runs f, which may hold a thread for long, when there is a place.
func (r *request) slow(f func() error) error {
	for _, sem := range []chan struct{}{r.b.slow, slowCalls} {
		select {
		case sem <- struct{}{}:
			defer func() { <-sem }()
		case <-r.ctx.Done():
			return unix.EINTR
		}
	}
	return f()
}
