package redisbus_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The tests of this file have Redis lose what it has kept: then nobody may be told
// that he has everything.

// keptTopic is one topic between two nodes.
type keptTopic struct {
	relay.Topic
	from, to *node
	start    relay.Position
}

func newKeptTopic(t *testing.T, r *relaytest.Redis) *keptTopic {
	t.Helper()
	k := &keptTopic{Topic: "client/kept", from: joinKeeping(t, r.URL()), to: joinKeeping(t, r.URL())}
	ready(t, k.from, k.to)
	var err error
	if k.start, err = k.to.SubscribeNew(t.Context(), k.Topic); err != nil {
		t.Fatal(err)
	}
	return k
}

// publish publishes a message, as often as it takes.
func (k *keptTopic) publish(t *testing.T, body string) (place relay.ID) {
	t.Helper()
	relaytest.Eventually(t, "a message is accepted", func() bool {
		var err error
		place, err = k.from.Publish(t.Context(), relay.Message{Topic: k.Topic, Body: []byte(body)}, kept)
		return err == nil
	})
	return place
}

// since reads what follows a position on the other node.
func (k *keptTopic) since(t *testing.T, after relay.Position) relay.Page {
	t.Helper()
	var p relay.Page
	relaytest.Eventually(t, "the history can be read", func() bool {
		var err error
		p, err = k.to.Since(t.Context(), k.Topic, after, 100)
		return err == nil
	})
	return p
}

