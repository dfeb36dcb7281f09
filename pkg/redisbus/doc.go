// Package redisbus carries messages between nodes over Redis pub/sub.
//
// Publishes of all goroutines gather in one queue; one goroutine sends what has
// gathered as a pipeline of the Redis library and tells each sender its answer.
// One connection subscribes. Its owner keeps the table of wanted topics and
// brings Redis in line with it, in batches; its receiver reads, and replaces the
// connection when it breaks or when the canary, a message that the node sends to
// itself each second, has been silent for too long.
//
// Beside that it keeps in Redis what nodes share: histories and journals of topics,
// who is present, the state of relay rooms, the leases and claims of nodes, values with
// an expiry and counts.
package redisbus
