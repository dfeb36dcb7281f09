package redisbus_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

var nodes atomic.Int64

// open makes a bus that does not run yet.
func open(tb testing.TB, url string) *redisbus.Bus {
	tb.Helper()
	b, err := redisbus.New(redisbus.Options{
		URL:  url,
		Node: fmt.Sprint("node-", nodes.Add(1)),
		Log:  slog.New(slog.NewTextHandler(tb.Output(), nil)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestBrokerOnRedis(t *testing.T) {
	relaytest.Broker(t, func(tb testing.TB) relaytest.Backend {
		r := relaytest.StartRedis(tb)
		return relaytest.Backend{
			Open: func(tb testing.TB) relay.Broker { return open(tb, r.URL()) },
			Down: r.Kill,
		}
	})
}

func TestBrokerOnEmbeddedRedis(t *testing.T) {
	relaytest.Broker(t, func(tb testing.TB) relaytest.Backend {
		r, err := embedded.StartRedis()
		if err != nil {
			tb.Fatal(err)
		}
		down := false
		tb.Cleanup(func() {
			if !down {
				r.Close()
			}
		})
		return relaytest.Backend{
			Open: func(tb testing.TB) relay.Broker { return open(tb, r.URL()) },
			Down: func() { down = true; r.Close() },
		}
	})
}
