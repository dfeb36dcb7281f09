package redisbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// errNotMaster means that a server is a replica: what is written there is lost or
// refused, and what is published there reaches hardly anybody.
var errNotMaster = errors.New("the redis server is a replica, not a master")

// serverInfo is what a Redis server tells of itself.
type serverInfo struct {
	run         string // changes at each start
	replication string // changes when a replica becomes a master
	before      string // what replication was then
	replica     bool
}

// greet is called for each new connection but the subscriber's: it leads to a
// master, the scripts are there, and the epoch is that of what the master holds.
func (l *link) greet(ctx context.Context, c *redis.Conn) error {
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, s := range []script{l.publishScript(), readScript} {
			p.ScriptLoad(ctx, s.source)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("loading scripts: %w", err)
	}
	return l.refresh(ctx, c)
}

func (l *link) publishScript() script {
	if l.sharded {
		return publishShardedScript
	}
	return publishScript
}

// client is as much of a client or a connection as refresh needs.
type client interface {
	redis.Scripter
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// refresh finds out which history the server holds. errNotMaster means that it
// should not be asked.
func (l *link) refresh(ctx context.Context, c client) error {
	var about, replication *redis.StringCmd
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		about, replication = p.Info(ctx, "server"), p.Info(ctx, "replication")
		return nil
	})
	// The embedded Redis has neither section; it dies with its node.
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	s := parseServer(about.Val() + replication.Val())
	if s.replica {
		return errNotMaster
	}
	waits := "0"
	if l.waits {
		waits = "1"
	}
	// Not zero, and exact as a number of Lua too.
	fresh := strconv.FormatUint(1+rand.Uint64N(1<<53-1), 10)
	text, err := c.Eval(ctx, epochScript.source, []string{l.keys.epoch()}, s.run, s.replication, s.before, fresh, waits).Text()
	if err != nil {
		return fmt.Errorf("asking for the epoch: %w", err)
	}
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("the epoch %q is no number", text)
	}
	if before := l.epoch.Swap(epoch); before != 0 && before != epoch {
		l.log.Warn("redis holds another history than before: messages may have been lost", "keys", l.keys.prefix)
	}
	return nil
}

func parseServer(info string) (s serverInfo) {
	for line := range strings.SplitSeq(info, "\n") {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		switch name {
		case "run_id":
			s.run = value
		case "master_replid":
			s.replication = value
		case "master_replid2":
			s.before = value
		case "role":
			s.replica = value == "slave"
		}
	}
	return s
}
