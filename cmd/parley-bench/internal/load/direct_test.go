package load

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/textotest"
	"parley/cmd/parley-bench/internal/wsclient"
)

func fleetOf(t *testing.T, servers ...*textotest.Server) Fleet {
	t.Helper()
	f := Fleet{Concurrency: 4, Timeout: 10 * time.Second}
	for _, s := range servers {
		t.Cleanup(s.Close)
		target, err := wsclient.ParseTarget(s.URL, "/v1/texto")
		if err != nil {
			t.Fatal(err)
		}
		f.Targets = append(f.Targets, target)
	}
	return f
}

// short is a run of a fraction of a second.
func short(t *testing.T, servers ...*textotest.Server) *Direct {
	return &Direct{Fleet: fleetOf(t, servers...), Pairs: 3, Window: 4, Size: 64,
		Duration: 100 * time.Millisecond, Drain: 300 * time.Millisecond, Linger: 50 * time.Millisecond, GiveUp: 100 * time.Millisecond}
}

func run(t *testing.T, d *Direct) *DirectResult {
	t.Helper()
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// every gives one fate to every k-th message, and lets the others be.
func every(k int, f textotest.Fate) func(int) textotest.Fate {
	return func(n int) textotest.Fate {
		if n%k == k-1 {
			return f
		}
		return textotest.Deliver
	}
}

func TestTheLedgerFindsWhatTheServerDid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fate textotest.Fate
		// found returns what of the totals must equal the server's count.
		found    func(ledger.Totals) uint64
		kept     bool
		kind     ledger.Kind
		code     string
		unsettle bool // messages stay open until the drain is over
	}{
		"dropped":     {textotest.Drop, func(t ledger.Totals) uint64 { return t.Lost }, false, ledger.Lost, "", true},
		"duplicated":  {textotest.Duplicate, func(t ledger.Totals) uint64 { return t.Duplicated }, false, ledger.Duplicated, "", false},
		"refused":     {textotest.Refuse, func(t ledger.Totals) uint64 { return t.RefusedBy["ERATE"] }, true, ledger.Refused, "ERATE", false},
		"broker":      {textotest.RefuseBroker, func(t ledger.Totals) uint64 { return t.RefusedBy["EBROKER"] }, true, ledger.Refused, "EBROKER", false},
		"refused all": {textotest.RefuseAll, func(t ledger.Totals) uint64 { return t.Denied }, true, ledger.Denied, "EBROKER", false},
		"silent":      {textotest.Silence, func(t ledger.Totals) uint64 { return t.Unacknowledged }, true, ledger.Unacknowledged, "", true},
		"vanished":    {textotest.Vanish, func(t ledger.Totals) uint64 { return t.Unanswered }, true, ledger.Unanswered, "", true},
		"answered":    {textotest.AnswerTwice, func(t ledger.Totals) uint64 { return t.AnsweredAgain }, true, ledger.AnsweredAgain, "", false},
		"altered":     {textotest.Alter, func(t ledger.Totals) uint64 { return min(t.Foreign, t.Lost) }, false, ledger.Strange, "", true},
		"misdirected": {textotest.Misdirect, func(t ledger.Totals) uint64 { return min(t.Foreign, t.Lost) }, false, ledger.Strange, "", true},
		"forged":      {textotest.Forge, func(t ledger.Totals) uint64 { return min(t.Foreign, t.Lost) }, false, ledger.Strange, "", true},
		"unknown ack": {textotest.AckUnknown, func(t ledger.Totals) uint64 { return t.Foreign }, false, ledger.Strange, "", false},
		"malformed":   {textotest.Malformed, func(t ledger.Totals) uint64 { return t.Foreign }, false, ledger.Strange, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := textotest.Start(every(10, c.fate), nil)
			r := run(t, short(t, s))
			did := s.Count(c.fate)
			if did == 0 || s.Count(textotest.Deliver) == 0 {
				t.Fatalf("the server did it %d times, and %d messages well", did, s.Count(textotest.Deliver))
			}
			if sent := s.Count(c.fate) + s.Count(textotest.Deliver); r.Messages.Sent != sent {
				t.Errorf("sent %d, the server took %d", r.Messages.Sent, sent)
			}
			if got := c.found(r.Messages); got != did {
				t.Errorf("found %d, the server did it %d times: %+v", got, did, r.Messages)
			}
			if r.Messages.Kept() != c.kept {
				t.Errorf("promises kept: %v, want %v: %+v", r.Messages.Kept(), c.kept, r.Messages)
			}
			if (len(r.Failures()) == 0) != c.kept {
				t.Errorf("failures: %q", r.Failures())
			}
			all := slices.Collect(r.Ledger.Findings)
			if !slices.ContainsFunc(all, func(f ledger.Finding) bool { return f.Kind == c.kind && f.Code == c.code }) {
				t.Errorf("no finding %q %s in %v", c.kind, c.code, all)
			}
			if (r.Ledger.Unsettled() > 0) != c.unsettle {
				t.Errorf("%d unsettled", r.Ledger.Unsettled())
			}
		})
	}
}

