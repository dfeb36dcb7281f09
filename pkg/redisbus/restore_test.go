package redisbus_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// Ten thousand topics are subscribed, and restored after a loss, in batches;
// each is told once that it may have missed something.
func TestManyTopicsRestored(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	c := admin(t, r)
	n := join(t, r.URL())
	ready(t, n)
	const topics, callers = 10_000, 100
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			var some []relay.Topic
			for k := w; k < topics; k += callers {
				some = append(some, trafficTopic(k))
			}
			ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
			defer cancel()
			if _, err := n.Subscribe(ctx, some...); err != nil {
				t.Errorf("Subscribe: %v", err)
			}
		})
	}
	wg.Wait()
	steady := steady(t)
	if n.Gaps() != 0 {
		t.Errorf("%d gaps after the first subscription", n.Gaps())
	}
	const rounds = 3
	for round := 1; round <= rounds; round++ {
		calls := commandCalls(t, c, "subscribe")
		killSubscribers(t, c)
		began := time.Now()
		relaytest.Eventually(t, "every topic is told of the gap", func() bool { return n.Gaps() >= round*topics })
		took := time.Since(began)
		ready(t, n)
		if calls = commandCalls(t, c, "subscribe") - calls; calls > topics/50 {
			t.Errorf("%d SUBSCRIBE commands for %d topics", calls, topics)
		}
		t.Logf("restored by %d SUBSCRIBE commands in %v", calls, took.Round(time.Millisecond))
	}
	channels, err := c.PubSubChannels(t.Context(), "parley:t:*").Result()
	if err != nil || len(channels) != topics {
		t.Errorf("Redis has %d channels subscribed, want %d: %v", len(channels), topics, err)
	}
	var ledger relaytest.Ledger
	for k := range topics {
		n.Enqueue(relay.Message{Topic: trafficTopic(k), Body: []byte("hello")}, relay.Retention{}, &ledger, relaytest.Numbered(k, 0))
	}
	relaytest.Eventually(t, "every message comes", func() bool { return n.Received() >= topics })
	losses := int(gathered(t, n.Bus, "parley_redis_reconnects_total"))
	if losses < rounds {
		t.Errorf("parley_redis_reconnects_total is %d, want %d at least", losses, rounds)
	}
	for k := range topics {
		events := n.Events(trafficTopic(k))
		last := len(events) - 1
		if last != losses || slices.ContainsFunc(events[:last], func(e relaytest.Event) bool { return !e.Gap }) || string(events[last].Message.Body) != "hello" {
			t.Fatalf("%s: events %v, want %d gaps and a message", trafficTopic(k), events, losses)
		}
	}
	if got := gathered(t, n.Bus, "parley_gaps_total"); int(got) != losses*topics {
		t.Errorf("parley_gaps_total is %v, want %d", got, losses*topics)
	}
	if got := gathered(t, n.Bus, "parley_redis_subscriptions"); int(got) != topics {
		t.Errorf("parley_redis_subscriptions is %v, want %d", got, topics)
	}
	steady()
}

// commandCalls is how often the server has had a command.
func commandCalls(t *testing.T, c *redis.Client, command string) int {
	t.Helper()
	info, err := c.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(info, "cmdstat_"+command+":calls=")
	if !found {
		return 0
	}
	number, _, _ := strings.Cut(after, ",")
	calls, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// gathered is the sum of a metric of a bus over its labels.
func gathered(t *testing.T, b *redisbus.Bus, name string) (sum float64) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(b.Metrics().Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
