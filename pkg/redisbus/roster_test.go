package redisbus_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relaytest"
)

// wire is a node's network, which can be cut.
type wire struct {
	mu    sync.Mutex
	off   bool
	conns map[net.Conn]struct{}
}

var errCut = errors.New("the test has cut the network")

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off {
		_ = c.Close()
		return nil, errCut
	}
	w.conns[c] = struct{}{}
	return c, nil
}

func (w *wire) cut(off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = off
	if off {
		for c := range w.conns {
			_ = c.Close() // may have been closed
		}
		clear(w.conns)
	}
}

// rosterTimes are times of leases for a Redis.
type rosterTimes func(redisbus.FleetOptions) redisbus.FleetOptions

// rosterNode runs a node: its bus, its lease and its roster.
func rosterNode(tb testing.TB, url string, times rosterTimes) *relaytest.RosterNode {
	tb.Helper()
	w := &wire{conns: map[net.Conn]struct{}{}}
	// In a Cluster nodes are asked where the slots are by connections of their own, but
	// nothing else.
	b := openWith(tb, redisbus.Options{URL: url}.WithDial(w.dial))
	o := fleetOptions(tb, b.Node(), b.FleetClient, noFault)
	f := openFleet(tb, times(o))
	r := redisbus.NewRoster(b, f, slog.New(slog.NewTextHandler(tb.Output(), nil)).With("node", b.Node()))
	received, endBus := relaytest.Run(tb, b)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	run := func(run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				tb.Errorf("Run returned %v", err)
			}
		})
	}
	run(r.Run)
	leases, forget := context.WithCancel(context.Background())
	var keeper sync.WaitGroup
	keeper.Go(func() {
		if err := f.Run(leases); err != nil {
			tb.Errorf("Run returned %v", err)
		}
	})
	end := sync.OnceFunc(func() { // the roster first, the bus last
		cancel()
		wg.Wait()
		forget()
		keeper.Wait()
		endBus()
	})
	tb.Cleanup(end)
	relaytest.Eventually(tb, "the node is ready", func() bool { return b.Ready() == nil && f.Ready() == nil })
	return &relaytest.RosterNode{Broker: b, Roster: r, Recorder: received, Cut: w.cut, End: end,
		Die: func() { w.cut(true); end() }}
}

// roster runs the suite.
func roster(t *testing.T, url string, times rosterTimes, flush func(tb testing.TB)) {
	relaytest.Roster(t, relaytest.RosterBackend{
		Open:  func(tb testing.TB) *relaytest.RosterNode { return rosterNode(tb, url, times) },
		Flush: flush,
	})
}

func flushAll(tb testing.TB, servers ...*redisproc.Server) {
	tb.Helper()
	for _, s := range servers {
		if err := s.Client().FlushAll(tb.Context()).Err(); err != nil && !strings.HasPrefix(err.Error(), "READONLY") {
			tb.Fatal(err)
		}
	}
}

func TestRosterOnRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	roster(t, r.URL(), quick, func(tb testing.TB) { flushAll(tb, r.Server) })
}

func TestRosterOnEmbeddedRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r, err := embedded.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	roster(t, r.URL(), quickEmbedded, func(tb testing.TB) {
		b := openWith(tb, redisbus.Options{URL: r.URL()})
		_, end := relaytest.Run(tb, b)
		defer end()
		if err := b.Flush(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	})
}

func TestRosterOnSentinel(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	roster(t, s.URL(), quick, func(tb testing.TB) { flushAll(tb, s.Servers...) })
}

func TestRosterOnCluster(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3})
	roster(t, c.URL(), quick, func(tb testing.TB) { flushAll(tb, c.Servers...) })
}

// quickEmbedded are times for a Redis whose keys expire to the second.
func quickEmbedded(o redisbus.FleetOptions) redisbus.FleetOptions {
	const ms = time.Millisecond
	return o.WithTimes(3000*ms, 100*ms, 300*ms, 3000*ms, 1000*ms)
}
