package rest

import (
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// A user's requests are bounded, each at its cost; another one's, and those of another
// node, are not concerned.
func TestRate(t *testing.T) {
	f := newFleet(t, options{nodes: 2, config: func(c *Config) { c.Rate = 0.01 }}) // a burst of one message
	alice, bobby := f.users["alice"], f.users["bobby"]
	for range costMessage {
		f.nodes[0].ask(alice.token, "GET", "/Users/1", "").expect(http.StatusOK, "")
	}
	a := f.nodes[0].ask(alice.token, "GET", "/Users/1", "").expect(http.StatusTooManyRequests, `{"error":{"code":"too_many_requests","message":"too many requests (--rate)"}}`)
	if got := a.Header.Get("Retry-After"); got != "10" && got != "9" {
		t.Errorf("Retry-After: %q", got)
	}
	f.write(f.nodes[1], "alice", "bobby", "elsewhere")
	f.nodes[1].ask(alice.token, "GET", "/Users/1", "").expect(http.StatusTooManyRequests, "")
	f.nodes[0].ask(bobby.token, "GET", "/Users/1", "").expect(http.StatusOK, "")
	f.nodes[0].ask("", "GET", "/Users/1", "").expect(http.StatusUnauthorized, "")
}

func TestPacer(t *testing.T) {
	now := time.Now()
	p := newPacer(50) // 500 a second, 2000 at once
	for i := range 2000 {
		if wait := p.take("a", 1, now); wait != 0 {
			t.Fatalf("request %d waits for %v", i, wait)
		}
	}
	if wait := p.take("a", 1, now); wait != 2*time.Millisecond {
		t.Errorf("one more waits for %v", wait)
	}
	if wait := p.take("a", 10, now); wait != 20*time.Millisecond {
		t.Errorf("a message waits for %v", wait)
	}
	if wait := p.take("b", 10, now); wait != 0 {
		t.Errorf("another one waits for %v", wait)
	}
	if wait := p.take("a", 10, now.Add(20*time.Millisecond)); wait != 0 {
		t.Errorf("later it waits for %v", wait)
	}
	p.charge("b", 2000, now) // more than is left
	if wait := p.take("b", 1, now); wait != 22*time.Millisecond {
		t.Errorf("after that it waits for %v", wait)
	}
	p.charge("b", -1, now)
	p.take("c", 10, now)
	p.tidy(now.Add(3 * time.Second))
	if len(p.due) != 2 {
		t.Errorf("%d are remembered, want a and b", len(p.due))
	}
	p.tidy(now.Add(time.Minute))
	if len(p.due) != 0 {
		t.Errorf("%d are remembered for good", len(p.due))
	}
	if wait := newPacer(0).take("a", 1<<30, now); wait != 0 {
		t.Errorf("without a limit it waits for %v", wait)
	}
	for a, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::/64", "2001:db8::ffff:1": "2001:db8::/64"} {
		if got := paceOfAddress(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s counts as %s, want %s", a, got, want)
		}
	}
}

// A client that does not read what it asks for keeps others from nothing.
func TestReadsAtOnce(t *testing.T) {
	r := &readers{by: map[int64]int{}}
	for range maxUserReads {
		if err := r.enter(1); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.enter(1); problemOf(err).status != http.StatusTooManyRequests {
		t.Errorf("one more of a user: %v", err)
	}
	for i := range maxReads - maxUserReads {
		if err := r.enter(int64(i + 2)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.enter(1000); problemOf(err).status != http.StatusServiceUnavailable {
		t.Errorf("one more of a node: %v", err)
	}
	r.leave(1)
	if err := r.enter(1000); err != nil {
		t.Error(err)
	}
	for range maxUserReads - 1 {
		r.leave(1)
	}
	for i := range maxReads - maxUserReads {
		r.leave(int64(i + 2))
	}
	r.leave(1000)
	if r.total != 0 || len(r.by) != 0 {
		t.Errorf("%d are counted for good, of %d users", r.total, len(r.by))
	}
}
