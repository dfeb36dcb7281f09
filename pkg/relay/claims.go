package relay

import (
	"context"
	"strings"
	"time"
)

// Claim says who holds a name.
type Claim struct {
	Name   string // "kind/rest": "term/alice", "room/42/seat/7", "presence/9"
	Holder string // a client of the node, in the terms of the name's kind
	Node   string // the node whose client it is, and under whose lease the claim stands
}

// Kind is the name's part before the first slash: it tells who releases the claim.
func (c Claim) Kind() string {
	kind, _, _ := strings.Cut(c.Name, "/")
	return kind
}

// Claims record what a node holds for its clients: names, seats, presence. A claim
// stands as long as the node's lease. When the node dies, the survivors release
// what it held; when the node was only cut off, it is told what it has lost before
// it can claim anything again.
type Claims interface {
	// Claim takes the name for the holder, a client of this node; false when
	// another holder or another node has it. Claiming what the same holder of this
	// node has already is true again. It answers within two seconds. Errors wrap
	// ErrUnavailable, and then the name was not taken, or is given back by itself
	// as soon as Redis answers; ErrClosed; or say what is wrong with the name.
	Claim(ctx context.Context, name, holder string) (bool, error)
	// Release gives the name back if the holder still has it; nothing happens when
	// not. On an error that wraps ErrUnavailable the name is given back by itself
	// as soon as Redis answers.
	Release(ctx context.Context, name, holder string) error
	// Holder returns who has the name, the zero Claim when nobody does.
	Holder(ctx context.Context, name string) (Claim, error)
}

// Node is what a node tells the others of itself.
type Node struct {
	ID      string
	Address string
	Version string
	Started time.Time // by its own clock
	Counts  map[string]int64
}
