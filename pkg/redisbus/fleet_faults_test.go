package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// fleetNode is a Fleet that runs, and notes what it has lost.
type fleetNode struct {
	*redisbus.Fleet
	t     *testing.T
	fault atomic.Int32
	die   func()
	mu    sync.Mutex
	lost  []string
}

func runFleet(t *testing.T, node string, find finder, times func(redisbus.FleetOptions) redisbus.FleetOptions) *fleetNode {
	t.Helper()
	n := &fleetNode{t: t}
	n.Fleet = openFleet(t, times(fleetOptions(t, node, find, func() relaytest.Fault { return relaytest.Fault(n.fault.Load()) })))
	n.OnLost(func(lost []relay.Claim) {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, c := range lost {
			n.lost = append(n.lost, c.Name)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.die = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: Run returned %v", node, err)
		}
	})
	t.Cleanup(n.die)
	relaytest.Eventually(t, node+" has a lease", func() bool { return n.Ready() == nil })
	return n
}

func (n *fleetNode) losses() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.lost)
	return strings.Join(n.lost, " ")
}

func (n *fleetNode) gets(name, holder string) {
	n.t.Helper()
	relaytest.Eventually(n.t, holder+" gets "+name, func() bool {
		got, err := n.Claim(n.t.Context(), name, holder)
		if err != nil && !errors.Is(err, relay.ErrUnavailable) {
			n.t.Fatal(err)
		}
		return got
	})
}

func (n *fleetNode) holds(name, holder, node string) {
	n.t.Helper()
	got, err := n.Holder(n.t.Context(), name)
	if want := (relay.Claim{Name: name, Holder: holder, Node: node}); err != nil || got != want {
		n.t.Errorf("the holder of %s is %+v (%v), want %+v", name, got, err, want)
	}
}

// patient are times with which a node is not taken for dead during a failover, and
// notices one soon.
func patient(o redisbus.FleetOptions) redisbus.FleetOptions {
	return o.WithTimes(time.Minute, 100*time.Millisecond, time.Second, 2*time.Second, time.Second)
}

// The times that nodes really have keep the promise.
func TestFleetReapsInTime(t *testing.T) {
	t.Parallel()
	const promised = 15 * time.Second
	if redisbus.LastRelease >= promised {
		t.Errorf("the last claim of a dead node is released after %v, want less than %v", redisbus.LastRelease, promised)
	}
	find := toOne(t, relaytest.StartRedis(t).URL())
	asIs := func(o redisbus.FleetOptions) redisbus.FleetOptions { return o }
	a, b := runFleet(t, "a", find, asIs), runFleet(t, "b", find, asIs)
	a.gets("seat/1", "alice")
	a.die()
	died := time.Now()
	b.gets("seat/1", "bob")
	t.Logf("released %v after the node's death", time.Since(died))
	b.holds("seat/1", "bob", "b")
}

