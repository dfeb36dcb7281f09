package node

import (
	"fmt"
	"strings"
	"time"
)

const (
	// minRoomTTL and maxRoomTTL bound how long rooms are kept in which nobody is.
	minRoomTTL = time.Second
	maxRoomTTL = 30 * 24 * time.Hour
	// maxAPIToken bounds the token of the rooms' HTTP API, in bytes.
	maxAPIToken = 512
)

// roomsSettings are those of relay rooms.
func roomsSettings() []Setting {
	return []Setting{
		{Name: "rooms-max-clients", Default: "100", Argument: "NUMBER",
			Help: "what all relay rooms of the fleet may commit: the sum of their max_clients, each rounded up to a multiple of 5; the same on all nodes",
			set:  func(c *Config, v string) error { return setInt(&c.RoomsMaxClients, v, maxCount) }},
		{Name: "room-ttl", Default: "1h", Argument: "DURATION",
			Help: "how long a relay room is kept in which nobody is; from 1s to 720h, the same on all nodes",
			set: func(c *Config, v string) error {
				d, err := time.ParseDuration(v)
				if err != nil || d < minRoomTTL || d > maxRoomTTL {
					return fmt.Errorf("want a duration from %s to %s such as 1h", minRoomTTL, maxRoomTTL)
				}
				c.RoomTTL = d
				return nil
			}},
		{Name: "rooms-api-token", Argument: "TOKEN", Secret: true,
			Help: "who makes, lists and closes relay rooms over HTTP has to send it as Authorization: Bearer TOKEN; at least 16 visible ASCII characters. Empty: anybody may",
			set: func(c *Config, v string) error {
				if v != "" && (len(v) < minSecret || len(v) > maxAPIToken || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' })) {
					return fmt.Errorf("want %d to %d visible ASCII characters", minSecret, maxAPIToken)
				}
				c.RoomsAPIToken = v
				return nil
			}},
	}
}
