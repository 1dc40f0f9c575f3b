package sock

import (
	"strconv"

	"noyau.dev/guest/linux"
)

// The files of /proc/net that programs read: what interfaces, routes and
// multicast groups there are, and the sockets.
func procNet() map[string]func() []byte {
	text := func(s string) func() []byte { return func() []byte { return []byte(s) } }
	return map[string]func() []byte{
		"dev": text("Inter-|   Receive                                                |  Transmit\n" +
			" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
			"    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n" +
			"  eth0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n"),
		"route": text("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
			"eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
			"eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"),
		"if_inet6": text("00000000000000000000000000000001 01 80 10 80       lo\n" +
			"fd000000000000000000000000000015 02 40 00 80     eth0\n"),
		"igmp": text("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n" +
			"1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
			"2\teth0      :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"),
		"igmp6": text("1    lo              ff020000000000000000000000000001     1 0000000C 0\n" +
			"2    eth0            ff020000000000000000000000000001     1 0000000C 0\n"),
		"tcp":  func() []byte { return table(&tcpPorts, linux.AF_INET) },
		"tcp6": func() []byte { return table(&tcpPorts, linux.AF_INET6) },
		"udp":  func() []byte { return table(&udpPorts, linux.AF_INET) },
		"udp6": func() []byte { return table(&udpPorts, linux.AF_INET6) },
	}
}

// table lists the bound sockets of a family: accepted connections are only
// counted in the table of ports, and so are missing.
func table(t *portTable, family uint16) []byte {
	b := []byte("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n")
	netMu.Lock()
	defer netMu.Unlock()
	n := 0
	for _, p := range t.ports {
		for s := p.head; s != nil; s = s.nextPort {
			if s.family != family {
				continue
			}
			b = append(strconv.AppendInt(append(b, "   "...), int64(n), 10), ": "...)
			b = append(appendHex(b, family, &s.local), ' ')
			b = appendHex(b, family, &s.peer)
			state := " 07" // closed, and what UDP shows
			switch s.st.Load() {
			case stConnected:
				state = " 01"
			case stListen:
				state = " 0A"
			case stConnecting:
				state = " 02"
			}
			b = append(b, state...)
			b = append(b, " 00000000:00000000 00:00000000 00000000     0        0 "...)
			b = append(strconv.AppendUint(b, s.ino, 10), '\n')
			n++
		}
	}
	return b
}

// appendHex writes an address as /proc/net has it: words in host byte order.
func appendHex(b []byte, family uint16, a *addr) []byte {
	const hex = "0123456789ABCDEF"
	ip := a.ip[:]
	if family == linux.AF_INET {
		ip = ip[12:]
	}
	for ; len(ip) > 0; ip = ip[4:] {
		for i := 3; i >= 0; i-- {
			b = append(b, hex[ip[i]>>4], hex[ip[i]&15])
		}
	}
	return append(b, ':', hex[a.port>>12], hex[a.port>>8&15], hex[a.port>>4&15], hex[a.port&15])
}