// A replica that lacks the last claims becomes master: they are claimed again, but
// for what another node has taken by then.
func TestFleetAfterLaggingFailover(t *testing.T) {
	t.Parallel()
	s := relaytest.StartSentinel(t, redisproc.SentinelOptions{})
	find := through(t, s.URL())
	a, b := runFleet(t, "a", find, patient), runFleet(t, "b", find, patient)
	a.gets("seat/replicated", "alice")
	old, err := s.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := old.Client().Wait(t.Context(), 2, time.Second).Result(); err != nil || n != 2 {
		t.Fatalf("%d replicas have the first claim (%v), want 2", n, err)
	}
	if err := s.Isolate(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	a.gets("seat/kept", "alice")
	a.gets("seat/taken", "alice")
	a.fault.Store(int32(relaytest.CutOff))
	if _, err := s.WaitMoved(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	b.gets("seat/taken", "bob")
	a.fault.Store(int32(relaytest.NoFault))
	relaytest.Eventually(t, "it is told what it has lost", func() bool { return a.losses() != "" })
	a.gets("seat/new", "alice")
	if got, want := a.losses(), "seat/taken"; got != want {
		t.Errorf("lost: %q, want %q", got, want)
	}
	b.holds("seat/replicated", "alice", "a")
	b.holds("seat/kept", "alice", "a")
	b.holds("seat/taken", "bob", "b")
	if got := b.losses(); got != "" {
		t.Errorf("the other node has lost %q", got)
	}
}

// The slot of the fleet's keys moves while claims are made.
func TestFleetFollowsItsSlot(t *testing.T) {
	t.Parallel()
	c := relaytest.StartCluster(t, redisproc.ClusterOptions{Replicas: -1})
	n, err := c.Servers[0].Client().ClusterKeySlot(t.Context(), "{"+redisbus.FleetTag+"}").Result()
	if err != nil {
		t.Fatal(err)
	}
	slot := int(n)
	find := through(t, c.URL())
	a, b := runFleet(t, "a", find, patient), runFleet(t, "b", find, patient)
	stop := make(chan struct{})
	claimed := make(chan int)
	go func() {
		i := 0
		defer func() { claimed <- i }()
		for ; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if !a.eventually(fmt.Sprint("seat/", i)) {
				return
			}
		}
	}()
	for range 2 {
		for _, to := range c.Servers {
			if err := c.MoveSlot(t.Context(), slot, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	seats := <-claimed
	if seats == 0 {
		t.Fatal("nothing was claimed")
	}
	for i := range seats {
		b.holds(fmt.Sprint("seat/", i), "alice", "a")
	}
	if got := a.losses() + b.losses(); got != "" {
		t.Errorf("lost: %q", got)
	}
}

// eventually claims a name, from any goroutine; false after an error.
func (n *fleetNode) eventually(name string) bool {
	for deadline := time.Now().Add(relaytest.Patience); ; {
		got, err := n.Claim(n.t.Context(), name, "alice")
		if got {
			return true
		}
		if err == nil || !errors.Is(err, relay.ErrUnavailable) || time.Now().After(deadline) {
			n.t.Errorf("claiming %s: %v, %v", name, got, err)
			return false
		}
	}
}

// Redis stops for longer than leases last: everybody is back before anybody is taken
// for dead.
func TestFleetOutlivesStoppedRedis(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	times := func(o redisbus.FleetOptions) redisbus.FleetOptions {
		return o.WithTimes(2*time.Second, 200*time.Millisecond, 2*time.Second, 2*time.Second, time.Second)
	}
	find := toOne(t, r.URL())
	a, b := runFleet(t, "a", find, times), runFleet(t, "b", find, times)
	a.gets("seat/a", "alice")
	b.gets("seat/b", "bob")
	r.Stop(t)
	relaytest.Eventually(t, "the leases are in doubt", func() bool { return a.Ready() != nil && b.Ready() != nil })
	r.Cont(t)
	a.gets("seat/a2", "alice")
	b.gets("seat/b2", "bob")
	if got := a.losses() + b.losses(); got != "" {
		t.Errorf("lost: %q", got)
	}
	a.holds("seat/a", "alice", "a")
	a.holds("seat/b", "bob", "b")
}

// Redis is away for longer than leases last, and has all that it had when it is back. A
// node cannot know what it has lost, and gives up all; it has not to wait until its own
// former lease is reaped.
func TestFleetBackWithItsFile(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedisWith(t, redisproc.Options{Dir: t.TempDir(), AppendOnly: true, Args: []string{"--appendfsync", "always"}})
	neverLooks := func(o redisbus.FleetOptions) redisbus.FleetOptions {
		return o.WithTimes(time.Second, 100*time.Millisecond, time.Hour, 2*time.Second, time.Second)
	}
	a := runFleet(t, "a", toOne(t, r.URL()), neverLooks)
	a.gets("seat/a", "alice")
	r.Kill()
	relaytest.Eventually(t, "the lease is in doubt", func() bool { return a.Ready() != nil })
	r.Restart(t)
	relaytest.Eventually(t, "it is told what it has lost", func() bool { return a.losses() == "seat/a" })
	a.gets("seat/a", "bob")
	a.holds("seat/a", "bob", "a")
	a.gets("seat/a", "bob") // which it keeps
}

// More claims than one script goes through: Redis loses them, and their node dies.
func TestFleetOfManyClaims(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	find := toOne(t, r.URL())
	a, b := runFleet(t, "a", find, quick), runFleet(t, "b", find, quick)
	const n = 1203
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := w; i < n; i += 3 {
				if !a.eventually(fmt.Sprint("seat/", i)) {
					return
				}
			}
		})
	}
	wg.Wait()
	if got := figure(t, a.Fleet, "parley_claims"); got != n {
		t.Errorf("parley_claims is %v, want %d", got, n)
	}
	if err := r.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "it notices", func() bool { return figure(t, a.Fleet, "parley_lease_lost_total") == 1 })
	a.gets("seat/one-more", "alice")
	for i := range n {
		b.holds(fmt.Sprint("seat/", i), "alice", "a")
	}
	a.die()
	for i := range n {
		b.gets(fmt.Sprint("seat/", i), "bob")
	}
	relaytest.Eventually(t, "the node counts as reaped", func() bool { return figure(t, b.Fleet, "parley_reaped_nodes_total") == 1 })
	if got := figure(t, b.Fleet, "parley_released_claims_total"); got != n+1 {
		t.Errorf("parley_released_claims_total is %v, want %d", got, n+1)
	}
	if got := figure(t, a.Fleet, "parley_lost_claims_total"); got != 0 {
		t.Errorf("parley_lost_claims_total is %v, want 0", got)
	}
}

