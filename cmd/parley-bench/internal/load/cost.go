package load

import (
	"time"

	"parley/cmd/parley-bench/internal/probe"
)

// Cost is what a run took from the machine. What was not asked for, or could
// not be read, is nil.
type Cost struct {
	ServerCPU   *float64 `json:"server_cpu_us,omitempty"` // user + system time for one unit of work
	RedisCPU    *float64 `json:"redis_cpu_us,omitempty"`
	OwnCPU      *float64 `json:"own_cpu_us,omitempty"` // of the load generator
	ServerCores *float64 `json:"server_cores,omitempty"`
	RedisCores  *float64 `json:"redis_cores,omitempty"`
	OwnCores    *float64 `json:"own_cores,omitempty"`
	ServerRSS   *int64   `json:"server_rss_bytes,omitempty"` // at the end
	RedisRSS    *int64   `json:"redis_rss_bytes,omitempty"`
}

// costOf compares two samples between which so many units of work were done.
func costOf(from, to probe.Sample, units uint64) Cost {
	c := Cost{ServerRSS: to.ServerRSS, RedisRSS: to.RedisRSS}
	elapsed := to.At.Sub(from.At)
	spent := func(a, b *time.Duration) (perUnit, cores *float64) {
		if a == nil || b == nil || elapsed <= 0 {
			return nil, nil
		}
		d := *b - *a
		if units > 0 {
			perUnit = new(float64(d) / float64(time.Microsecond) / float64(units))
		}
		return perUnit, new(float64(d) / float64(elapsed))
	}
	c.ServerCPU, c.ServerCores = spent(from.ServerCPU, to.ServerCPU)
	c.RedisCPU, c.RedisCores = spent(from.RedisCPU, to.RedisCPU)
	c.OwnCPU, c.OwnCores = spent(&from.Own, &to.Own)
	return c
}
