package redisbus_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The tests of this file have Redis lose what waits for readers: then no reader may be
// told that it has everything, and each is told no longer than it takes.

// A restart without persistence loses everything; readers are told, until an answer with
// it was written, and so are those that Redis has lost.
func TestInboxRestart(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	l := newLetters(t, redisbus.Options{URL: r.URL()})
	last := l.send(t, "0")
	l.takes(t, "r", true, "0")
	l.takes(t, "s", true, "0")
	r.Restart(t)
	for range 2 {
		l.expect(t, l.get(t, relay.Reading{Reader: "r"}), false)
		l.expect(t, l.get(t, place("p", last)), false)
	}
	l.takes(t, "r", false)
	l.takes(t, "r", true)
	l.send(t, "1")
	l.takes(t, "r", true, "1")
	l.alone(t, "s", "1")
	l.takes(t, "s", true)
	c := l.get(t, place("p", last))
	l.expect(t, c, false, "1")
	l.settle(t, "p", relay.Position{Epoch: c.End.Epoch, ID: c.Before})
	l.expect(t, l.get(t, place("p", c.Before)), true, "1")
}

// Redis comes back with what it had some time ago: readers that had come further are told,
// whether new messages have come or not, and go on from there.
func TestInboxRestored(t *testing.T) {
	for _, goesOn := range []bool{false, true} {
		t.Run(fmt.Sprint("GoesOn=", goesOn), func(t *testing.T) {
			relaytest.NoLeaks(t)
			dir := t.TempDir()
			r := relaytest.StartRedisWith(t, redisproc.Options{Dir: dir})
			l := newLetters(t, redisbus.Options{URL: r.URL()})
			l.send(t, "0", "1")
			l.takes(t, "r", true, "0", "1")
			l.takes(t, "r", true)
			if err := r.Client().Save(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "dump.rdb")); err != nil {
				t.Fatal(err)
			}
			last := l.send(t, "2", "3")
			l.takes(t, "r", true, "2", "3")
			end := l.get(t, relay.Reading{Reader: "r"}).End
			r.Restart(t)
			var more []string
			if goesOn {
				l.send(t, "4")
				more = []string{"4"}
			}
			l.settle(t, "late", end) // by a node that knows nothing of it
			for range 2 {
				l.expect(t, l.get(t, relay.Reading{Reader: "r"}), false, more...)
				l.expect(t, l.get(t, place("p", last)), false, more...)
				l.expect(t, l.get(t, relay.Reading{Reader: "late"}), false, more...)
			}
			if goesOn {
				l.alone(t, "r", "4")
				l.alone(t, "p", "4")
				l.alone(t, "late", "4")
			} else {
				l.takes(t, "r", false)
				l.takes(t, "p", false)
				l.takes(t, "late", false)
			}
			l.send(t, "5")
			for _, reader := range []string{"r", "p", "late"} {
				l.takes(t, reader, true, "5")
				l.takes(t, reader, true)
			}
		})
	}
}

// What was evicted is told once.
func TestInboxEvicted(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	l := newLetters(t, redisbus.Options{URL: r.URL()})
	evict := func(kinds ...string) {
		t.Helper()
		began := time.Now()
		relaytest.Eventually(t, "the clock gives other places", func() bool { return time.Since(began) > 2*time.Millisecond })
		for _, kind := range kinds {
			if n, err := r.Client().Del(t.Context(), "parley:"+kind+string(l.Topic)).Result(); err != nil || n != 1 {
				t.Fatalf("%d keys (%v), want 1", n, err)
			}
		}
	}
	l.send(t, "0")
	l.takes(t, "r", true, "0")
	l.takes(t, "r", true)
	evict("s:", "h:")
	l.takes(t, "r", false)
	l.takes(t, "r", true)
	l.send(t, "1")
	l.takes(t, "r", true, "1")
	evict("s:", "h:")
	l.send(t, "2")
	l.alone(t, "r", "2")
	evict("s:") // as if it had expired
	l.takes(t, "r", true)
	evict("h:")
	l.takes(t, "r", false)
	l.takes(t, "r", true)
	l.send(t, "3")
	evict("h:")
	l.takes(t, "r", true, "3")
	l.send(t, "4")
	l.takes(t, "r", true, "4")
	evict("i:")
	l.send(t, "5")
	l.takes(t, "r", true, "3", "4", "5") // a reader that nobody knows
}

// When everything about a topic has expired nothing is missing for a reader that has come
// to its end; for one that has not come since, that is not known.
func TestInboxLongQuiet(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	l := newLetters(t, redisbus.Options{URL: r.URL()})
	const keep = 2 * time.Second
	l.Inbox = l.Inbox.(*redisbus.Inbox).Keeping(keep)
	sent := time.Now()
	last := l.send(t, "0")
	l.takes(t, "r", true, "0")
	l.takes(t, "away", true, "0")
	relaytest.Eventually(t, "the head has had its time", func() bool {
		l.expect(t, l.get(t, relay.Reading{Reader: "r"}), true)
		l.expect(t, l.get(t, place("p", last)), true)
		time.Sleep(keep / 100)
		return time.Since(sent) > keep*7/4
	})
	if err := r.Client().Del(t.Context(), "parley:s:"+string(l.Topic), "parley:h:"+string(l.Topic)).Err(); err != nil {
		t.Fatal(err)
	}
	l.expect(t, l.get(t, relay.Reading{Reader: "r"}), true)
	l.expect(t, l.get(t, place("p", last)), true)
	l.expect(t, l.get(t, relay.Reading{Reader: "away"}), false)
	l.expect(t, l.get(t, relay.Reading{Reader: "unknown"}), true)
	l.expect(t, l.get(t, place("unknown with a place", last)), false)
	l.send(t, "1")
	l.takes(t, "r", true, "1")
	l.takes(t, "unknown", true, "1")
}

// A reader goes on when what stands before what it gets cannot be read.
func TestInboxUnreadable(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	l := newLetters(t, redisbus.Options{URL: r.URL()})
	l.send(t, "0")
	l.takes(t, "r", true, "0")
	for _, values := range [][]any{{"prev", "x", "envelope", "\x08\x02"}, {"something", "else"}} {
		if err := r.Client().XAdd(t.Context(), &redis.XAddArgs{Stream: "parley:s:" + string(l.Topic), Values: values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	l.takes(t, "s", false, "0")
	l.takes(t, "s", true)
	c, err := l.Collect(t.Context(), l.Topic, relay.Reading{Reader: "r"}, 1)
	if err != nil || c.Complete || len(c.Messages) > 0 || c.End.ID == c.Start.ID {
		t.Errorf("collected %v (%v)", c, err)
	}
	l.send(t, "1")
	l.takes(t, "r", false, "1")
	l.takes(t, "r", true)
	l.takes(t, "s", true, "1")
}
