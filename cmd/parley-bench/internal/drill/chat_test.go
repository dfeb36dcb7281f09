package drill

import (
	"context"
	"testing"

	"parley/cmd/parley-bench/internal/chat"
	"parley/cmd/parley-bench/internal/chattest"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/wsclient"
	"parley/pkg/relaytest"
)

// chatterOn has talkers send messages to a room until n were sent, with all
// connections broken at some of them, and then pages through the history.
func chatterOn(t *testing.T, n int, fate func(int) chattest.Fate, hangUpAt ...int) (*chatter, *ledger.Ledger, *chattest.Server) {
	t.Helper()
	s := chattest.Start(fate)
	t.Cleanup(s.Close)
	target, err := wsclient.ParseTarget(s.URL, chat.Path)
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := chat.SignUp(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := ledger.New()
	c := newChatter(chattest.Room, []wsclient.Target{target}, []string{cookie}, l, 3, 64, 7)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		c.running.Wait()
	})
	c.run(ctx, 1500)
	relaytest.Eventually(t, "all are connected", func() bool { return c.missing() == "" })
	c.began.Store(true)
	for _, at := range hangUpAt {
		relaytest.Eventually(t, "so many messages", func() bool { return c.account.Sent() >= uint64(at) })
		s.HangUp()
		relaytest.Eventually(t, "all are connected again", func() bool { return c.missing() == "" })
	}
	relaytest.Eventually(t, "all messages", func() bool { return c.account.Sent() >= uint64(n) })
	c.ended.Store(true)
	stage := newStage(t)
	if err := stage.quiet(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"one", "another"} {
		messages, pages, err := c.history(t.Context(), who, target, func(from int, seq uint64) {
			if who == "one" {
				c.talkers[from].stream.Deliver(seq)
			}
		})
		// What was on its way when connections broke is not in it.
		if want := (messages + pageLength - 1) / pageLength; err != nil || messages < n/3 || pages != want {
			t.Errorf("%d messages in %d pages, want %d: %v", messages, pages, want, err)
		}
	}
	return c, l, s
}

func TestTalkersComeBackAndMissNothing(t *testing.T) {
	t.Parallel()
	c, l, _ := chatterOn(t, 900, nil, 200, 400, 600)
	got, kept := c.account.Totals(), l.Totals()
	if !got.Kept() || got.CameBack < 300 || got.Members != 5 || got.Delivered != 5*got.CameBack {
		t.Errorf("%+v", got)
	}
	if kept.Lost != 0 || kept.Acknowledged != got.CameBack || kept.Delivered != got.CameBack {
		t.Errorf("%+v, of %d that came back", kept, got.CameBack)
	}
	if c.back.Load() != 9 || c.gaps.Load() != 0 {
		t.Errorf("%d came back, %d gaps", c.back.Load(), c.gaps.Load())
	}
}

func TestTheHistoryIsComparedWithWhatAllSaw(t *testing.T) {
	t.Parallel()
	c, l, s := chatterOn(t, 300, func(n int) chattest.Fate {
		if n%50 == 49 {
			return chattest.Forget
		}
		return chattest.Deliver
	})
	forgotten := s.Count(chattest.Forget)
	if got := c.account.Totals(); forgotten == 0 || got.Lost != 2*forgotten || got.Kept() {
		t.Errorf("%d are not in the history: %+v", forgotten, got)
	}
	if kept := l.Totals(); kept.Lost != forgotten {
		t.Errorf("%d are not in the history: %+v", forgotten, kept)
	}
	r := &Report{ledger: l, room: c.account}
	first, all := r.broken()
	if uint64(all) != 3*forgotten || len(first) != findingsShown {
		t.Errorf("%d findings, of which %d are shown; want %d", all, len(first), 3*forgotten)
	}
	if q := timesIn(&c.reconnects); q != nil {
		t.Errorf("somebody came back: %+v", q)
	}
}
