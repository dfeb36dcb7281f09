package drill

import (
	"context"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/rooms"
	"parley/cmd/parley-bench/internal/roomstest"
	"parley/cmd/parley-bench/internal/wsclient"
	"parley/pkg/relaytest"
)

// played is a game of two rooms on a tiny server whose hosts lose their connections
// thrice. Its players have ended.
func played(t *testing.T, sin roomstest.Sin, fate func(int) roomstest.Fate) (*game, wrongs, *roomstest.Server) {
	t.Helper()
	s := roomstest.Start(fate)
	s.Sin = sin
	t.Cleanup(s.Close)
	target, err := wsclient.ParseTarget(s.URL, rooms.Path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGame(t.Context(), rooms.API{Target: target}, []wsclient.Target{target, target}, 2, 64, 7)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		g.running.Wait()
	})
	g.run(ctx, 400, 7)
	whole := func() bool { return sin == roomstest.TwoHosts || sin == roomstest.ReuseIDs || g.missing() == "" }
	for range 3 {
		relaytest.Eventually(t, "all play", whole)
		from := g.delivered.Load()
		relaytest.Eventually(t, "broadcasts are shown", func() bool { return g.delivered.Load() > from+100 })
		s.HangUpHosts()
	}
	relaytest.Eventually(t, "all play again", whole)
	if sin == roomstest.None {
		g.calm.Store(true)
		g.agree(t.Context(), relaytest.Patience)
	}
	g.silent.Store(true)
	before, since := int64(-1), time.Now()
	relaytest.Eventually(t, "all has come", func() bool {
		if now := g.delivered.Load() + g.heard.Load(); now != before {
			before, since = now, time.Now()
		}
		return time.Since(since) > 100*time.Millisecond
	})
	g.stand()
	stop()
	g.running.Wait()
	all := wrongs{}
	for _, p := range g.parties {
		p.judge()
		for what, n := range p.wrongs.count {
			all.add(what, n, p.wrongs.first[what])
		}
	}
	return g, all, s
}

func TestHostsOfAnHonestServerAreBelieved(t *testing.T) {
	t.Parallel()
	g, all, _ := played(t, roomstest.None, nil)
	if len(all.count) != 0 {
		t.Errorf("%v: %v", all.count, all.first)
	}
	l := ledger.New()
	for _, p := range g.parties {
		p.enter(l)
	}
	if got := l.Totals(); got.Delivered == 0 || got.Delivered != got.Acknowledged || !got.Kept() || got.Sent < got.Delivered {
		t.Errorf("%+v", got)
	}
	if g.heard.Load() == 0 || g.told.Load() < 6 || g.untold.Load() != 0 || timesIn(&g.reconnects).Count < 6 {
		t.Errorf("%d answers; %d and %d told; %+v", g.heard.Load(), g.told.Load(), g.untold.Load(), timesIn(&g.reconnects))
	}
}

func TestWhatAServerDoesWrongWithHostsIsFound(t *testing.T) {
	t.Parallel()
	each := func(f roomstest.Fate) func(int) roomstest.Fate {
		return func(n int) roomstest.Fate {
			if n%40 == 20 {
				return f
			}
			return roomstest.Deliver
		}
	}
	for name, c := range map[string]struct {
		sin   roomstest.Sin
		fate  roomstest.Fate // of some broadcasts
		wrong string         // "": nothing
		exact bool           // as often as the server did it
	}{
		"two hosts":  {roomstest.TwoHosts, roomstest.Deliver, wrongTwoHosts, false},
		"stale":      {roomstest.ShowStale, roomstest.Deliver, wrongStale, false},
		"ids again":  {roomstest.ReuseIDs, roomstest.Deliver, wrongID, false},
		"dropped":    {roomstest.None, roomstest.Drop, wrongLost, false},
		"vanished":   {roomstest.None, roomstest.DropAll, wrongVanished, false},
		"duplicated": {roomstest.None, roomstest.Duplicate, wrongOrder, true},
		"swapped":    {roomstest.None, roomstest.Swap, wrongOrder, false},
		"altered":    {roomstest.None, roomstest.Alter, wrongSent, true},
		"malformed":  {roomstest.None, roomstest.Malformed, wrongSent, true},
		"refused":    {roomstest.None, roomstest.Refuse, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, all, s := played(t, c.sin, each(c.fate))
			if c.wrong == "" {
				if len(all.count) != 0 || len(g.errors) == 0 {
					t.Errorf("%v: %v; errors %v", all.count, all.first, g.errors)
				}
				return
			}
			if all.count[c.wrong] == 0 || !strings.HasPrefix(all.first[c.wrong], "room ") {
				t.Errorf("not found: %v: %v", all.count, all.first)
			}
			if did := s.Count(c.fate); c.exact && all.count[c.wrong] != did {
				t.Errorf("found %d, the server did it %d times", all.count[c.wrong], did)
			}
		})
	}
}
