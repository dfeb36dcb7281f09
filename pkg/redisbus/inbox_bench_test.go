package redisbus_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// BenchmarkInbox is what a poll asks of Redis, by many readers at once, each with a topic:
// one that finds nothing; one that names its place; one that gets a message, which is settled.
func BenchmarkInbox(b *testing.B) {
	const readers, atOnce = 1000, 64
	r := relaytest.StartRedis(b)
	n := inboxNode(b, redisbus.Options{URL: r.URL()})
	ctx := b.Context()
	topic := func(i int64) relay.Topic { return relay.UserTopic(i%readers + 1) }
	var places [readers]relay.ID
	for i := range int64(readers) {
		id, err := n.Publish(ctx, relay.Message{Topic: topic(i), Body: []byte(`{"notification":"new_private_message","from":"alice"}`)}, relaytest.InboxRetention)
		if err != nil {
			b.Fatal(err)
		}
		places[i] = id
	}
	for _, c := range []struct {
		name  string
		calls int
		do    func(i int64) error
	}{
		{"Nothing", 1, func(i int64) error {
			c, err := n.Collect(ctx, topic(i), relay.Reading{Reader: "nothing", After: &places[i%readers]}, 10)
			if err == nil && len(c.Messages) > 0 {
				err = fmt.Errorf("%d messages", len(c.Messages))
			}
			return err
		}},
		{"After", 1, func(i int64) error {
			_, err := n.Collect(ctx, topic(i), relay.Reading{Reader: "after", After: &relay.ID{}}, 10)
			return err
		}},
		{"Settled", 2, func(i int64) error {
			c, err := n.Collect(ctx, topic(i), relay.Reading{Reader: fmt.Sprint(i), Insist: true}, 10)
			if err != nil {
				return err
			}
			return n.Settle(ctx, topic(i), fmt.Sprint(i), c.End, true)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var next atomic.Int64
			b.SetParallelism(atOnce)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := c.do(next.Add(1)); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N*c.calls)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}
