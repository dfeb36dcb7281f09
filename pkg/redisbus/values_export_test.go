package redisbus

import "github.com/redis/go-redis/v9"

// ValueWaits is how many calls may wait for replicas at once.
const ValueWaits = valueWaits

// InUse is how many connections are in use that values share with the link's other
// questions; those of pipelines the library has in a pool of their own.
func (v *Values) InUse() (n int) {
	for _, s := range v.stores {
		stats := s.client.PoolStats()
		for _, p := range []*redis.PoolStats{stats, (*redis.PoolStats)(stats.PipelineStats)} {
			n += int(p.TotalConns - p.IdleConns)
		}
	}
	return n
}
