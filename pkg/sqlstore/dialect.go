package sqlstore

import (
	"fmt"

	"github.com/pressly/goose/v3"
)

// dialect is what the two databases do not say in the same way.
type dialect struct {
	name       string // and the directory of its migrations
	migrations goose.Dialect
	// keep ends an INSERT into the archive that leaves alone what is there. Unlike
	// MySQL's INSERT IGNORE it hides no other error.
	keep string
	// before restricts a topic's messages to those before a place, in a form in
	// which the primary key is one range; bindBefore are its arguments.
	before     string
	bindBefore func(millis, seq any) []any
	// bind and scan pass the numbers of a relay.ID to the database and back.
	bind func(uint64) any
	scan func(*uint64) any
	// lock ends a query that keeps others from what it finds until the transaction
	// ends. A transaction of SQLite has the whole file from its beginning.
	lock string
	// clock is the time of the database in milliseconds since 1970, UTC.
	clock string
	// addTally ends an INSERT into tallies that adds to what is there.
	addTally string
	// bySender follows posts in a query that has to go by the index of senders: of two
	// users one may have written a million that the other has not to pass.
	bySender string
	// forward ends an INSERT into progress that goes forward only.
	forward string
}

var mysqlDialect = dialect{
	name:       "mysql",
	migrations: goose.DialectMySQL,
	keep:       " ON DUPLICATE KEY UPDATE topic = topic",
	before:     " AND (millis < ? OR (millis = ? AND seq < ?))",
	bindBefore: func(millis, seq any) []any { return []any{millis, millis, seq} },
	bind:       func(n uint64) any { return n },
	scan:       func(n *uint64) any { return n },
	lock:       " FOR UPDATE",
	// Not NOW: that is when the statement began, which may have waited for a lock. All
	// connections have UTC.
	clock:    "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)",
	addTally: " ON DUPLICATE KEY UPDATE friends = friends + VALUES(friends), memberships = memberships + VALUES(memberships)",
	bySender: " FORCE INDEX (by_sender)",
	forward:  " ON DUPLICATE KEY UPDATE place = GREATEST(place, VALUES(place))",
}

var sqliteDialect = dialect{
	name:       "sqlite",
	migrations: goose.DialectSQLite3,
	keep:       " ON CONFLICT (topic, millis, seq) DO NOTHING",
	before:     " AND (millis, seq) < (?, ?)",
	bindBefore: func(millis, seq any) []any { return []any{millis, seq} },
	bind:       func(n uint64) any { return signed(n) },
	scan:       func(n *uint64) any { return &shifted{n} },
	clock:      "CAST(ROUND(unixepoch('now', 'subsec') * 1000) AS INTEGER)",
	addTally:   " ON CONFLICT (user_id) DO UPDATE SET friends = friends + excluded.friends, memberships = memberships + excluded.memberships",
	bySender:   " INDEXED BY posts_by_sender",
	forward:    " ON CONFLICT (work) DO UPDATE SET place = MAX(place, excluded.place)",
}

// signBit is what separates an unsigned number from the signed one that has the
// same place in the order.
const signBit = 1 << 63

func signed(n uint64) int64   { return int64(n ^ signBit) }
func unsigned(n int64) uint64 { return uint64(n) ^ signBit }

// shifted reads what signed has made.
type shifted struct{ n *uint64 }

// Scan implements sql.Scanner.
func (s *shifted) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a number of a place is a %T", v)
	}
	*s.n = unsigned(n)
	return nil
}
