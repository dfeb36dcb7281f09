package relaytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

// Fault is what goes wrong between a node and Redis.
type Fault int32

const (
	NoFault    Fault = iota
	CutOff           // nothing that the node asks reaches Redis
	AnswerLost       // it does, but nothing comes back
)

// ClaimsNode is one node's part in the claims of a fleet. To end Run without Close
// is the node's death.
type ClaimsNode interface {
	relay.Claims
	OnRelease(kind string, release func(context.Context, relay.Claim) error)
	OnLost(lost func([]relay.Claim))
	Run(ctx context.Context) error
	Close(ctx context.Context) error
	Ready() error
	Nodes(ctx context.Context) ([]relay.Node, error)
}

// ClaimsBackend is a Redis and the nodes on it. Leases should last for a second or
// so, so that the suite does not.
type ClaimsBackend struct {
	// Open makes the part of one more node, which tells that it has seven clients.
	// Nothing runs yet. Fault is asked about everything that goes to Redis.
	Open func(tb testing.TB, node string, fault func() Fault) ClaimsNode
	// Flush has Redis lose all its data.
	Flush func(tb testing.TB)
}

// Claims holds an implementation to the contract of relay.Claims, and to what is
// promised for the death of nodes.
func Claims(t *testing.T, b ClaimsBackend) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *claimsSuite)
	}{
		{"one holder at a time", testClaimsExclude},
		{"only the holder releases", testClaimsHolder},
		{"bad names", testClaimsBadNames},
		{"nodes", testClaimsNodes},
		{"a node dies", testClaimsDeath},
		{"a release fails", testClaimsReleaseFails},
		{"a reaper dies", testClaimsReaperDies},
		{"a node is cut off and reaped", testClaimsCutOff},
		{"a node is cut off and not reaped", testClaimsCutOffAlone},
		{"redis loses its data", testClaimsFlush},
		{"redis loses its data while a node is cut off for long", testClaimsFlushInDoubt},
		{"answers are lost", testClaimsAnswerLost},
		{"a node ends", testClaimsClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.Flush(t) // what the test before has left
			c.test(t, &claimsSuite{b})
		})
	}
}

type claimsSuite struct{ ClaimsBackend }

// claimer is one node of a test.
type claimer struct {
	ClaimsNode
	t     *testing.T
	name  string
	fault atomic.Int32
	die   func() // ends it without a word, and waits

	mu       sync.Mutex
	lost     []relay.Claim
	inLosing error // what Claim answered while claims were being lost
	released map[string]int
}

func (s *claimsSuite) node(t *testing.T, name string) *claimer {
	t.Helper()
	c := s.prepare(t, name)
	c.run()
	return c
}

// prepare makes a node that notes what it loses and what it releases of the kinds
// "seat" and "term". It does not run yet.
func (s *claimsSuite) prepare(t *testing.T, name string) *claimer {
	t.Helper()
	c := &claimer{t: t, name: name, released: map[string]int{}}
	c.ClaimsNode = s.Open(t, name, func() Fault { return Fault(c.fault.Load()) })
	c.OnLost(func(lost []relay.Claim) {
		_, err := c.Claim(context.Background(), "seat/too-early", "x")
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lost = append(c.lost, lost...)
		c.inLosing = err
	})
	for _, kind := range []string{"seat", "term"} {
		c.OnRelease(kind, func(_ context.Context, claim relay.Claim) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.released[fmt.Sprint(claim)]++
			return nil
		})
	}
	return c
}

func (c *claimer) run() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	c.die = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("%s: Run returned %v", c.name, err)
		}
	})
	c.t.Cleanup(c.die)
	Eventually(c.t, c.name+" has a lease", func() bool { return c.Ready() == nil })
}

func (c *claimer) set(f Fault) { c.fault.Store(int32(f)) }

