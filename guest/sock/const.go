package sock

// Numbers beside those of package linux.
const (
	typMask     = 0xf
	protoRaw    = 255
	solNetlink  = 270
	maxDgram    = 65507 // bytes of a UDP datagram
	maxUnixPath = 108
	maxRights   = 253 // descriptors in one message
	maxIov      = 1024
	maxGather   = 1 << 20 // bytes that one sendmsg or recvmsg with several buffers moves

	defSndbuf = 212992
	defRcvbuf = 212992
	maxBuf    = 8 << 20 // what SO_SNDBUF and SO_RCVBUF are cut to
	minBuf    = 4608

	portLow  = 32768 // the ephemeral range, as Linux has it
	portHigh = 60999

	sizeofIn  = 16
	sizeofIn6 = 28
)

// Options that package linux does not name.
const (
	soRxqOvfl       = 40
	soBusyPoll      = 46
	soCookie        = 57
	ipFreebind      = 15
	ipBindNoPort    = 24
	ipv6MTUDiscover = 23
	ipv6MTU         = 24
	ipv6RecvErr     = 25
	tcpWindowClamp  = 10
	tcpNotsentLowat = 25
)
