package redisbus

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"strings"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed publish.lua
	publishSource string
	//go:embed append.lua
	appendSource string
	//go:embed read.lua
	readSource string
	//go:embed journal.lua
	journalSource string
	//go:embed roster.lua
	rosterSource string
	//go:embed epoch.lua
	epochSource string
	//go:embed rooms.lua
	roomsSource string
	//go:embed rooms_manage.lua
	roomsManageSource string
	//go:embed rooms_seats.lua
	roomsSeatsSource string

	publishScript = newScript(publishSource)
	// A Cluster needs sharded pub/sub, which other servers take as well, but whose
	// subscriptions they tell from the rest.
	publishShardedScript = newScript(sharded(publishSource))
	appendScript         = newScript(appendSource)
	appendShardedScript  = newScript(sharded(appendSource))
	readScript           = newScript(readSource)
	journalScript        = newScript(journalSource)
	rosterScript         = newScript(rosterSource)
	rosterShardedScript  = newScript(sharded(rosterSource))
	epochScript          = newScript(epochSource)
	// Those of rooms are loaded when Redis does not know them.
	roomsManageScript       = newScript(roomsSource + roomsManageSource)
	roomsSeatsScript        = newScript(roomsSource + roomsSeatsSource)
	roomsSeatsShardedScript = newScript(sharded(roomsSource) + roomsSeatsSource)
)

func sharded(source string) string { return strings.Replace(source, "'PUBLISH'", "'SPUBLISH'", 1) }

// script is a Lua script. The library's own type forgets a script's hash when it
// is loaded in a pipeline.
type script struct{ source, hash string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) // which is how Redis names scripts
	return script{source, hex.EncodeToString(sum[:])}
}

// scripts are those that every connection but the subscriber's finds loaded.
func (l *link) scripts() []script {
	return []script{l.publishScript(), l.appendScript(), readScript, journalScript, l.rosterScript()}
}

func (l *link) publishScript() script {
	if l.sharded {
		return publishShardedScript
	}
	return publishScript
}

func (l *link) appendScript() script {
	if l.sharded {
		return appendShardedScript
	}
	return appendScript
}

func (l *link) rosterScript() script {
	if l.sharded {
		return rosterShardedScript
	}
	return rosterScript
}

// loadScripts has Redis have those again that it has forgotten.
func (l *link) loadScripts(ctx context.Context, c interface {
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
}) error {
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, s := range l.scripts() {
			p.ScriptLoad(ctx, s.source)
		}
		return nil
	})
	return err
}
