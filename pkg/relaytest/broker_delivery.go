package relaytest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// What is published to a topic reaches every node that subscribes to it, the
// publisher's own included, and no other.
func testDelivery(t *testing.T, f *fleet) {
	members := []*member{f.join(), f.join(), f.join()}
	const all, most, mark = relay.Topic("room/all"), relay.Topic("room/most"), relay.Topic("room/mark")
	for i, m := range members {
		m.subscribe(all, mark)
		if i > 0 {
			m.subscribe(most)
		}
	}
	var toAll, toMost []string
	for i, m := range members {
		toAll = append(toAll, fmt.Sprint("all ", i))
		toMost = append(toMost, fmt.Sprint("most ", i))
		m.publish(all, toAll[i])
		m.publish(most, toMost[i])
		m.publish("room/nobody", "nothing")
	}
	members[0].publish(mark, "")
	for i, m := range members {
		m.await(mark, 1)
		m.await(all, len(toAll))
		if got := m.Bodies(all); !slices.Equal(got, toAll) {
			t.Errorf("node %d got %q, want %q", i, got, toAll)
		}
		want := toMost
		if i == 0 {
			want = nil
		}
		m.await(most, len(want))
		if got := m.Bodies(most); !slices.Equal(got, want) {
			t.Errorf("node %d got %q, want %q", i, got, want)
		}
		if got := m.Bodies("room/nobody"); got != nil {
			t.Errorf("node %d got %q without a subscription", i, got)
		}
		Eventually(t, "what was dispatched is flushed", m.Flushed)
		if m.Gaps() != 0 {
			t.Errorf("node %d saw %d gaps", i, m.Gaps())
		}
	}
}

// A message arrives as it was sent.
func testContent(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("client/snowman \u2603 \r\n")
	m.subscribe(topic)
	var binary []byte
	for i := range 256 {
		binary = append(binary, byte(i))
	}
	sent := []relay.Message{
		{From: "a", Body: []byte("hello"), Time: time.Unix(1_700_000_000, 123_456_789)},
		{From: "", Body: nil, Time: time.Unix(1, 0)},
		{From: strings.Repeat("long", 1000), Body: binary, Time: time.Now()},
		{From: "a", Body: bytes.Repeat(binary, 4096), Time: time.Now().Add(time.Hour)},
	}
	ledger := new(Ledger)
	for i := range sent {
		sent[i].Topic = topic
		given := sent[i]
		given.Body = slices.Clone(given.Body)
		m.Enqueue(given, relay.Retention{}, ledger, Numbered(0, i))
		if !bytes.Equal(given.Body, sent[i].Body) {
			t.Errorf("Enqueue changed the body of message %d", i)
		}
		clear(given.Body) // the caller's again
	}
	began := time.Now()
	m.Enqueue(relay.Message{Topic: topic}, relay.Retention{}, nil, relay.Token{}) // nobody to tell
	ended := time.Now()
	m.await(topic, len(sent)+1)
	got := m.Messages(topic)
	for i, want := range sent {
		if g := got[i]; g.Topic != want.Topic || g.From != want.From || !g.Time.Equal(want.Time) || !bytes.Equal(g.Body, want.Body) || !g.ID.IsZero() {
			t.Errorf("message %d is %.100v, was sent as %.100v", i, g, want)
		}
	}
	if at := got[len(sent)].Time; at.Before(began.Round(0)) || at.After(ended.Round(0)) {
		t.Errorf("a message without a time has %v, was sent between %v and %v", at, began, ended)
	}
	Eventually(t, "every message is answered", func() bool { return ledger.Len() == len(sent) })
	for i, a := range ledger.Answers() {
		if _, n := a.Numbers(); n != i || a.Err != nil {
			t.Errorf("answer %d: message %d, %v", i, n, a.Err)
		}
	}
}

// Everybody sees the messages of one publisher in its order, once each.
func testOrderOfOne(t *testing.T, f *fleet) {
	from, members := f.join(), []*member{f.join(), f.join()}
	topics := []relay.Topic{"room/0", "room/1", "room/2"}
	for _, m := range members {
		m.subscribe(topics...)
	}
	const each = 5000
	ledger := windowed()
	var want []string
	for i := range each {
		want = append(want, fmt.Sprint(i))
		for k, topic := range topics {
			ledger.Window <- struct{}{}
			from.Enqueue(relay.Message{Topic: topic, Body: []byte(want[i])}, relay.Retention{}, ledger, Numbered(k, i))
		}
	}
	Eventually(t, "every message is answered", func() bool { return ledger.Len() == each*len(topics) })
	answered(t, ledger, len(topics), each)
	for i, m := range members {
		for _, topic := range topics {
			m.await(topic, each)
			if got := m.Bodies(topic); !slices.Equal(got, want) {
				t.Errorf("node %d: %s has %d messages, or out of order", i, topic, len(got))
			}
		}
	}
}

// windowed returns a ledger for messages of which none may be refused: on a slow
// machine a long queue would be.
func windowed() *Ledger { return &Ledger{Window: make(chan struct{}, 500)} }

// answered fails the test unless the ledger has a good answer for each of the
// first n messages of each topic, once, in order.
func answered(t *testing.T, l *Ledger, topics, n int) {
	t.Helper()
	next := make([]int, topics)
	for _, a := range l.Answers() {
		topic, i := a.Numbers()
		if a.Err != nil {
			t.Fatalf("message %d of topic %d: %v", i, topic, a.Err)
		}
		if i != next[topic] {
			t.Fatalf("topic %d: message %d answered, its turn was %d's", topic, i, next[topic])
		}
		next[topic]++
	}
	for topic, got := range next {
		if got != n {
			t.Errorf("topic %d: %d messages answered, want %d", topic, got, n)
		}
	}
}

// Everybody sees the messages of many publishers in one order, and each
// publisher's in its own.
func testOrderOfMany(t *testing.T, f *fleet) {
	members := []*member{f.join(), f.join(), f.join()}
	const topic = relay.Topic("room/busy")
	const writers, each = 4, 500 // on each node
	for _, m := range members {
		m.subscribe(topic)
	}
	ledger := windowed()
	var wg sync.WaitGroup
	for k, m := range members {
		for w := range writers {
			wg.Go(func() {
				from := fmt.Sprint(k, ".", w)
				for i := range each {
					ledger.Window <- struct{}{}
					m.Enqueue(relay.Message{Topic: topic, From: from, Body: fmt.Append(nil, i)}, relay.Retention{}, ledger, relay.Token{})
				}
			})
		}
	}
	wg.Wait()
	total := len(members) * writers * each
	Eventually(t, "every message is answered", func() bool { return ledger.Len() == total })
	for _, a := range ledger.Answers() {
		if a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	var first []string
	for k, m := range members {
		m.await(topic, total)
		next := map[string]int{}
		var seen []string
		for _, g := range m.Messages(topic) {
			if want := fmt.Sprint(next[g.From]); string(g.Body) != want {
				t.Fatalf("node %d: message %s of %s, its turn was %s's", k, g.Body, g.From, want)
			}
			next[g.From]++
			seen = append(seen, g.From+" "+string(g.Body))
		}
		if first == nil {
			first = seen
		}
		if !slices.Equal(seen, first) {
			t.Errorf("node %d has another order than node 0", k)
		}
	}
}