func (k *keptTopic) heard(t *testing.T, want ...string) {
	t.Helper()
	relaytest.Eventually(t, fmt.Sprintf("%q have come", want), func() bool { return len(k.to.Events(k.Topic)) >= len(want) })
	if got := shown(k.to.Events(k.Topic)); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// A flush loses what was kept, of topics that had messages and of those that had
// none: no position from before it is complete. What comes later comes.
func TestFlush(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	k := newKeptTopic(t, r)
	place := k.publish(t, "0")
	k.heard(t, "0")
	before := relay.Position{Epoch: k.start.Epoch, ID: place, At: time.Now()}
	if p := k.since(t, before); !p.Complete {
		t.Error("incomplete, though nothing is missing")
	}
	if err := admin(t, r).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	never := relay.Position{Epoch: k.start.Epoch, At: time.Now()}
	for name, p := range map[string]relay.Position{"a place": before, "no place": never} {
		if got := k.since(t, p); got.Complete {
			t.Errorf("%s from before the flush is said to be complete", name)
		}
	}
	k.publish(t, "1")
	k.publish(t, "2")
	k.heard(t, "0", "gap", "1", "2") // that nothing is missing nobody can know
	for name, p := range map[string]relay.Position{"a place": before, "no place": never} {
		if got := k.since(t, p); got.Complete {
			t.Errorf("%s from before the flush is said to be complete, when the topic goes on", name)
		}
	}
}

// A restart without persistence loses everything, and the positions tell so.
func TestRestartIsTold(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	k := newKeptTopic(t, r)
	place := k.publish(t, "0")
	k.heard(t, "0")
	before := relay.Position{Epoch: k.start.Epoch, ID: place, At: time.Now()}
	r.Restart(t)
	if p := k.since(t, before); p.Complete {
		t.Error("a place from before the restart is said to be complete")
	}
	if p := k.since(t, k.start); p.Complete {
		t.Error("a topic without messages before the restart is said to be complete")
	}
	k.heard(t, "0", "gap")
	place = k.publish(t, "1")
	k.heard(t, "0", "gap", "1")
	events := k.to.Events(k.Topic)
	p := k.since(t, events[1].Position)
	if !p.Complete || len(p.Messages) != 1 || p.Messages[0].ID != place {
		t.Errorf("after the gap the topic goes on with %v", p)
	}
}

// Redis's clock jumps an hour ahead and back: places ascend all the same, and
// nothing is missed, swallowed or doubled.
func TestClockJumps(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	c := admin(t, r)
	k := newKeptTopic(t, r)
	last := k.publish(t, "0")
	k.heard(t, "0")
	// What the script does, an hour later, but that nobody hears it.
	entry, err := c.XRevRangeN(t.Context(), "parley:s:"+string(k.Topic), "+", "-", 1).Result()
	if err != nil || len(entry) != 1 {
		t.Fatal(entry, err)
	}
	ahead := relay.ID{Millis: last.Millis + uint64(time.Hour/time.Millisecond)}
	err = c.XAdd(t.Context(), &redis.XAddArgs{Stream: "parley:s:" + string(k.Topic), ID: ahead.String(),
		Values: []any{"prev", last.String(), "envelope", entry[0].Values["envelope"]}}).Err()
	if err == nil {
		err = c.Set(t.Context(), "parley:h:"+string(k.Topic), ahead.String(), time.Hour).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		place := k.publish(t, fmt.Sprint(i+1))
		if place.Compare(ahead) <= 0 {
			t.Errorf("%v does not come after %v", place, ahead)
		}
	}
	k.heard(t, "0", "0", "1", "2", "3")
	p := k.since(t, relay.Position{Epoch: k.start.Epoch, ID: last, At: time.Now()})
	if !p.Complete || len(p.Messages) != 4 {
		t.Errorf("%d messages, complete: %v; want 4", len(p.Messages), p.Complete)
	}
}

// Scripts that Redis has forgotten are loaded again.
func TestScriptsForgotten(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	k := newKeptTopic(t, r)
	forget := func() {
		t.Helper()
		if err := admin(t, r).ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	if _, err := k.from.Publish(t.Context(), relay.Message{Topic: k.Topic, Body: []byte("0")}, kept); err != nil {
		t.Error(err)
	}
	forget()
	if p, err := k.to.Since(t.Context(), k.Topic, k.start, 10); err != nil || len(p.Messages) != 1 || !p.Complete {
		t.Errorf("read %v, %v", p, err)
	}
	forget()
	missWhile(t, r, k.to, func() { k.publish(t, "1"); forget() })
	k.heard(t, "0", "1")
}

// What a node cannot read in a history, it says to be missing, and the rest comes.
func TestUnreadableHistory(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	c := admin(t, r)
	k := newKeptTopic(t, r)
	k.publish(t, "0")
	k.heard(t, "0")
	missWhile(t, r, k.to, func() {
		for _, values := range [][]any{{"prev", "", "envelope", "\x08\x02"}, {"something", "else"}} {
			if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: "parley:s:" + string(k.Topic), Values: values}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		k.publish(t, "1")
	})
	k.heard(t, "0", "gap", "1")
	if p := k.since(t, k.start); p.Complete || len(p.Messages) != 2 {
		t.Errorf("read %d messages, complete: %v; want 2 and not complete", len(p.Messages), p.Complete)
	}
	k.publish(t, "2")
	k.heard(t, "0", "gap", "1", "2")
}

// A history that Redis gives to nobody is a gap, and the topic goes on; so do the
// others.
func TestHistoryOutOfReach(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	c := admin(t, r)
	k := newKeptTopic(t, r)
	k.publish(t, "0")
	k.heard(t, "0")
	if err := c.Do(t.Context(), "acl", "setuser", "default", "-xrange").Err(); err != nil {
		t.Fatal(err)
	}
	killSubscribers(t, c)
	k.heard(t, "0", "gap")
	k.publish(t, "1")
	k.publish(t, "2")
	k.heard(t, "0", "gap", "1", "2")
}

// Replicas that are not there are an error for the sender.
func TestTooFewReplicas(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	b := openWith(t, optionsWaiting(r.URL(), 1))
	n := joinBus(t, b)
	ready(t, n)
	for _, retention := range []relay.Retention{kept, {}} {
		began := time.Now()
		_, err := n.Publish(t.Context(), relay.Message{Topic: "client/a"}, retention)
		if !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("error = %v, want one that is ErrUnavailable", err)
		}
		t.Logf("after %v: %v", time.Since(began), err)
	}
}
