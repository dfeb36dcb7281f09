package redisbus_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relaytest"
)

// finder tells which client leads to the keys of the fleet now.
type finder func(ctx context.Context) (redisbus.FleetClient, error)

// toOne leads to one Redis.
func toOne(tb testing.TB, url string) finder {
	tb.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	o.MaxRetries = -1
	c := redis.NewClient(o)
	tb.Cleanup(func() { _ = c.Close() })
	return func(context.Context) (redisbus.FleetClient, error) { return c, nil }
}

// through leads where a bus finds the master, which runs until the test ends.
func through(t *testing.T, url string) finder {
	t.Helper()
	b := open(t, url)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, relaytest.NewRecorder()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	return b.FleetClient
}

// faulty is a client with something between it and Redis.
type faulty struct {
	redisbus.FleetClient
	fault func() relaytest.Fault
}

var errFault = errors.New("the test has cut the node off")

func (f faulty) pass(ctx context.Context, ask func() *redis.Cmd) *redis.Cmd {
	refused := redis.NewCmd(ctx)
	refused.SetErr(errFault)
	switch f.fault() {
	case relaytest.CutOff:
		return refused
	case relaytest.AnswerLost:
		_ = ask()
		return refused
	}
	return ask()
}

func (f faulty) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return f.pass(ctx, func() *redis.Cmd { return f.FleetClient.EvalSha(ctx, sha, keys, args...) })
}

func (f faulty) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	return f.pass(ctx, func() *redis.Cmd { return f.FleetClient.Eval(ctx, source, keys, args...) })
}

func (f faulty) Info(ctx context.Context, section ...string) *redis.StringCmd {
	if f.fault() == relaytest.NoFault {
		return f.FleetClient.Info(ctx, section...)
	}
	refused := redis.NewStringCmd(ctx)
	refused.SetErr(errFault)
	return refused
}

func fleetOptions(tb testing.TB, node string, find finder, fault func() relaytest.Fault) redisbus.FleetOptions {
	return redisbus.FleetOptions{
		Node: node, Address: "127.0.0.1:1", Version: "test",
		Counts: func() map[string]int64 { return map[string]int64{"clients": 7} },
		Client: func(ctx context.Context) (redisbus.FleetClient, error) {
			c, err := find(ctx)
			return faulty{c, fault}, err
		},
		Log: slog.New(slog.NewTextHandler(tb.Output(), nil)),
	}
}

func noFault() relaytest.Fault { return relaytest.NoFault }

// quick are times for a Redis whose keys expire to the millisecond.
func quick(o redisbus.FleetOptions) redisbus.FleetOptions {
	const ms = time.Millisecond
	return o.WithTimes(1200*ms, 100*ms, 150*ms, 2000*ms, 1000*ms)
}

func openFleet(tb testing.TB, o redisbus.FleetOptions) *redisbus.Fleet {
	tb.Helper()
	f, err := redisbus.NewFleet(o)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// claims runs the suite with nodes that share a way to Redis.
func claims(t *testing.T, find finder, times func(redisbus.FleetOptions) redisbus.FleetOptions) {
	relaytest.Claims(t, relaytest.ClaimsBackend{
		Open: func(tb testing.TB, node string, fault func() relaytest.Fault) relaytest.ClaimsNode {
			return openFleet(tb, times(fleetOptions(tb, node, find, fault)))
		},
		Flush: func(tb testing.TB) {
			tb.Helper()
			c, err := find(tb.Context())
			if err != nil {
				tb.Fatal(err)
			}
			if err := c.(*redis.Client).FlushAll(tb.Context()).Err(); err != nil {
				tb.Fatal(err)
			}
		},
	})
}

func TestClaimsOnRedis(t *testing.T) {
	t.Parallel()
	claims(t, through(t, relaytest.StartRedis(t).URL()), quick)
}

func TestClaimsOnEmbeddedRedis(t *testing.T) {
	t.Parallel()
	r, err := embedded.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	// Its keys expire to the second.
	claims(t, toOne(t, r.URL()), func(o redisbus.FleetOptions) redisbus.FleetOptions {
		const ms = time.Millisecond
		return o.WithTimes(3000*ms, 100*ms, 300*ms, 3000*ms, 1000*ms)
	})
}

func TestClaimsOnSentinel(t *testing.T) {
	t.Parallel()
	claims(t, through(t, relaytest.StartSentinel(t, redisproc.SentinelOptions{}).URL()), quick)
}

func TestClaimsOnCluster(t *testing.T) {
	t.Parallel()
	claims(t, through(t, relaytest.StartCluster(t, redisproc.ClusterOptions{}).URL()), quick)
}