func TestReorderedMessagesAreFound(t *testing.T) {
	t.Parallel()
	s := textotest.Start(every(10, textotest.Swap), nil)
	r := run(t, short(t, s))
	did, pending := s.Count(textotest.Swap), s.Pending()
	if did-pending == 0 || r.Messages.Reordered != did-pending || r.Messages.Lost != pending {
		t.Errorf("the server swapped %d, %d of them wait; found %+v", did, pending, r.Messages)
	}
	if r.Messages.Kept() || !slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool { return f.Kind == ledger.Reordered }) {
		t.Errorf("kept %v, findings %v", r.Messages.Kept(), r.Findings)
	}
}

func TestAnHonestServerIsBelieved(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]float64{"closed loop": 0, "open loop": 2000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := textotest.Start(nil, nil)
			d := short(t, s)
			d.Rate, d.Warmup = rate, 50*time.Millisecond
			d.Duration, d.Drain = 200*time.Millisecond, 30*time.Second
			var lines []string
			d.Progress = func(line string) { lines = append(lines, line) }
			r := run(t, d)
			m := r.Messages
			if got := s.Count(textotest.Deliver); m.Sent != got || m.Delivered != got || m.Acknowledged != got || !m.Kept() {
				t.Errorf("the server delivered %d: %+v", got, m)
			}
			if len(r.Failures()) != 0 || r.FoundInAll != 0 || len(r.Findings) != 0 || len(r.Notes) != 0 {
				t.Errorf("failures %q, findings %v, notes %q", r.Failures(), r.Findings, r.Notes)
			}
			if r.Latency == nil || r.Answer == nil || r.Latency.Count == 0 || r.Latency.Count > m.Sent || r.Answer.Count != r.Latency.Count {
				t.Errorf("of %d messages: latency %+v, answer %+v", m.Sent, r.Latency, r.Answer)
			}
			if r.Deliveries == 0 || r.Seconds <= 0 || r.PerSecond <= 0 || r.Cost.OwnCPU == nil || *r.Cost.OwnCPU <= 0 {
				t.Errorf("%d deliveries in %v s: %v/s, cost %+v", r.Deliveries, r.Seconds, r.PerSecond, r.Cost)
			}
			if len(lines) == 0 || !strings.Contains(lines[0], "opening 6") {
				t.Errorf("progress %q", lines)
			}
			if rate == 0 {
				if r.Lag != nil {
					t.Errorf("a closed loop has a schedule: %+v", r.Lag)
				}
				return
			}
			// 200 ms at 2,000/s: the schedule decides how many are measured.
			if m.Sent < 480 || r.Latency.Count < 398 || r.Latency.Count > 402 || r.Lag == nil || r.Lag.Count != r.Latency.Count {
				t.Errorf("sent %d, measured %d, lag %+v; want about 500 and 400", m.Sent, r.Latency.Count, r.Lag)
			}
		})
	}
}

