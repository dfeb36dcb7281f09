package redisbus

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// deafLooks is how often in a row a node must be found not to hear Redis before it is
	// believed, and deafPause the time between two looks: a node whose connection breaks
	// has another one sooner, unless it is dead or cut off.
	deafLooks = 7
	deafPause = 100 * time.Millisecond
)

// deaf tells whether another node has heard nothing of Redis for a while. Who cannot
// tell takes it to hear.
func (r *Rooms) deaf(ctx context.Context, node string) bool {
	if node == r.node {
		return false
	}
	for look := 1; ; look++ {
		hears, err := r.hears(ctx, node)
		if err != nil {
			r.log.Debug("redis does not tell whether a node hears it", "node", node, "error", err)
		}
		if hears || err != nil {
			return false
		}
		if look == deafLooks {
			return true
		}
		if !sleep(ctx, deafPause) {
			return false
		}
	}
}

// errOwnCanary means that Redis does not know this node to hear it.
var errOwnCanary = errors.New("redis is not heard by this node")

// hears asks Redis whether a node hears it, on the rooms' link.
func (r *Rooms) hears(ctx context.Context, node string) (bool, error) {
	what := "numsub"
	if r.link.sharded {
		what = "shardnumsub"
	}
	cmd := redis.NewSliceCmd(ctx, "pubsub", what, r.link.canary, r.link.keys.canary(node))
	if err := r.store.ask(ctx, []redis.Cmder{cmd}, question{repeats: true}); err != nil {
		return false, err
	}
	counts := cmd.Val() // a channel and its number, twice
	if len(counts) != 4 {
		return false, errRooms
	}
	if counts[1] == int64(0) { // where nodes do not listen any more, or not yet
		return false, errOwnCanary
	}
	return counts[3] != int64(0), nil
}
