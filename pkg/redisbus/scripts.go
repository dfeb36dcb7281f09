package redisbus

import (
	_ "embed"
	"strings"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed publish.lua
	publishSource string
	//go:embed read.lua
	readSource string
	//go:embed epoch.lua
	epochSource string

	// A Cluster needs sharded pub/sub, which other servers take as well, but whose
	// subscriptions they tell from the rest.
	publishShardedSource = strings.Replace(publishSource, "'PUBLISH'", "'SPUBLISH'", 1)
	publishScript        = redis.NewScript(publishSource)
	publishShardedScript = redis.NewScript(publishShardedSource)
	readScript           = redis.NewScript(readSource)
	epochScript          = redis.NewScript(epochSource)
)
