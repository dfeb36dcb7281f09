package node

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"parley/pkg/protocol/chat"
	"parley/pkg/sqlstore"
)

const (
	// defaultRooms are those that the protocol's first clients know.
	defaultRooms = "beast=Boost.Beast,async=Boost.Async,db=Database connectors,wasm=Web assembly"
	// maxRooms bounds the rooms: a node keeps a page of each in memory, and each is
	// part of every greeting. maxRoomID is in bytes, maxRoomName in characters.
	maxRooms    = 100
	maxRoomID   = 64
	maxRoomName = 100
	// maxRoomLength bounds the messages of a room that stay in Redis.
	maxRoomLength = 10_000_000
)

// chatSettings are those of accounts and of the chat.
func chatSettings() []Setting {
	return []Setting{
		{Name: "database-url", Argument: "URL",
			Help: "accounts and what chat archives: mysql://user:password@host:port/database[?tls=true] (MariaDB or MySQL; one for the whole fleet) or sqlite:path (a file, for the nodes of one machine that share a Redis, or for one node alone). Empty with the Redis inside the process: parley/parley.db in the user's data directory. Empty with --redis-url: no accounts, and chat answers 503",
			set: func(c *Config, v string) error {
				if v != "" {
					if err := sqlstore.CheckURL(v); err != nil {
						return err
					}
				}
				c.DatabaseURL = v
				return nil
			}},
		{Name: "chat-rooms", Default: defaultRooms, Argument: "LIST",
			Help: "the rooms of the chat as id=name, in their order, separated by commas; the same on all nodes",
			set:  func(c *Config, v string) (err error) { c.ChatRooms, err = parseRooms(v); return err }},
		{Name: "chat-room-length", Default: "10000", Argument: "NUMBER",
			Help: "how many of the newest messages of a room stay in Redis; older ones are moved to the database; with the Redis inside the process all are, within a second or two. When that takes none, a room holds ten times as many, at least 10000, and then takes no more. At least 1; the same on all nodes",
			set: func(c *Config, v string) error {
				n, err := strconv.Atoi(v)
				if err != nil || n < 1 || n > maxRoomLength {
					return fmt.Errorf("want a whole number from 1 to %d", maxRoomLength)
				}
				c.ChatRoomLength = n
				return nil
			}},
		{Name: "login-failures-per-account", Default: "10", Argument: "NUMBER",
			Help: "wrong passwords for one email within 5 minutes, after which nobody can log in with it for the rest of them",
			set:  func(c *Config, v string) error { return setInt(&c.LoginFailuresPerAccount, v, maxCount) }},
		{Name: "login-failures-per-address", Default: "100", Argument: "NUMBER",
			Help: "failed logins from one address (IPv6: one /64 network) within 5 minutes, after which it cannot log in for the rest of them; behind a balancer set --trusted-proxies too",
			set:  func(c *Config, v string) error { return setInt(&c.LoginFailuresPerAddress, v, maxCount) }},
	}
}

// parseRooms reads the list of rooms.
func parseRooms(list string) (rooms []chat.RoomConfig, err error) {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(list, ",") {
		id, name, _ := strings.Cut(part, "=")
		id, name = strings.TrimSpace(id), strings.TrimSpace(name)
		switch {
		case id == "" || len(id) > maxRoomID || strings.ContainsFunc(id, notInID):
			return nil, fmt.Errorf("room %q: want id=name with an id of at most %d letters, digits, - and _", part, maxRoomID)
		case name == "" || utf8.RuneCountInString(name) > maxRoomName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
			return nil, fmt.Errorf("room %q: want id=name with a name of at most %d characters", part, maxRoomName)
		case seen[id]:
			return nil, fmt.Errorf("there are two rooms %q", id)
		}
		seen[id] = true
		rooms = append(rooms, chat.RoomConfig{ID: id, Name: name})
	}
	if len(rooms) > maxRooms {
		return nil, fmt.Errorf("want at most %d rooms", maxRooms)
	}
	return rooms, nil
}

func notInID(r rune) bool {
	return !(r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
}

// errNoDatabase tells why there are no accounts.
var errNoDatabase = errors.New("this fleet has no accounts: --database-url is not set")
