package load

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/chat"
	"parley/cmd/parley-bench/internal/chattest"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/wsclient"
)

func startChat(t *testing.T, fate func(int) chattest.Fate) *chattest.Server {
	s := chattest.Start(fate)
	t.Cleanup(s.Close)
	return s
}

// shortFanout is a run of a fraction of a second. Its subscribers connect after its
// publishers, one after the other.
func shortFanout(t *testing.T, s *chattest.Server) *Fanout {
	t.Helper()
	target, err := wsclient.ParseTarget(s.URL, chat.Path)
	if err != nil {
		t.Fatal(err)
	}
	return &Fanout{Fleet: Fleet{Targets: []wsclient.Target{target}, Concurrency: 1, Timeout: 10 * time.Second},
		Accounts: 2, Subscribers: 5, Publishers: 2, Traffic: Traffic{Window: 4, Size: 64, Duration: 100 * time.Millisecond,
			Drain: 300 * time.Millisecond, Linger: 50 * time.Millisecond, GiveUp: 100 * time.Millisecond}}
}

func runFanout(t *testing.T, d *Fanout) *FanoutResult {
	t.Helper()
	r, err := d.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func everyChat(k int, f chattest.Fate) func(int) chattest.Fate {
	return func(n int) chattest.Fate {
		if n%k == k-1 {
			return f
		}
		return chattest.Deliver
	}
}

func TestTheRoomsLedgerFindsWhatTheServerDid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fate  chattest.Fate
		found func(ledger.RoomTotals) uint64 // must equal the server's count
		kept  bool
		kind  ledger.Kind
	}{
		"dropped":     {chattest.Drop, func(t ledger.RoomTotals) uint64 { return t.Lost }, false, ledger.Lost},
		"duplicated":  {chattest.Duplicate, func(t ledger.RoomTotals) uint64 { return t.Duplicates }, false, ledger.Duplicated},
		"misplaced":   {chattest.Misplace, func(t ledger.RoomTotals) uint64 { return t.Misplaced }, false, ledger.Misplaced},
		"altered":     {chattest.Alter, func(t ledger.RoomTotals) uint64 { return min(t.Lost, t.Foreign) }, false, ledger.Strange},
		"forged":      {chattest.Forge, func(t ledger.RoomTotals) uint64 { return min(t.Lost, t.Foreign) }, false, ledger.Strange},
		"malformed":   {chattest.Malformed, func(t ledger.RoomTotals) uint64 { return t.Foreign }, false, ledger.Strange},
		"refused":     {chattest.Refuse, func(t ledger.RoomTotals) uint64 { return t.RefusedBy["RATE_LIMITED"] }, true, ""},
		"dropped all": {chattest.DropAll, func(t ledger.RoomTotals) uint64 { return t.Unanswered }, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startChat(t, everyChat(5, c.fate))
			r := runFanout(t, shortFanout(t, s))
			did := s.Count(c.fate)
			if did == 0 || s.Count(chattest.Deliver) == 0 {
				t.Fatalf("the server did it %d times, and %d messages well", did, s.Count(chattest.Deliver))
			}
			if sent := did + s.Count(chattest.Deliver); r.Messages.Sent != sent {
				t.Errorf("sent %d, the server took %d", r.Messages.Sent, sent)
			}
			if got := c.found(r.Messages); got != did {
				t.Errorf("found %d, the server did it %d times: %+v", got, did, r.Messages)
			}
			if r.Messages.Kept() != c.kept || (len(r.Failures()) == 0) != c.kept {
				t.Errorf("kept %v, want %v: %+v, %q", r.Messages.Kept(), c.kept, r.Messages, r.Failures())
			}
			all := slices.Collect(r.Ledger.Findings)
			if c.kind != "" && !slices.ContainsFunc(all, func(f ledger.Finding) bool {
				return f.Kind == c.kind && f.Receiver == "subscriber 5"
			}) {
				t.Errorf("no finding %q of the last subscriber in %v", c.kind, all)
			}
			if c.kept && len(all) != 0 {
				t.Errorf("findings %v", all)
			}
		})
	}
}

func TestSwappedDeliveriesAreFound(t *testing.T) {
	t.Parallel()
	s := startChat(t, everyChat(5, chattest.Swap))
	r := runFanout(t, shortFanout(t, s))
	// One that has waited in vain at the end is lost.
	if did := s.Count(chattest.Swap); did == 0 || r.Messages.Misplaced+r.Messages.Lost != did || r.Messages.Lost > 1 {
		t.Errorf("the server swapped %d; found %+v", did, r.Messages)
	}
	if r.Messages.Kept() {
		t.Errorf("kept: %+v", r.Messages)
	}
}