func TestSenderAndReceiverAreOnDifferentTargets(t *testing.T) {
	t.Parallel()
	a, b := textotest.Start(nil, nil), textotest.Start(nil, nil)
	d := short(t, a, b)
	r := run(t, d)
	// The two servers know nothing of each other: all is acknowledged, and lost.
	if m := r.Messages; m.Sent == 0 || m.Lost != m.Acknowledged || m.Delivered != 0 || m.Acknowledged != m.Sent {
		t.Errorf("%+v", m)
	}
	if a.Count(textotest.Deliver) == 0 || b.Count(textotest.Deliver) == 0 {
		t.Error("one of the targets took nothing")
	}
}

func TestALostPlaceInTheWindowIsGivenUp(t *testing.T) {
	t.Parallel()
	s := textotest.Start(func(n int) textotest.Fate { return textotest.Drop }, nil)
	d := short(t, s)
	d.Duration = time.Second
	r := run(t, d)
	if window := uint64(d.Pairs * d.Window); r.Messages.Sent <= window || r.Messages.Lost != r.Messages.Sent {
		t.Errorf("sent %d with windows of %d in all, %d lost", r.Messages.Sent, window, r.Messages.Lost)
	}
	if f := r.Findings[0]; f.Kind != ledger.Lost || f.First != 1 || f.Last != r.Messages.Sent/3 && f.Messages() < uint64(d.Window) {
		t.Errorf("first finding %v", f)
	}
}

func TestAClosedConnectionIsNamed(t *testing.T) {
	t.Parallel()
	s := textotest.Start(every(200, textotest.Hangup), nil)
	d := short(t, s)
	d.Duration = 20 * time.Second // it ends by itself when all pairs have
	r := run(t, d)
	if r.Ended != 3 || r.EndedBy["closed with 1012"] != 3 || r.Seconds > 15 {
		t.Errorf("after %v s %d connections had ended: %v", r.Seconds, r.Ended, r.EndedBy)
	}
	failures := strings.Join(r.Failures(), "; ")
	if !strings.Contains(failures, "3 of 6 connections ended: 3 closed with 1012") {
		t.Errorf("failures: %s", failures)
	}
	if !slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool { return f.Note == "the receiver's connection: closed with 1012" }) {
		t.Errorf("no finding names the cause: %v", r.Findings)
	}
}

func TestInterruptedRunsReport(t *testing.T) {
	t.Parallel()
	for name, warmup := range map[string]time.Duration{"while measuring": 0, "in the warm-up": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := textotest.Start(func(n int) textotest.Fate {
				if n == 300 {
					cancel()
				}
				return textotest.Deliver
			}, nil)
			d := short(t, s)
			d.Warmup, d.Duration, d.Drain = warmup, time.Hour, 30*time.Second
			r, err := d.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m := r.Messages; m.Sent < 300 || m.Delivered != m.Sent || !m.Kept() || len(r.Failures()) != 0 {
				t.Errorf("%+v, %q", m, r.Failures())
			}
			if warmup == 0 && (r.Deliveries == 0 || r.Latency == nil || r.Seconds <= 0 || len(r.Notes) != 0) {
				t.Errorf("%d deliveries in %v s, latency %+v, notes %q", r.Deliveries, r.Seconds, r.Latency, r.Notes)
			}
			if warmup > 0 && (r.Deliveries != 0 || r.Latency != nil || r.Seconds != 0 || len(r.Notes) != 1) {
				t.Errorf("nothing was to be measured: %+v", r)
			}
		})
	}
}

func TestNothingStartsUnlessAllConnectionsStand(t *testing.T) {
	t.Parallel()
	s := textotest.Start(nil, func(n int) int {
		if n == 4 {
			return 503
		}
		return 0
	})
	_, err := short(t, s).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "HTTP 503") || !strings.Contains(err.Error(), "of 6 connections") {
		t.Errorf("%v", err)
	}
	if s.Count(textotest.Deliver) != 0 {
		t.Error("messages were sent")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := short(t, s).Run(ctx); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}
}
