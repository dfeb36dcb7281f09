package redisbus_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
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

// A lease that has expired is reaped when it is seen for the second time; a name that
// another one has by then stays that one's.
func TestFleetLooksTwice(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	var released atomic.Int32
	f := openFleet(t, fleetOptions(t, "a", toOne(t, r.URL()), noFault).WithTimes(time.Minute, time.Second, time.Minute, time.Second, time.Second))
	f.OnRelease("seat", func(_ context.Context, c relay.Claim) error {
		if want := (relay.Claim{Name: "seat/1", Holder: "alice", Node: "dead"}); c != want {
			t.Errorf("released %+v, want %+v", c, want)
		}
		released.Add(1)
		return nil
	})
	go func() { _ = f.Run(t.Context()) }() // Close waits for it
	relaytest.Eventually(t, "it has a lease", func() bool { return f.Ready() == nil })
	defer func() {
		if err := f.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	ctx, c := t.Context(), r.Client()
	const prefix = "parley:{fleet}:"
	for _, err := range []error{
		c.SAdd(ctx, prefix+"leases", "dead#1").Err(),
		c.HSet(ctx, prefix+"claims:dead#1", "seat/1", "alice", "seat/2", "alice").Err(),
		c.HSet(ctx, prefix+"names", "seat/1", "dead#1 alice", "seat/2", "other#1 bob").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	missing := f.Look(ctx, nil)
	if !missing["dead#1"] || len(missing) != 1 || released.Load() != 0 {
		t.Errorf("after one look: missing %v, %d releases", missing, released.Load())
	}
	// Back in time: it does not count as missing.
	if err := c.Set(ctx, prefix+"lease:dead#1", "{}", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if now := f.Look(ctx, missing); len(now) != 0 || released.Load() != 0 {
		t.Errorf("back in time: missing %v, %d releases", now, released.Load())
	}
	// Nor does it last longer than a lease, though the clock went back.
	if left, err := c.PTTL(ctx, prefix+"lease:dead#1").Result(); err != nil || left <= 0 || left > time.Minute {
		t.Errorf("the lease lasts %v (%v), want a minute at most", left, err)
	}
	if err := c.Del(ctx, prefix+"lease:dead#1").Err(); err != nil {
		t.Fatal(err)
	}
	if now := f.Look(ctx, missing); len(now) != 0 || released.Load() != 1 {
		t.Errorf("after two looks: missing %v, %d releases, want 1", now, released.Load())
	}
	names, err := c.HGetAll(ctx, prefix+"names").Result()
	if err != nil || len(names) != 1 || names["seat/2"] != "other#1 bob" {
		t.Errorf("names that are left: %v (%v), want bob's", names, err)
	}
	if n, err := c.Exists(ctx, prefix+"claims:dead#1", prefix+"dead", prefix+"reaper:dead#1").Result(); err != nil || n != 0 {
		t.Errorf("%d keys of the dead node are left (%v)", n, err)
	}
}
