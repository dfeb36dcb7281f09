package redisbus_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// kept is for traffic: a second of it and more.
var kept = relay.Retention{Length: 10000, Age: time.Minute}

// whole waits until all that was accepted has come, and fails the test unless each
// message came once, in order, and no gap was told.
func (tr *traffic) whole(t *testing.T, to *node, topics int) outcome {
	t.Helper()
	accepted := map[string]bool{}
	for _, a := range tr.ledger.Answers() {
		k, seq := a.Numbers()
		accepted[fmt.Sprint(k, ".", seq)] = a.Err == nil
	}
	relaytest.Eventually(t, "everything that was accepted has come", func() bool {
		for k := range topics {
			for _, body := range to.Bodies(trafficTopic(k)) {
				delete(accepted, fmt.Sprint(k, ".", body))
			}
		}
		for _, ok := range accepted {
			if ok {
				return false
			}
		}
		return true
	})
	if n := to.Gaps(); n != 0 {
		t.Errorf("%d gaps were told, and nothing is missing", n)
	}
	return tr.check(t, to, topics)
}

// Subscriber connections are killed again and again, and once they can no longer
// be made for a while: nothing that was accepted is missing.
func TestHolesAreFilled(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	c := admin(t, r)
	from, to := joinKeeping(t, r.URL()), joinKeeping(t, r.URL())
	ready(t, from, to)
	const topics, kills = 50, 12
	subscribeTraffic(t, to, topics)
	steady := steady(t)
	tr := flowKept(t, from, topics, kept)
	for range kills {
		mark := to.Received()
		relaytest.Eventually(t, "messages come", func() bool { return to.Received() > mark+100 })
		relaytest.Eventually(t, "there is somebody to kill", func() bool { return killSubscribers(t, c) > 0 })
	}
	to.hears(t, from, topics)
	tr.stop()
	o := tr.whole(t, to, topics)
	steady()
	if o.refused > 0 {
		t.Errorf("%d messages were refused, though the publishing connections stood", o.refused)
	}
	if n := gathered(t, to.Bus, "parley_gaps_total"); n == 0 {
		t.Error("the metric says that there was no hole")
	}
	t.Logf("%v; %v holes filled", o, gathered(t, to.Bus, "parley_gaps_total"))
}

// What was published while a node did not hear, and is kept no more, is a gap,
// and what is still there comes after it.
func TestTrimmedHoleIsTold(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	const topic = relay.Topic("client/trimmed")
	from, to := joinKeeping(t, r.URL()), joinKeeping(t, r.URL())
	ready(t, from, to)
	to.subscribe(t, topic)
	short := relay.Retention{Length: 3, Age: time.Minute}
	publish := func(body string) {
		t.Helper()
		if _, err := from.Publish(t.Context(), relay.Message{Topic: topic, Body: []byte(body)}, short); err != nil {
			t.Fatal(err)
		}
	}
	publish("0")
	relaytest.Eventually(t, "the first comes", func() bool { return to.Count(topic) == 1 })
	missWhile(t, r, to, func() {
		for i := 1; i <= 6; i++ {
			publish(strconv.Itoa(i))
		}
	})
	relaytest.Eventually(t, "what is kept comes", func() bool { return to.Count(topic) == 4 })
	publish("7")
	relaytest.Eventually(t, "the next comes", func() bool { return to.Count(topic) == 5 })
	if got, want := shown(to.Events(topic)), []string{"0", "gap", "4", "5", "6", "7"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// shown are the events of a topic in words.
func shown(events []relaytest.Event) (all []string) {
	for _, e := range events {
		if e.Gap {
			all = append(all, "gap")
		} else {
			all = append(all, string(e.Message.Body))
		}
	}
	return all
}

// missWhile keeps a node from hearing while do runs: Redis lets it have its own
// channel no more, and the node takes that for a broken connection.
func missWhile(t *testing.T, r *relaytest.Redis, to *node, do func()) {
	t.Helper()
	c := admin(t, r)
	channels := func(rules ...any) {
		t.Helper()
		if err := c.Do(t.Context(), append([]any{"acl", "setuser", "default", "resetchannels"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	rules := []any{"&parley:t:*"}
	for n := range nodes.Load() {
		if name := fmt.Sprint("node-", n+1); name != to.name {
			rules = append(rules, "&parley:canary:"+name)
		}
	}
	channels(rules...)
	relaytest.Eventually(t, "the node hears nothing", func() bool {
		killSubscribers(t, c)
		return to.Ready() != nil
	})
	do()
	channels("allchannels")
}
