package redisbus

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"strings"
)

var (
	//go:embed publish.lua
	publishSource string
	//go:embed read.lua
	readSource string
	//go:embed epoch.lua
	epochSource string

	publishScript = newScript(publishSource)
	// A Cluster needs sharded pub/sub, which other servers take as well, but whose
	// subscriptions they tell from the rest.
	publishShardedScript = newScript(strings.Replace(publishSource, "'PUBLISH'", "'SPUBLISH'", 1))
	readScript           = newScript(readSource)
	epochScript          = newScript(epochSource)
)

// script is a Lua script. The library's own type forgets a script's hash when it
// is loaded in a pipeline.
type script struct{ source, hash string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) // which is how Redis names scripts
	return script{source, hex.EncodeToString(sum[:])}
}
