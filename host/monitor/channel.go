package monitor

import (
	"errors"
	"fmt"
	"strings"

	"noyau.dev/host/broker"
)

// A Channel lets the family talk to another one of the same user, over unix sockets: the
// app listens at or dials "@noyau/NAME". It takes two: one family that may listen and one
// that may dial.
type Channel struct {
	Name   string
	Listen bool // else it may dial
}

// ParseChannel reads NAME=listen or NAME=dial.
func ParseChannel(s string) (Channel, error) {
	name, what, _ := strings.Cut(s, "=")
	if what != "listen" && what != "dial" || !broker.CheckChannel(name) {
		return Channel{}, fmt.Errorf("channel %q: want NAME=listen or NAME=dial; a name has up to 64 letters, digits, and - _ . not at the beginning", s)
	}
	return Channel{name, what == "listen"}, nil
}

// sockets are the names of unix sockets of the family, nil if it has none.
func (c *Config) sockets() (*broker.Sockets, error) {
	if !c.hasFamily() && len(c.Channels) == 0 {
		return nil, nil
	}
	s := &broker.Sockets{}
	if len(c.Channels) == 0 {
		return s, nil
	}
	if c.ChannelDir == "" {
		return nil, errors.New("channels are granted, and there is no directory for them")
	}
	s.Channels = &broker.Channels{Dir: c.ChannelDir, Listen: map[string]bool{}, Dial: map[string]bool{}}
	for _, ch := range c.Channels {
		if !broker.CheckChannel(ch.Name) {
			return nil, fmt.Errorf("channel %q: that is no name for one", ch.Name)
		}
		if ch.Listen {
			s.Channels.Listen[ch.Name] = true
		} else {
			s.Channels.Dial[ch.Name] = true
		}
	}
	return s, nil
}
