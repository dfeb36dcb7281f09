package crowd

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/textotest"
	"parley/cmd/parley-bench/internal/wsclient"
	"parley/pkg/relaytest"
)

// crowdOn starts a small crowd on a server that keeps messages.
func crowdOn(t *testing.T, s *textotest.Server) *Crowd {
	t.Helper()
	target, err := wsclient.ParseTarget(s.URL, texto.Path)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{Clients: 7, Targets: []wsclient.Target{target}, Rate: 400, Size: 64, Seed: 1,
		Ledger: ledger.New(), Nonce: 100, Concurrency: 2})
	t.Cleanup(c.Close)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func keeper(t *testing.T, fate func(int) textotest.Fate) *textotest.Server {
	t.Helper()
	s := textotest.Start(fate, nil)
	s.Keep()
	t.Cleanup(s.Close)
	return s
}

// flows waits until a message of every client has gone all the way.
func flows(t *testing.T, c *Crowd) {
	t.Helper()
	select {
	case <-c.Watch(nil).Done():
	case <-time.After(relaytest.Patience):
		t.Fatal("not every client's messages arrive")
	}
}

func (c *Crowd) connections() (n int) {
	for _, k := range c.Events().Ended {
		n += k
	}
	return n
}

func settled(t *testing.T, c *Crowd) ledger.Totals {
	t.Helper()
	if !c.Settle(t.Context(), relaytest.Patience) {
		t.Fatal("not all clients are connected at the end")
	}
	return c.Ledger().Totals()
}

func TestAnUndisturbedCrowdLosesNothing(t *testing.T) {
	t.Parallel()
	c := crowdOn(t, keeper(t, nil))
	var latency hist.Histogram
	c.Measure(&latency)
	flows(t, c)
	for _, client := range c.Clients() {
		client.register()
	}
	flows(t, c)
	got := settled(t, c)
	if len(c.Clients()) != 8 || got.Sent == 0 || got.Delivered != got.Sent || got.Acknowledged != got.Sent || !got.Kept() || got.Told+got.SentAgain > 0 {
		t.Errorf("%d clients: %+v", len(c.Clients()), got)
	}
	if e := c.Events(); e.Fresh+e.Recovered+e.NotRecovered+e.Gaps != 0 || c.connections() != 0 {
		t.Errorf("%+v", e)
	}
	if timesOf := quantile(&latency); timesOf <= 0 {
		t.Errorf("latency %v", timesOf)
	}
}

func quantile(h *hist.Histogram) time.Duration {
	var s hist.Snapshot
	s.Add(h)
	return s.Quantile(0.5)
}

func TestWhoResumesMissesNothing(t *testing.T) {
	t.Parallel()
	s := keeper(t, nil)
	c := crowdOn(t, s)
	flows(t, c)
	s.HangUp()
	relaytest.Eventually(t, "all connections ended", func() bool { return c.connections() >= 8 })
	flows(t, c)
	got := settled(t, c)
	if got.Lost+got.Told+got.FalselyRecovered != 0 || !got.Kept() {
		t.Errorf("%+v", got)
	}
	if e := c.Events(); e.Recovered < 8 || e.NotRecovered+e.Fresh+e.Gaps != 0 {
		t.Errorf("%+v", e)
	}
	var reconnects hist.Snapshot
	reconnects.Add(&c.Reconnects)
	if reconnects.Count < 8 {
		t.Errorf("%d reconnects", reconnects.Count)
	}
}

// away has half of the crowd miss messages that are lost before it is back.
func away(t *testing.T, s *textotest.Server, c *Crowd, lose func()) {
	t.Helper()
	flows(t, c)
	var gone []*Client
	for i, client := range c.Clients() {
		if i%2 == 0 {
			client.Leave()
			gone = append(gone, client)
		}
	}
	relaytest.Eventually(t, "the clients are away", func() bool { return c.Connected() == len(c.Clients())-len(gone) })
	before := c.Ledger().Totals().Acknowledged
	relaytest.Eventually(t, "messages are missed", func() bool { return c.Ledger().Totals().Acknowledged > before+20 })
	c.Quiet(true)
	relaytest.Eventually(t, "all answers have come", func() bool { return c.Ledger().Totals().Unanswered == 0 })
	lose()
	for _, client := range gone {
		client.Return()
	}
	relaytest.Eventually(t, "the clients are back", func() bool { return c.Connected() == len(c.Clients()) })
	c.Quiet(false)
	flows(t, c)
}

func TestWhatIsToldIsNotLostSilently(t *testing.T) {
	t.Parallel()
	s := keeper(t, nil)
	c := crowdOn(t, s)
	away(t, s, c, s.Forget)
	got := settled(t, c)
	if got.Told == 0 || got.Lost != 0 || got.FalselyRecovered != 0 || !got.Kept() {
		t.Errorf("%+v", got)
	}
	if e := c.Events(); e.NotRecovered != 4 || e.Fresh != 0 {
		t.Errorf("%+v", e)
	}
}

