package pull_test

import (
	"context"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/pull"
	"parley/cmd/parley-bench/internal/pulltest"
	"parley/pkg/relaytest"
)

// played has two senders write to two receivers on a tiny server, each message after the
// one before was pulled or settle says that it never will be.
func played(t *testing.T, messages int, fate func(int) pulltest.Fate) (*pull.Crowd, *ledger.Ledger, *pulltest.Server) {
	t.Helper()
	s := pulltest.Start(fate)
	t.Cleanup(s.Close)
	client := pull.NewClient(nil, 8)
	t.Cleanup(client.Close)
	var users []pull.User
	for range 4 {
		u, err := client.SignUp(t.Context(), s.URL)
		if err != nil {
			t.Fatal(err)
		}
		users = append(users, u)
	}
	l := ledger.New()
	c := pull.NewCrowd(pull.Config{Client: client, Nodes: []string{s.URL, s.URL}, Senders: users[:2], Receivers: users[2:], Ledger: l,
		Nonce: 7, Size: 64, Wait: 50 * time.Millisecond, Slack: 10 * time.Second, Most: 10})
	ctx, stop := context.WithCancel(t.Context())
	c.Listen(ctx)
	for i := range messages {
		c.Write(t.Context(), i%2, i/2%2)
	}
	before, since := int64(-1), time.Now()
	relaytest.Eventually(t, "all has come", func() bool {
		if now := c.Delivered.Load(); now != before {
			before, since = now, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond // more than a failure's pause
	})
	stop()
	c.Join()
	return c, l, s
}

func every(k int, f pulltest.Fate) func(int) pulltest.Fate {
	return func(n int) pulltest.Fate {
		if n%k == k/2 {
			return f
		}
		return pulltest.Deliver
	}
}

func TestAnHonestServerIsBelieved(t *testing.T) {
	t.Parallel()
	c, l, _ := played(t, 400, nil)
	m, n := l.Totals(), c.Notices()
	if !m.Kept() || m.Acknowledged != 400 || m.Delivered != 400 || m.Reordered != 0 || len(c.Failures()) != 0 || !c.Settled() {
		t.Errorf("%+v, failures %v", m, c.Failures())
	}
	if n.Came != 400 || n.Missed != 0 || n.Repeated != 0 || n.Surplus != 0 || n.Gaps != 0 || n.Polls == 0 {
		t.Errorf("%+v", n)
	}
	if c.Backlog(0) != 0 || c.Backlog(1) != 0 {
		t.Errorf("backlogs %d, %d", c.Backlog(0), c.Backlog(1))
	}
}

func TestWhatAServerDoesIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fate  pulltest.Fate
		found func(m ledger.Totals, n pull.Notices) uint64 // must equal the server's count
	}{
		"dropped":        {pulltest.Drop, func(m ledger.Totals, _ pull.Notices) uint64 { return m.Lost }},
		"not notified":   {pulltest.DropNotice, func(_ ledger.Totals, n pull.Notices) uint64 { return n.Missed }},
		"pulled twice":   {pulltest.Duplicate, func(m ledger.Totals, _ pull.Notices) uint64 { return m.Duplicated }},
		"notified twice": {pulltest.RepeatNotice, func(_ ledger.Totals, n pull.Notices) uint64 { return n.Repeated }},
		"another notice": {pulltest.AgainNotice, func(_ ledger.Totals, n pull.Notices) uint64 { return n.Surplus }},
		"altered":        {pulltest.Alter, func(m ledger.Totals, _ pull.Notices) uint64 { return min(m.Foreign, m.Lost) }},
		"gap":            {pulltest.Gap, func(_ ledger.Totals, n pull.Notices) uint64 { return n.Gaps }},
		"refused":        {pulltest.Refuse, func(m ledger.Totals, _ pull.Notices) uint64 { return m.RefusedBy["too_many_requests"] }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crowd, l, s := played(t, 200, every(20, c.fate))
			m, n := l.Totals(), crowd.Notices()
			if did := s.Count(c.fate); did != 10 || c.found(m, n) != did {
				t.Errorf("found %d, the server did it %d times: %+v, %+v", c.found(m, n), did, m, n)
			}
			if c.fate != pulltest.Duplicate && c.fate != pulltest.Alter && c.fate != pulltest.Drop && !m.Kept() {
				t.Errorf("something else was found: %+v", m)
			}
			if n.Missed > 0 != (c.fate == pulltest.DropNotice) {
				t.Errorf("%+v", n)
			}
		})
	}
}