func TestAnHonestRoomIsBelieved(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]float64{"closed loop": 0, "open loop": 500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startChat(t, nil)
			d := shortFanout(t, s)
			d.Rate, d.Warmup = rate, 50*time.Millisecond
			d.Duration, d.Drain = 200*time.Millisecond, 30*time.Second
			var lines []string
			d.Progress = func(line string) { lines = append(lines, line) }
			r := runFanout(t, d)
			m, sent := r.Messages, s.Count(chattest.Deliver)
			if m.Sent != sent || m.CameBack != sent || m.Delivered != 7*sent || m.Members != 7 || !m.Kept() || m.Unanswered != 0 {
				t.Errorf("the server took %d: %+v", sent, m)
			}
			if len(r.Failures()) != 0 || r.FoundInAll != 0 || len(r.Notes) != 0 || r.Room != chattest.Room || r.Connections != 7 {
				t.Errorf("failures %q, %d findings, notes %q, room %q, %d connections", r.Failures(), r.FoundInAll, r.Notes, r.Room, r.Connections)
			}
			if r.Latency == nil || r.Return == nil || r.Return.Count == 0 || r.Latency.Count != 7*r.Return.Count {
				t.Errorf("latency %+v, came back %+v", r.Latency, r.Return)
			}
			if r.Deliveries == 0 || r.PerSecond <= 0 || r.Cost.OwnCPU == nil || *r.Cost.OwnCPU <= 0 {
				t.Errorf("%d deliveries, %v/s, cost %+v", r.Deliveries, r.PerSecond, r.Cost)
			}
			if s.Accounts() != 2 || len(lines) < 2 || !strings.Contains(lines[1], "opening 7") {
				t.Errorf("%d accounts, progress %q", s.Accounts(), lines)
			}
			if (r.Lag != nil) != (rate > 0) {
				t.Errorf("lag %+v", r.Lag)
			}
			// 200 ms at 500/s: the schedule decides how many are measured.
			if rate > 0 && (r.Lag.Count < 98 || r.Lag.Count > 102 || r.Return.Count != r.Lag.Count) {
				t.Errorf("measured %d and %d, want about 100", r.Lag.Count, r.Return.Count)
			}
		})
	}
}

// A closed loop has no more messages on their way than its window, and goes on when
// some never come.
func TestFanoutGivesUpWhatNeverComes(t *testing.T) {
	t.Parallel()
	for _, fate := range []chattest.Fate{chattest.Drop, chattest.DropAll} {
		s := startChat(t, func(int) chattest.Fate { return fate })
		d := shortFanout(t, s)
		d.Duration = 500 * time.Millisecond
		r := runFanout(t, d)
		window := uint64(d.Publishers * d.Window)
		// 100 ms of patience, looked at each 100 ms.
		if sent := r.Messages.Sent; sent <= window || sent > 7*window {
			t.Errorf("fate %d: sent %d with windows of %d in all", fate, sent, window)
		}
	}
}

// A refused message gives its place back once, after a pause, however long it is until
// its slot is free.
func TestFanoutPausesWhenRefused(t *testing.T) {
	t.Parallel()
	for _, patience := range []time.Duration{150 * time.Millisecond, time.Hour} {
		s := startChat(t, func(int) chattest.Fate { return chattest.Refuse })
		d := shortFanout(t, s)
		d.Duration, d.GiveUp = 500*time.Millisecond, patience
		r := runFanout(t, d)
		window := uint64(d.Publishers * d.Window)
		if sent := r.Messages.Sent; sent <= window || sent > 7*window || r.Messages.Refused != sent {
			t.Errorf("with a patience of %v sent %d with windows of %d in all, %d refused", patience, sent, window, r.Messages.Refused)
		}
	}
}

func TestFanoutNamesClosedConnections(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := startChat(t, func(n int) chattest.Fate {
		switch n {
		case 50:
			return chattest.Hangup
		case 100: // the loop goes on without the one that has gone
			cancel()
		}
		return chattest.Deliver
	})
	d := shortFanout(t, s)
	d.Duration, d.Drain = time.Hour, 30*time.Second
	r, err := d.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if r.Ended != 1 || r.EndedBy["closed with 1012"] != 1 || r.Messages.Sent < 100 || r.Messages.Lost != 0 {
		t.Errorf("%d ended: %v, %+v", r.Ended, r.EndedBy, r.Messages)
	}
	if got := strings.Join(r.Failures(), "; "); !strings.Contains(got, "1 of 7 connections ended: 1 closed with 1012") {
		t.Errorf("failures: %s", got)
	}
}

func TestFanoutStartsOnlyWhereAllIsThere(t *testing.T) {
	t.Parallel()
	s := startChat(t, nil)
	d := shortFanout(t, s)
	d.Room = "nowhere"
	if _, err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `no room "nowhere"`) {
		t.Errorf("a room that is not there: %v", err)
	}
	d.Room = "empty"
	if _, err := d.Run(t.Context()); err != nil {
		t.Errorf("a room that is there: %v", err)
	}
	s.RefuseAccounts(503)
	if _, err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "503 UNAVAILABLE: not now") {
		t.Errorf("no accounts: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Run(ctx); err == nil {
		t.Error("an interrupted run has a result")
	}
}

func TestInterruptedFanoutsReport(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := startChat(t, func(n int) chattest.Fate {
		if n == 100 {
			cancel()
		}
		return chattest.Deliver
	})
	d := shortFanout(t, s)
	d.Duration, d.Drain = time.Hour, 30*time.Second
	r, err := d.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if m := r.Messages; m.Sent < 100 || m.CameBack != m.Sent || !m.Kept() || len(r.Failures()) != 0 || r.Deliveries == 0 || r.Seconds <= 0 {
		t.Errorf("%+v, %q", m, r.Failures())
	}
}