func TestALieIsFoundOut(t *testing.T) {
	t.Parallel()
	s := keeper(t, nil)
	c := crowdOn(t, s)
	s.Lie()
	away(t, s, c, s.Forget)
	relaytest.Eventually(t, "the clients' connections are old enough", func() bool {
		return c.Ledger().Totals().FalselyRecovered > 0
	})
	got := settled(t, c)
	if got.Lost == 0 || got.FalselyRecovered != got.Lost || got.Told != 0 || got.Kept() {
		t.Errorf("%+v", got)
	}
}

func TestARefusedTokenIsANewAddress(t *testing.T) {
	t.Parallel()
	s := keeper(t, nil)
	c := crowdOn(t, s)
	away(t, s, c, s.Disown)
	got := settled(t, c)
	if got.Told == 0 || got.Lost != 0 || !got.Kept() {
		t.Errorf("%+v", got)
	}
	if e := c.Events(); e.Fresh != 4 || e.NotRecovered+e.Recovered != 0 {
		t.Errorf("%+v", e)
	}
}

func TestAGapIsToldInPlace(t *testing.T) {
	t.Parallel()
	dropping := make(chan struct{})
	s := keeper(t, func(n int) textotest.Fate {
		select {
		case <-dropping:
			return textotest.Deliver
		default:
		}
		if n >= 50 && n < 100 {
			return textotest.Drop
		}
		return textotest.Deliver
	})
	c := crowdOn(t, s)
	relaytest.Eventually(t, "messages were dropped", func() bool { return s.Count(textotest.Drop) >= 50 })
	c.Quiet(true)
	relaytest.Eventually(t, "all answers have come", func() bool { return c.Ledger().Totals().Unanswered == 0 })
	s.TellGap()
	relaytest.Eventually(t, "all are told", func() bool { return c.Events().Gaps == 8 })
	c.Quiet(false)
	flows(t, c)
	got := settled(t, c)
	if lost := s.Count(textotest.Drop); got.Lost+got.Told != lost || got.Told == 0 {
		t.Errorf("%d dropped: %+v", lost, got)
	}
	close(dropping)
}

func TestWhatIsSentAgainIsDroppedAndWhatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	s := keeper(t, func(n int) textotest.Fate {
		switch n {
		case 10:
			return textotest.Duplicate // with the same id: a client that knows it drops it
		case 20:
			return textotest.Alter
		case 30:
			return textotest.AckUnknown
		case 40:
			return textotest.Drop
		case 50:
			return textotest.Refuse
		case 60:
			return textotest.Malformed
		}
		return textotest.Deliver
	})
	c := crowdOn(t, s)
	relaytest.Eventually(t, "enough was sent", func() bool { return c.Ledger().Totals().Sent > 100 })
	got := settled(t, c)
	// The altered one was not delivered as it was sent.
	if got.SentAgain != 1 || got.Duplicated != 0 || got.Foreign != 3 || got.Lost != 2 || got.RefusedBy["ERATE"] != 1 || got.Kept() {
		t.Errorf("%+v", got)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	restart := &wsclient.CloseError{Code: CloseRestart}
	for name, c := range map[string]struct {
		err     error
		attempt int
		least   time.Duration
		most    time.Duration
	}{
		"first":            {errors.New("x"), 1, 0, backoffBase},
		"third":            {errors.New("x"), 3, 0, 4 * backoffBase},
		"capped":           {errors.New("x"), 99, 0, backoffCap},
		"a node drains":    {restart, 5, 0, backoffBase},
		"try later":        {&wsclient.CloseError{Code: closeTryLater}, 1, backoffBase, 2 * backoffBase},
		"the server's own": {&wsclient.HandshakeError{Status: 503, RetryAfter: 3 * time.Second}, 1, 3 * time.Second, 3*time.Second + backoffBase},
		"that is bounded":  {fmt.Errorf("x: %w", &wsclient.HandshakeError{RetryAfter: time.Hour}), 1, backoffCap, backoffCap + backoffBase},
	} {
		if least, most := backoff(c.err, c.attempt, 0), backoff(c.err, c.attempt, 1); least != c.least || most != c.most {
			t.Errorf("%s: from %v to %v, want %v to %v", name, least, most, c.least, c.most)
		}
	}
}

func TestSeenForgetsTheOldest(t *testing.T) {
	t.Parallel()
	var s seen
	id := func(i int) []byte { return fmt.Appendf(nil, "%036d", i) }
	for i := range maxSeen {
		if s.add(id(i)) {
			t.Fatalf("%d is known", i)
		}
	}
	if !s.add(id(0)) || !s.add(id(maxSeen-1)) {
		t.Error("forgotten too early")
	}
	if s.add(id(maxSeen)) || s.add(id(0)) {
		t.Error("the oldest is known still")
	}
	if len(s.ids) != maxSeen || len(s.ring) != maxSeen {
		t.Errorf("%d ids and a ring of %d", len(s.ids), len(s.ring))
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	s := textotest.Start(nil, func(int) int { return 503 })
	defer s.Close()
	target, err := wsclient.ParseTarget(s.URL, texto.Path)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{Clients: 2, Targets: []wsclient.Target{target}, Ledger: ledger.New()})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if refused := c.Events().Refused["refused with HTTP 503"]; refused == 0 {
		t.Errorf("%+v", c.Events())
	}
}