func TestSwappedMessagesAreFound(t *testing.T) {
	t.Parallel()
	_, l, s := played(t, 200, every(20, pulltest.Swap))
	// One that has waited in vain at the end is lost.
	if m, did := l.Totals(), s.Count(pulltest.Swap); did != 10 || m.Reordered+m.Lost != did || m.Lost > 1 {
		t.Errorf("the server swapped %d: %+v", did, m)
	}
}

func TestWhatAPullHasLostIsGotAllTheSame(t *testing.T) {
	t.Parallel()
	c, l, s := played(t, 400, every(40, pulltest.Break))
	if m := l.Totals(); s.Count(pulltest.Break) != 10 || !m.Kept() || m.Delivered != 400 || m.Reordered != 0 {
		t.Errorf("%+v", m)
	}
	broken := 0
	for what, n := range c.Failures() {
		if what != "pull: ended without a close frame" {
			t.Errorf("%s: %d", what, n)
		}
		broken += n
	}
	if broken == 0 || broken > 10 {
		t.Errorf("%d pulls were broken off", broken)
	}
}

func TestGapsExcuseWhatWasSentBefore(t *testing.T) {
	t.Parallel()
	c, l, _ := played(t, 8, func(n int) pulltest.Fate {
		switch {
		case n < 4: // two to each receiver
			return pulltest.DropNotice
		case n == 4:
			return pulltest.Gap // to the first
		}
		return pulltest.Deliver
	})
	n := c.Notices()
	if m := l.Totals(); !m.Kept() || m.Delivered != 8 {
		t.Errorf("%+v", m)
	}
	if n.Gaps != 1 || n.Told != 3 || n.Missed != 2 {
		t.Errorf("%+v, want three told, the one of the gap among them, and two missed", n)
	}
}

func TestFailuresAreCountedByCause(t *testing.T) {
	t.Parallel()
	s := pulltest.Start(nil)
	t.Cleanup(s.Close)
	client := pull.NewClient(nil, 1)
	t.Cleanup(client.Close)
	_, err := client.Poll(t.Context(), s.URL, pull.User{Token: "x"}, 0, 1, "")
	if got := pull.Cause(err); got != "HTTP 401 unauthorized" {
		t.Errorf("%v", err)
	}
	u, err := client.SignUp(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err = client.Poll(ctx, s.URL, u, time.Minute, 1, ""); pull.Cause(err) != "timed out" {
		t.Errorf("%v", err)
	}
	s.Close()
	if _, err = client.Poll(t.Context(), s.URL, u, 0, 1, ""); pull.Cause(err) != "connection refused" {
		t.Errorf("%v", err)
	}
}

func TestPathsOfPolls(t *testing.T) {
	for want, got := range map[string]string{
		"/me?timeout=60":                   pull.PollPath(time.Minute, 0, ""),
		"/me?after=1-2&max=5&timeout=0.25": pull.PollPath(250*time.Millisecond, 5, "1-2"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestWatchTellsWhenAllAreServed(t *testing.T) {
	t.Parallel()
	s := pulltest.Start(nil)
	t.Cleanup(s.Close)
	client := pull.NewClient(nil, 8)
	t.Cleanup(client.Close)
	var users []pull.User
	for range 3 {
		u, err := client.SignUp(t.Context(), s.URL)
		if err != nil {
			t.Fatal(err)
		}
		users = append(users, u)
	}
	c := pull.NewCrowd(pull.Config{Client: client, Nodes: []string{s.URL}, Senders: users[:1], Receivers: users[1:], Ledger: ledger.New(),
		Nonce: 7, Size: 36, Wait: time.Second, Slack: 10 * time.Second, Most: 10})
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); c.Join() })
	c.Listen(ctx)
	c.Watch()
	if _, _, left := c.Watched(); left != 2 {
		t.Errorf("%d left", left)
	}
	for to, left := range []int{1, 0} {
		if !c.Write(t.Context(), 0, to) {
			t.Fatal("not acknowledged")
		}
		relaytest.Eventually(t, "it is pulled", func() bool {
			_, _, now := c.Watched()
			return now == left
		})
	}
	if first, last, _ := c.Watched(); first <= 0 || last < first {
		t.Errorf("first %v, last %v", first, last)
	}
}
