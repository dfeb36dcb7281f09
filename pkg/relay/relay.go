// Package relay holds the nouns of the fleet and the contracts between its
// parts. It depends on the standard library only, and nothing in it does work:
// a protocol states what it needs in these terms, and package node hands it
// whoever does it.
package relay

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Topic names a channel of messages. Its prefix, up to the slash, names its
// owner: "client/<uuid>", "room/42", "chat/beast", "user/7".
type Topic string

// ID is a message's place in the history of its topic: a Redis stream id, made
// of milliseconds and a sequence number within them. The zero ID belongs to a
// message that is not kept.
type ID struct {
	Millis uint64
	Seq    uint64
}

// IsZero tells whether the message has no place because its topic keeps none.
func (id ID) IsZero() bool { return id == ID{} }

// Compare returns -1, 0 or 1 as id stands before, at or after other.
func (id ID) Compare(other ID) int {
	switch {
	case id.Millis < other.Millis, id.Millis == other.Millis && id.Seq < other.Seq:
		return -1
	case id == other:
		return 0
	}
	return 1
}

// String is the form that Redis uses: "millis-seq".
func (id ID) String() string {
	return strconv.FormatUint(id.Millis, 10) + "-" + strconv.FormatUint(id.Seq, 10)
}

// ParseID reads what String writes.
func ParseID(s string) (ID, error) {
	millis, seq, found := strings.Cut(s, "-")
	if !found {
		return ID{}, fmt.Errorf("message id %q: want millis-seq", s)
	}
	m, err := strconv.ParseUint(millis, 10, 64)
	if err != nil {
		return ID{}, fmt.Errorf("message id %q: %w", s, err)
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return ID{}, fmt.Errorf("message id %q: %w", s, err)
	}
	return ID{Millis: m, Seq: n}, nil
}

// Message is one message of a topic. The core never looks into Body.
type Message struct {
	ID    ID
	Topic Topic
	From  string    // who sent it, in the terms of its protocol
	Time  time.Time // when the sender's node took it
	Body  []byte    // never modified, may be shared
}

// Position is how far somebody has followed a topic.
type Position struct {
	// Epoch names the history that ID belongs to. It changes whenever what Redis
	// has kept may have lost messages: a restart, a flush, a failover to a replica
	// that may have lagged. Zero belongs to no history: nothing is known.
	Epoch uint64
	ID    ID        // of the last message up to here; zero: there was none
	At    time.Time // a moment at which nothing newer was there
}

// Retention tells how long a topic's messages are kept. The zero value keeps
// nothing.
type Retention struct {
	Length int64         // at most so many messages; 0: none
	Age    time.Duration // and none older than this
}

// Kept tells whether messages are kept at all.
func (r Retention) Kept() bool { return r.Length > 0 && r.Age > 0 }
