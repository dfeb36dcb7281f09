package redisbus_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

var nodes atomic.Int64

// open makes a bus that does not run yet.
func open(tb testing.TB, url string) *redisbus.Bus {
	tb.Helper()
	return openWith(tb, redisbus.Options{URL: url})
}

// openKeeping makes one on which all messages to clients are kept.
func openKeeping(tb testing.TB, url string) *redisbus.Bus {
	tb.Helper()
	return openWith(tb, redisbus.Options{URL: url, Keeps: func(t relay.Topic) bool { return strings.HasPrefix(string(t), "client/") }})
}

// optionsWaiting have messages count when so many replicas have them.
func optionsWaiting(url string, replicas int) redisbus.Options {
	return redisbus.Options{URL: url, WaitReplicas: replicas, WaitTimeout: 200 * time.Millisecond,
		Keeps: func(t relay.Topic) bool { return strings.HasPrefix(string(t), "client/") }}
}

func openWith(tb testing.TB, o redisbus.Options) *redisbus.Bus {
	tb.Helper()
	o.Node = fmt.Sprint("node-", nodes.Add(1))
	o.Log = slog.New(slog.NewTextHandler(tb.Output(), nil))
	b, err := redisbus.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func onRedis(open func(testing.TB, string) *redisbus.Bus) func(testing.TB) relaytest.Backend {
	return func(tb testing.TB) relaytest.Backend {
		r := relaytest.StartRedis(tb)
		return relaytest.Backend{
			Open: func(tb testing.TB) relay.Broker { return open(tb, r.URL()) },
			Down: r.Kill,
		}
	}
}

func onEmbeddedRedis(open func(testing.TB, string) *redisbus.Bus) func(testing.TB) relaytest.Backend {
	return func(tb testing.TB) relaytest.Backend {
		r, err := embedded.StartRedis()
		if err != nil {
			tb.Fatal(err)
		}
		down := sync.OnceFunc(r.Close)
		tb.Cleanup(down)
		return relaytest.Backend{
			Open: func(tb testing.TB) relay.Broker { return open(tb, r.URL()) },
			Down: down,
		}
	}
}

func TestBrokerOnRedis(t *testing.T)         { relaytest.Broker(t, onRedis(open)) }
func TestBrokerOnEmbeddedRedis(t *testing.T) { relaytest.Broker(t, onEmbeddedRedis(open)) }

func TestHistoryOnRedis(t *testing.T)         { relaytest.History(t, onRedis(openKeeping)) }
func TestHistoryOnEmbeddedRedis(t *testing.T) { relaytest.History(t, onEmbeddedRedis(openKeeping)) }
