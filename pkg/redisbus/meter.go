package redisbus

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed meter.lua
var meterSource string

// meterKind begins the keys of counts in a keyspace.
const meterKind = "c:"

func (k keyspace) meter(key string) string { return k.prefix + meterKind + key }

// Take implements relay.Meter, by Redis's clock. It answers within two seconds. When
// the answer to an attempt is lost it tries again, and may have counted twice then.
func (v *Values) Take(ctx context.Context, key string, most int64, window time.Duration) (wait time.Duration, err error) {
	if err := checkValue(key, nil, window); err != nil {
		return 0, err
	}
	if most < 1 {
		return 0, fmt.Errorf("meter %q: at most %d is never", key, most)
	}
	s := v.of(key)
	// The source and not its hash: what is counted is rare.
	cmd := redis.NewIntCmd(ctx, "eval", meterSource, 1, s.link.keys.meter(key), "take", most, window.Milliseconds())
	if err := s.ask(ctx, []redis.Cmder{cmd}, question{repeats: true}); err != nil {
		return 0, err
	}
	return time.Duration(cmd.Val()) * time.Millisecond, nil
}

// Return implements relay.Meter. It answers within two seconds, and tries nothing
// again that may have been done: after an error the count may stand.
func (v *Values) Return(ctx context.Context, key string) error {
	if err := checkValue(key, nil, time.Second); err != nil {
		return err
	}
	s := v.of(key)
	cmd := redis.NewIntCmd(ctx, "eval", meterSource, 1, s.link.keys.meter(key), "return")
	return s.ask(ctx, []redis.Cmder{cmd}, question{})
}
