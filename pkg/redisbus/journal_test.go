package redisbus_test

import (
	"strings"
	"testing"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// journalOptions have rooms kept for good.
func journalOptions(url string) redisbus.Options {
	return redisbus.Options{URL: url, Keeps: func(t relay.Topic) bool { return strings.HasPrefix(string(t), "chat/") }}
}

func openJournal(tb testing.TB, url string) *redisbus.Bus {
	tb.Helper()
	return openWith(tb, journalOptions(url))
}

func TestJournalOnRedis(t *testing.T) { relaytest.Journal(t, onRedis(openJournal)) }

func TestJournalOnEmbeddedRedis(t *testing.T) { relaytest.Journal(t, onEmbeddedRedis(openJournal)) }

func TestJournalOnSentinel(t *testing.T) {
	all := startSentinel(t)
	relaytest.Journal(t, func(tb testing.TB) relaytest.Backend {
		s, down := all, func() {}
		if takesRedisAway(tb) {
			s = relaytest.StartSentinel(tb, redisproc.SentinelOptions{Replicas: 1})
			down = func() { killAll(s.Servers) }
		}
		return relaytest.Backend{Open: func(tb testing.TB) relay.Broker { return openJournal(tb, s.URL()) }, Down: down}
	})
}

func TestJournalOnCluster(t *testing.T) {
	all := startCluster(t, redisproc.ClusterOptions{Masters: 3})
	relaytest.Journal(t, func(tb testing.TB) relaytest.Backend {
		c, down := all, func() {}
		if takesRedisAway(tb) {
			c = relaytest.StartCluster(tb, redisproc.ClusterOptions{Replicas: -1})
			down = func() { killAll(c.Servers) }
		}
		return relaytest.Backend{Open: func(tb testing.TB) relay.Broker { return openJournal(tb, c.URL()) }, Down: down}
	})
}

// takesRedisAway tells of the part of a suite that needs servers of its own. The
// others share some, and their topics differ.
func takesRedisAway(tb testing.TB) bool { return strings.HasSuffix(tb.Name(), "/RedisAway") }

func killAll(servers []*redisproc.Server) {
	for _, s := range servers {
		s.Kill()
	}
}