// claim claims a name, which must end as wanted.
func (c *claimer) claim(name, holder string, want bool) {
	c.t.Helper()
	got, err := c.Claim(c.t.Context(), name, holder)
	if err != nil || got != want {
		c.t.Fatalf("%s claims %s for %s: %v, %v; want %v", c.name, name, holder, got, err, want)
	}
}

// holder checks who has a name, "" for nobody.
func (c *claimer) holder(name, holder, node string) {
	c.t.Helper()
	got, err := c.Holder(c.t.Context(), name)
	want := relay.Claim{Name: name, Holder: holder, Node: node}
	if holder == "" {
		want = relay.Claim{}
	}
	if err != nil || got != want {
		c.t.Errorf("%s: the holder of %s is %+v (%v), want %+v", c.name, name, got, err, want)
	}
}

// gets claims a name as often as it takes until it is given.
func (c *claimer) gets(name, holder string) {
	c.t.Helper()
	Eventually(c.t, fmt.Sprintf("%s gets %s", c.name, name), func() bool {
		got, err := c.Claim(c.t.Context(), name, holder)
		if err != nil && !errors.Is(err, relay.ErrUnavailable) {
			c.t.Fatalf("%s claims %s: %v", c.name, name, err)
		}
		return got
	})
}

// losses are the names that were lost so far, in order.
func (c *claimer) losses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, l := range c.lost {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

// releases are how often each claim was released on some nodes together.
func releases(nodes ...*claimer) map[string]int {
	all := map[string]int{}
	for _, c := range nodes {
		c.mu.Lock()
		for claim, n := range c.released {
			all[claim] += n
		}
		c.mu.Unlock()
	}
	return all
}

func claimName(kind string, i int) string { return fmt.Sprintf("%s/%03d", kind, i) }

// once is what releases should be when all claims of a kind were released once.
func once(kind string, n int, node string) map[string]int {
	all := map[string]int{}
	for i := range n {
		all[fmt.Sprint(relay.Claim{Name: claimName(kind, i), Holder: "h", Node: node})] = 1
	}
	return all
}

func testClaimsExclude(t *testing.T, s *claimsSuite) {
	nodes := []*claimer{s.node(t, "a"), s.node(t, "b"), s.node(t, "c")}
	const names, holders, rounds = 3, 4, 15
	var inside [names]atomic.Int32
	var wins atomic.Int32
	var wg sync.WaitGroup
	for _, n := range nodes {
		for h := range holders {
			wg.Go(func() {
				for i := range rounds * names {
					name := claimName("seat", i%names)
					got, err := n.Claim(t.Context(), name, fmt.Sprint(h))
					if err != nil {
						t.Errorf("%s claims %s: %v", n.name, name, err)
						return
					}
					if !got {
						continue
					}
					wins.Add(1)
					if in := inside[i%names].Add(1); in != 1 {
						t.Errorf("%d hold %s at the same time", in, name)
					}
					inside[i%names].Add(-1)
					if err := n.Release(t.Context(), name, fmt.Sprint(h)); err != nil {
						t.Errorf("%s releases %s: %v", n.name, name, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if wins.Load() < names {
		t.Errorf("%d claims succeeded, want %d or more", wins.Load(), names)
	}
	for i := range names {
		nodes[0].holder(claimName("seat", i), "", "")
	}
}

func testClaimsHolder(t *testing.T, s *claimsSuite) {
	a, b := s.node(t, "a"), s.node(t, "b")
	a.holder("seat/1", "", "")
	a.claim("seat/1", "alice", true)
	a.claim("seat/1", "alice", true) // again
	a.claim("seat/1", "bob", false)
	b.claim("seat/1", "alice", false) // the same name, a client of another node
	b.holder("seat/1", "alice", "a")
	for _, no := range []struct {
		c      *claimer
		holder string
	}{{a, "bob"}, {b, "alice"}} {
		if err := no.c.Release(t.Context(), "seat/1", no.holder); err != nil {
			t.Errorf("releasing what another has: %v", err)
		}
		b.holder("seat/1", "alice", "a")
	}
	if err := a.Release(t.Context(), "seat/1", "alice"); err != nil {
		t.Error(err)
	}
	b.holder("seat/1", "", "")
	if err := a.Release(t.Context(), "seat/1", "alice"); err != nil {
		t.Errorf("releasing what nobody has: %v", err)
	}
	b.claim("seat/1", "with a space / and a slash", true)
	a.holder("seat/1", "with a space / and a slash", "b")
}

func testClaimsBadNames(t *testing.T, s *claimsSuite) {
	a := s.node(t, "a")
	long := strings.Repeat("x", 512)
	for _, bad := range []struct{ name, holder string }{
		{"", "h"}, {"seat", "h"}, {"seat/", "h"}, {"/1", "h"}, {"seat/1", ""}, {"s/" + long[:511], "h"}, {"seat/1", long + "x"},
	} {
		if _, err := a.Claim(t.Context(), bad.name, bad.holder); err == nil || errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("claim %q for %q: %v", bad.name, bad.holder, err)
		}
		if err := a.Release(t.Context(), bad.name, bad.holder); err == nil || errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("release %q for %q: %v", bad.name, bad.holder, err)
		}
	}
	a.claim("s/"+long[:510], long, true)
	a.holder("s/"+long[:510], long, "a")
}

func testClaimsNodes(t *testing.T, s *claimsSuite) {
	a, b := s.node(t, "a"), s.node(t, "b")
	ids := func() string {
		nodes, err := a.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, n := range nodes {
			ids = append(ids, n.ID)
			if n.Address == "" || n.Version == "" || n.Started.IsZero() || n.Counts["clients"] != 7 {
				t.Errorf("a node tells of itself: %+v", n)
			}
		}
		return strings.Join(ids, " ")
	}
	if got := ids(); got != "a b" {
		t.Errorf("the nodes are %q, want %q", got, "a b")
	}
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := ids(); got != "a" {
		t.Errorf("after one has ended the nodes are %q, want %q", got, "a")
	}
}

func testClaimsDeath(t *testing.T, s *claimsSuite) {
	a, b, c := s.node(t, "a"), s.node(t, "b"), s.node(t, "c")
	const n = 40
	for i := range n {
		a.claim(claimName("seat", i), "h", true)
		a.claim(claimName("plain", i), "h", true) // nobody releases this kind
	}
	b.claim("seat/of-b", "h", true)
	a.die()
	b.claim("seat/000", "h", false) // not before it is released
	died := time.Now()
	Eventually(t, "the survivors release what the dead node held", func() bool { return len(releases(b, c)) == n })
	for i := range n {
		b.gets(claimName("seat", i), "new")
		b.gets(claimName("plain", i), "new")
	}
	t.Logf("released after %v", time.Since(died))
	if got, want := releases(b, c), once("seat", n, "a"); !maps.Equal(got, want) {
		t.Errorf("released: %v, want each claim once", got)
	}
	c.holder("seat/of-b", "h", "b")
	if lost := append(b.losses(), c.losses()...); len(lost) != 0 {
		t.Errorf("survivors have lost %v", lost)
	}
}

func testClaimsReleaseFails(t *testing.T, s *claimsSuite) {
	a := s.node(t, "a")
	b := s.prepare(t, "b")
	var calls atomic.Int32
	b.OnRelease("room", func(_ context.Context, c relay.Claim) error {
		if c.Name != "room/bad" {
			return nil
		}
		if calls.Add(1) < 3 {
			return errors.New("not now")
		}
		return nil
	})
	b.run()
	a.claim("room/bad", "h", true)
	a.claim("room/good", "h", true)
	a.claim("seat/good", "h", true)
	a.die()
	b.gets("room/good", "new")
	b.gets("seat/good", "new")
	b.gets("room/bad", "new")
	if calls.Load() != 3 {
		t.Errorf("the release was tried %d times, want 3", calls.Load())
	}
	if n := len(releases(b)); n != 1 {
		t.Errorf("%d seats were released, want 1", n)
	}
}
