package redisbus_test

import (
	"strings"
	"testing"

	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// inboxNode runs a node on which what waits for users is kept.
func inboxNode(tb testing.TB, o redisbus.Options) *relaytest.InboxNode {
	tb.Helper()
	o.Keeps = func(t relay.Topic) bool { return strings.HasPrefix(string(t), relay.UserTopics) }
	b := openWith(tb, o)
	received, _ := relaytest.Run(tb, b)
	relaytest.Eventually(tb, "the node is ready", func() bool { return b.Ready() == nil })
	return &relaytest.InboxNode{Broker: b, Inbox: b.Inbox(relaytest.InboxRetention.Age), Recorder: received}
}

// inbox runs the suite.
func inbox(t *testing.T, o redisbus.Options, rounds int, flush func(tb testing.TB)) {
	relaytest.Inbox(t, relaytest.InboxBackend{
		Open:   func(tb testing.TB) *relaytest.InboxNode { return inboxNode(tb, o) },
		Flush:  flush,
		Rounds: rounds,
	})
}

func TestInboxOnRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	inbox(t, redisbus.Options{URL: r.URL()}, 2000, func(tb testing.TB) { flushAll(tb, r.Server) })
}

func TestInboxOnEmbeddedRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r, err := embedded.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	inbox(t, redisbus.Options{URL: r.URL()}, 200, func(tb testing.TB) {
		b := openWith(tb, redisbus.Options{URL: r.URL()})
		_, end := relaytest.Run(tb, b)
		defer end()
		if err := b.Flush(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	})
}

func TestInboxOnSentinel(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	inbox(t, redisbus.Options{URL: s.URL()}, 500, func(tb testing.TB) { flushAll(tb, s.Servers...) })
}

func TestInboxOnCluster(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3, Replicas: -1})
	inbox(t, redisbus.Options{URL: c.URL()}, 500, func(tb testing.TB) { flushAll(tb, c.Servers...) })
}
