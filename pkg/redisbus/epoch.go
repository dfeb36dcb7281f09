package redisbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// lateness is how long after a new master was found another node may still hold
// the old one for the master, and have messages accepted there that are lost: each
// finds out within three seconds, see canarySilence.
const lateness = 4 * time.Second

// errNotMaster means that a server is a replica: what is written there is lost or
// refused, and what is published there reaches hardly anybody.
var errNotMaster = errors.New("the redis server is a replica, not a master")

// holder is the server process that holds a history. Redis keeps it under the
// epoch's key together with the epoch, so that whoever comes to a server sees
// whether it is the one that had the history before.
type holder struct {
	run         string // changes at each start
	replication string // changes when a replica becomes a master
	node        string // in a Cluster; stays the same over a restart
	replicas    string // how many it has
	before      string // what replication was when it was a replica; not kept
	replica     bool   // not kept
}

// history is an epoch and who held it last.
type history struct {
	epoch uint64
	holder
}

// text is how a history stands in Redis.
func (h history) text() string {
	return strings.Join([]string{strconv.FormatUint(h.epoch, 10), h.run, h.replication, h.node, h.replicas}, " ")
}

// parseHistory is the inverse of text; the zero history stands for anything else.
func parseHistory(s string) (h history) {
	f := strings.Split(s, " ")
	if len(f) != 5 {
		return h
	}
	epoch, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil {
		return h
	}
	return history{epoch, holder{run: f[1], replication: f[2], node: f[3], replicas: f[4]}}
}

// succeeds tells whether a server that holds what h's holder had has all of it.
// waits is how many replicas must have a message before it counts; moved means that
// the slot was moved to it, key by key.
func (h history) succeeds(by holder, waits int, moved bool) bool {
	switch {
	case h.epoch == 0:
		return false
	case h.run == by.run:
		return true
	case h.node != by.node && moved && h.replication != by.before:
		return true
	}
	// A promoted replica: what counted, it had, if all had it. (Sentinel prefers the
	// one that has most, as far as it has heard in the last seconds.)
	replicas, err := strconv.Atoi(h.replicas)
	return err == nil && waits > 0 && waits >= replicas && h.replication != "" && h.replication == by.before
}

// greet is called for each new connection but the subscriber's: it leads to a
// master, the scripts are there, and the epoch is that of what the master holds.
func (l *link) greet(ctx context.Context, c *redis.Conn) error {
	if err := l.loadScripts(ctx, c); err != nil {
		return fmt.Errorf("loading scripts: %w", err)
	}
	return l.refresh(ctx, c)
}

// client is as much of a client or a connection as refresh needs.
type client interface {
	redis.Scripter
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
	ClusterNodes(ctx context.Context) *redis.StringCmd
}

// refresh finds out which history the server holds, and names a new one when
// messages may have been lost. errNotMaster means that it should not be asked.
func (l *link) refresh(ctx context.Context, c client) error {
	const attempts = 5 // others do the same at the same time
	for range attempts {
		by, text, err := l.inquire(ctx, c)
		if err != nil {
			return err
		}
		h := parseHistory(text)
		next := history{h.epoch, by}
		if h.text() != next.text() || h.epoch == 0 {
			if !h.succeeds(by, l.waits, l.movedTo(ctx, c, h.node, by.node)) {
				next.epoch = 1 + rand.Uint64N(1<<63)
			}
			now, err := c.Eval(ctx, epochScript.source, []string{l.keys.epoch()}, text, next.text()).Text()
			if err != nil {
				return fmt.Errorf("naming the history: %w", err)
			}
			if now != next.text() {
				continue
			}
		}
		if before := l.epoch.Swap(next.epoch); before != 0 && before != next.epoch {
			l.former.Store(before)
			l.renewed.Store(int64(time.Since(l.started)))
			l.log.Warn("redis holds another history than before: messages may have been lost", "keys", l.keys.prefix)
		}
		return nil
	}
	return errors.New("the epoch changes all the time")
}

// settled is the epoch that a position may have which is taken now: as long as
// other nodes may hold the old master for the master, none that holds.
func (l *link) settled() uint64 {
	if l.moves && l.renewed.Load() != 0 {
		return l.former.Load()
	}
	return l.epoch.Load()
}

// inquire asks a server for itself and for what is under the epoch's key.
func (l *link) inquire(ctx context.Context, c client) (by holder, text string, err error) {
	var about, replication, node, epoch *redis.StringCmd
	_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error {
		about, replication, epoch = p.Info(ctx, "server"), p.Info(ctx, "replication"), p.Get(ctx, l.keys.epoch())
		if l.sharded {
			node = p.ClusterMyID(ctx)
		}
		return nil
	})
	// The embedded Redis has no such sections; it dies with its node.
	var refusal redis.Error
	if err != nil && !errors.As(err, &refusal) {
		return by, "", err
	}
	by = parseHolder(about.Val() + replication.Val())
	if by.replica {
		return by, "", errNotMaster
	}
	if text, err = epoch.Result(); err != nil && !errors.Is(err, redis.Nil) {
		return by, "", fmt.Errorf("asking for the epoch: %w", err)
	}
	if node != nil {
		by.node = node.Val()
	}
	return by, text, nil
}

// movedTo tells whether the slot was moved from one master of a Cluster to
// another. The old one is well and a master still, as it is not after a failover.
func (l *link) movedTo(ctx context.Context, c client, from, to string) bool {
	if !l.sharded || from == "" || from == to {
		return false
	}
	nodes, err := c.ClusterNodes(ctx).Result()
	if err != nil {
		return false
	}
	for line := range strings.Lines(nodes) {
		f := strings.Fields(line)
		if len(f) >= 8 && f[0] == from {
			return f[2] == "master" && f[7] == "connected"
		}
	}
	return false
}

func parseHolder(info string) (s holder) {
	for line := range strings.SplitSeq(info, "\n") {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		switch name {
		case "run_id":
			s.run = value
		case "master_replid":
			s.replication = value
		case "master_replid2":
			s.before = value
		case "connected_slaves":
			s.replicas = value
		case "role":
			s.replica = value == "slave"
		}
	}
	return s
}
