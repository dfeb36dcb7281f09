package relaytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"parley/pkg/relay"
)

// A reaper dies with half of its work done: the next one does the rest.
func testClaimsReaperDies(t *testing.T, s *claimsSuite) {
	a := s.node(t, "a")
	const n = 40
	for i := range n {
		a.claim(claimName("room", i), "h", true)
	}
	b := s.prepare(t, "b")
	stuck := make(chan struct{}, n)
	b.OnRelease("room", func(ctx context.Context, c relay.Claim) error {
		if c.Name < claimName("room", n/2) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.released[fmt.Sprint(c)]++
			return nil
		}
		stuck <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	b.run()
	a.die()
	<-stuck
	b.die()
	c := s.prepare(t, "c")
	c.OnRelease("room", func(_ context.Context, claim relay.Claim) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.released[fmt.Sprint(claim)]++
		return nil
	})
	c.run()
	for i := range n {
		c.gets(claimName("room", i), "new")
	}
	if got, want := releases(b, c), once("room", n, "a"); !maps.Equal(got, want) {
		t.Errorf("released: %v, want each claim once", got)
	}
	if len(releases(c)) < n/2 {
		t.Errorf("the second reaper has released %d claims, want %d or more", len(releases(c)), n/2)
	}
}

// A node is cut off for so long that it is taken for dead.
func testClaimsCutOff(t *testing.T, s *claimsSuite) {
	a, b := s.node(t, "a"), s.node(t, "b")
	a.claim("seat/1", "alice", true)
	a.claim("plain/1", "alice", true)
	a.set(CutOff)
	b.gets("seat/1", "bob")
	b.gets("plain/1", "bob")
	if _, err := a.Claim(t.Context(), "seat/2", "alice"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("a node that is cut off claims: %v, want %v", err, relay.ErrUnavailable)
	}
	if lost := a.losses(); len(lost) != 0 {
		t.Errorf("lost while it is cut off: %v", lost)
	}
	a.set(NoFault)
	a.gets("seat/3", "alice") // which it must not before it has told of its losses
	if got, want := a.losses(), []string{"plain/1", "seat/1"}; !slices.Equal(got, want) {
		t.Errorf("lost: %v, want %v", got, want)
	}
	a.mu.Lock()
	if !errors.Is(a.inLosing, relay.ErrUnavailable) {
		t.Errorf("a claim while claims are being lost: %v, want %v", a.inLosing, relay.ErrUnavailable)
	}
	for _, l := range a.lost {
		if l.Holder != "alice" || l.Node != "a" {
			t.Errorf("lost: %+v", l)
		}
	}
	a.mu.Unlock()
	b.holder("seat/1", "bob", "b")
	if got := releases(a, b); len(got) != 1 {
		t.Errorf("released: %v, want alice's seat once", got)
	}
}

// One that nobody was there to reap has lost nothing.
func testClaimsCutOffAlone(t *testing.T, s *claimsSuite) {
	a := s.node(t, "a")
	a.claim("seat/1", "alice", true)
	a.set(CutOff)
	Eventually(t, "the lease is in doubt", func() bool { return a.Ready() != nil })
	a.set(NoFault)
	a.gets("seat/2", "alice")
	if lost := a.losses(); len(lost) != 0 {
		t.Errorf("lost: %v", lost)
	}
	a.holder("seat/1", "alice", "a")
	a.claim("seat/1", "alice", true)
}

// Redis loses everything: claims stand, but for those that another one has taken
// before their node noticed.
func testClaimsFlush(t *testing.T, s *claimsSuite) {
	a, b := s.node(t, "a"), s.node(t, "b")
	const n = 10
	for i := range n {
		a.claim(claimName("seat", i), "alice", true)
	}
	a.set(CutOff)
	s.Flush(t)
	b.gets(claimName("seat", 3), "bob")
	a.set(NoFault)
	Eventually(t, "it is told what it has lost", func() bool { return len(a.losses()) > 0 })
	a.gets("seat/new", "alice")
	if got := strings.Join(a.losses(), " "); got != claimName("seat", 3) {
		t.Errorf("lost: %q, want %q", got, claimName("seat", 3))
	}
	for i := range n {
		if i == 3 {
			b.holder(claimName("seat", i), "bob", "b")
		} else {
			b.holder(claimName("seat", i), "alice", "a")
		}
	}
	if got := releases(a, b); len(got) != 0 {
		t.Errorf("released: %v", got)
	}
	if lost := b.losses(); len(lost) != 0 {
		t.Errorf("the other node has lost %v", lost)
	}
}

// A node that was cut off for so long that it may have been reaped before Redis lost
// everything cannot prove that it was not.
func testClaimsFlushInDoubt(t *testing.T, s *claimsSuite) {
	a := s.node(t, "a")
	a.claim("seat/1", "alice", true)
	a.set(CutOff)
	Eventually(t, "the lease is in doubt", func() bool { return a.Ready() != nil })
	s.Flush(t)
	a.set(NoFault)
	a.gets("seat/2", "alice")
	if got := strings.Join(a.losses(), " "); got != "seat/1" {
		t.Errorf("lost: %q, want %q", got, "seat/1")
	}
	a.holder("seat/1", "", "")
}

// What Redis has done without the node knowing is undone.
func testClaimsAnswerLost(t *testing.T, s *claimsSuite) {
	a, b := s.node(t, "a"), s.node(t, "b")
	a.claim("seat/kept", "alice", true)
	a.claim("seat/released", "alice", true)
	a.set(AnswerLost)
	if _, err := a.Claim(t.Context(), "seat/claimed", "alice"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("a claim without an answer: %v, want %v", err, relay.ErrUnavailable)
	}
	if _, err := a.Claim(t.Context(), "seat/given", "alice"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("a claim without an answer: %v, want %v", err, relay.ErrUnavailable)
	}
	a.set(CutOff)
	if err := a.Release(t.Context(), "seat/released", "alice"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("a release that Redis does not hear of: %v, want %v", err, relay.ErrUnavailable)
	}
	a.set(NoFault)
	a.gets("seat/given", "carol") // another client of the same node
	b.gets("seat/claimed", "bob")
	b.gets("seat/released", "bob")
	b.holder("seat/given", "carol", "a")
	a.gets("seat/new", "alice")
	b.claim("seat/kept", "bob", false)
	for _, name := range a.losses() {
		if name != "seat/kept" {
			t.Errorf("%s is called lost; the node has given it up", name)
		}
	}
}

// A node that ends gives back what it holds, without delay.
func testClaimsClose(t *testing.T, s *claimsSuite) {
	a, b := s.node(t, "a"), s.node(t, "b")
	const n = 20
	for i := range n {
		a.claim(claimName("term", i), "h", true)
		a.claim(claimName("plain", i), "h", true)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for i := range n {
		b.claim(claimName("term", i), "new", true)
		b.claim(claimName("plain", i), "new", true)
	}
	if got, want := releases(a), once("term", n, "a"); !maps.Equal(got, want) {
		t.Errorf("released: %v, want each claim once", got)
	}
	if got := releases(b); len(got) != 0 {
		t.Errorf("the survivor has released %v", got)
	}
	if _, err := a.Claim(t.Context(), "term/x", "h"); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("a claim after the end: %v, want %v", err, relay.ErrClosed)
	}
	if lost := a.losses(); len(lost) != 0 {
		t.Errorf("lost: %v", lost)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Errorf("Close again: %v", err)
	}
}
