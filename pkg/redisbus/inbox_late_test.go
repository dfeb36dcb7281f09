package redisbus

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// After another server has become the master, other nodes may write to the former one for
// some seconds, and be lost: who was told in those is told once more after them, and not
// again and again in the meantime.
func TestInboxIsToldLate(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	b, err := New(Options{URL: r.URL(), Node: "late", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.links[0].close() // Run would look for the epoch by itself
	l, inbox := b.links[0], b.Inbox(time.Hour)
	const topic = relay.Topic("user/1")
	// get tells whether a reader is told that messages may be missing, and has it take that.
	get := func(reader string) (told bool) {
		t.Helper()
		c, err := inbox.Collect(t.Context(), topic, relay.Reading{Reader: reader}, 1)
		if err == nil {
			err = inbox.Settle(t.Context(), topic, reader, c.End, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		return !c.Complete
	}
	expect := func(state string, want ...bool) {
		t.Helper()
		for i, want := range want {
			if told := get("r"); told != want {
				t.Errorf("%s: the reader is told: %v, at time %d; want %v", state, told, i, want)
			}
		}
	}
	expect("at first", false, false)
	// As another node has found out, and then this one.
	const renewed = 12345
	if err := r.Client().Set(t.Context(), "parley:epoch", "12345 run repl node 0", 0).Err(); err != nil {
		t.Fatal(err)
	}
	l.moves = true
	expect("this node does not know", true, false, false)
	l.former.Store(l.epoch.Swap(renewed))
	l.renewed.Store(1)
	expect("nodes may be late", false, false)
	if !get("unknown") || get("unknown") {
		t.Error("a reader that is not known: want it told once")
	}
	l.renewed.Store(0)
	expect("none is any more", true, false, false)
	if !get("unknown") || get("unknown") {
		t.Error("a reader that was told early: want it told once more")
	}
	// Where the master is always the same server nobody is late.
	l.moves = false
	if err := r.Client().Set(t.Context(), "parley:epoch", "678 run repl node 0", 0).Err(); err != nil {
		t.Fatal(err)
	}
	expect("another history, and this node does not know", true, false)
	l.epoch.Store(678)
	expect("it does", false)
}

// What was lost would have expired some time later.
func TestInboxDoubtEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Options{URL: "redis://127.0.0.1:1", Node: "idle", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer b.links[0].close()
		const keep = time.Hour
		l, s := b.links[0], b.Inbox(keep).stores[0]
		l.epoch.Store(1)
		expect := func(what string, want bool) {
			t.Helper()
			if got := s.lostWithin(keep); got != want {
				t.Errorf("%s: lost within %v: %v", what, keep, got)
			}
		}
		expect("at first", false)
		l.former.Store(l.epoch.Swap(2))
		expect("after a loss", true)
		time.Sleep(keep - 1)
		expect("nearly as long after it", true)
		time.Sleep(time.Nanosecond)
		expect("as long after it", false)
		l.former.Store(l.epoch.Swap(3))
		expect("after the next one", true)
	})
}

// What Redis should not answer is an error.
func TestInboxAnswers(t *testing.T) {
	l := idleBus(t).links[0]
	good := []any{int64(0), "7", "0-0", "1-1", int64(1), []any{}}
	read := func(reply []any) (relay.Collected, error) {
		cmd := redis.NewCmd(t.Context())
		cmd.SetVal(reply)
		return l.collected("user/1", 1, time.Now(), cmd)
	}
	if c, err := read(good); err != nil || !c.Complete || c.End.Epoch != 7 || c.End.ID != (relay.ID{Millis: 1, Seq: 1}) {
		t.Errorf("%v, %v", c, err)
	}
	if c, err := read([]any{int64(1)}); err != nil || !c.Unsettled {
		t.Errorf("%v, %v", c, err)
	}
	for i := range good {
		for _, wrong := range []any{nil, "x", int64(-1), []any{"x"}} {
			bad := append([]any{}, good...)
			if bad[i] = wrong; i == 0 || i == 4 && wrong == int64(-1) {
				continue
			}
			if c, err := read(bad); !errors.Is(err, errInbox) && !errors.Is(err, errHistory) {
				t.Errorf("%v at %d: %v, %v", wrong, i, c, err)
			}
		}
	}
	for _, reply := range [][]any{{}, {int64(0)}, good[:5]} {
		if c, err := read(reply); !errors.Is(err, errInbox) {
			t.Errorf("%v: %v, %v", reply, c, err)
		}
	}
}

// A topic's readers are beside its stream.
func TestInboxKeys(t *testing.T) {
	const topic = relay.Topic("user/{7}")
	for i := range partitions {
		k := partitionKeyspace(i)
		if slot := keySlot(k.inbox(topic)); slot != k.slot() || slot != keySlot(k.stream(topic)) {
			t.Errorf("%s is in slot %d, its partition in %d", k.inbox(topic), slot, k.slot())
		}
	}
}