// figure is one of a fleet's metrics.
func figure(t *testing.T, f *redisbus.Fleet, name string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	for _, c := range f.Metrics().Collectors() {
		r.MustRegister(c)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families {
		if m.GetName() == name {
			return m.Metric[0].GetGauge().GetValue() + m.Metric[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// All keys are in one slot, and a fleet that ends leaves next to nothing.
func TestFleetKeys(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	find := toOne(t, r.URL())
	a, b := runFleet(t, "a", find, quick), runFleet(t, "b", find, quick)
	for i := range 3 {
		a.gets(fmt.Sprint("seat/", i), "alice")
	}
	keys := func() []string {
		keys, err := r.Client().Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	for _, k := range keys() {
		if !strings.HasPrefix(k, "parley:{"+redisbus.FleetTag+"}:") {
			t.Errorf("the key %q is not of the fleet's slot", k)
		}
	}
	for _, n := range []*fleetNode{a, b} {
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if got := keys(); len(got) != 1 || got[0] != "parley:{fleet}:birth" {
		t.Errorf("left behind: %v", got)
	}
}

// A node that is refused what it holds has lost it, and says so.
func TestFleetNoticesWhatItHasLost(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	slow := func(o redisbus.FleetOptions) redisbus.FleetOptions {
		return o.WithTimes(time.Hour, time.Hour, time.Hour, time.Second, time.Second)
	}
	a := runFleet(t, "a", toOne(t, r.URL()), slow)
	a.gets("seat/1", "alice")
	a.gets("seat/2", "alice")
	if err := r.Client().HSet(t.Context(), "parley:{fleet}:names", "seat/1", "other#1 bob").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Claim(t.Context(), "seat/1", "alice"); got || err != nil {
		t.Errorf("claiming what another has by now: %v, %v", got, err)
	}
	relaytest.Eventually(t, "it serves on", func() bool { return a.Ready() == nil })
	if got, want := a.losses(), "seat/1"; got != want {
		t.Errorf("lost: %q, want %q", got, want)
	}
	a.holds("seat/2", "alice", "a")
}

// Whoever asks about one name waits for those before, but no longer than promised.
func TestFleetAnswersInTime(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	a := runFleet(t, "a", toOne(t, r.URL()), patient)
	r.Stop(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := a.Claim(ctx, "seat/1", "alice"); !errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("claim while redis is stopped: %v", err)
			}
		})
	}
	began := time.Now()
	wg.Wait() // all of them have a bound of their own
	cancel()
	t.Logf("answered within %v", time.Since(began))
	r.Cont(t)
	a.gets("seat/1", "bob")
}

func TestNewFleetChecksOptions(t *testing.T) {
	find := func(context.Context) (redisbus.FleetClient, error) { return nil, errFault }
	for node, ok := range map[string]bool{"": false, "a b": false, "a\n": false,
		strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "host-1#2": true} {
		_, err := redisbus.NewFleet(redisbus.FleetOptions{Node: node, Client: find})
		if (err == nil) != ok {
			t.Errorf("node %q: %v", node, err)
		}
	}
	if _, err := redisbus.NewFleet(redisbus.FleetOptions{Node: "a"}); err == nil {
		t.Error("a fleet without a way to Redis")
	}
}

// Before Run, and after Close without it, nothing can be claimed.
func TestFleetThatDoesNotRun(t *testing.T) {
	find := func(context.Context) (redisbus.FleetClient, error) { return nil, errFault }
	f := openFleet(t, fleetOptions(t, "a", find, noFault))
	if _, err := f.Claim(t.Context(), "seat/1", "alice"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("claim before Run: %v", err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := f.Claim(t.Context(), "seat/1", "alice"); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("claim after Close: %v", err)
	}
	if err := f.Run(t.Context()); err != nil {
		t.Errorf("Run after Close: %v", err)
	}
}
