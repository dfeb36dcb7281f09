package relaytest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/pkg/relay"
)

// keeper is a broker that keeps messages.
type keeper interface {
	relay.Broker
	relay.History
}

// History checks what relay.History and relay.Broker promise of kept messages.
// Brokers of the backend must implement both, and take all topics that start
// with "client/" for kept (but for those that nothing kept is published to).
func History(t *testing.T, start func(testing.TB) Backend) {
	NoLeaks(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *fleet)
	}{
		{"Places", testPlaces},
		{"Pages", testPages},
		{"Trimmed", testTrimmed},
		{"Expired", testExpired},
		{"Before", testBefore},
		{"NothingKept", testNothingKept},
		{"Positions", testPositions},
		{"OneOrder", testKeptOrder},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, &fleet{t: t, Backend: start(t)})
		})
	}
}

// long keeps what a test publishes.
var long = relay.Retention{Length: 1000, Age: time.Minute}

// keep publishes messages with the given bodies and returns their places.
func (m *member) keep(t relay.Topic, r relay.Retention, bodies ...string) (places []relay.ID) {
	m.t.Helper()
	for _, body := range bodies {
		id, err := m.Publish(m.t.Context(), relay.Message{Topic: t, From: "test", Body: []byte(body)}, r)
		if err != nil || id.IsZero() {
			m.t.Fatalf("publishing %q: place %v, %v", body, id, err)
		}
		places = append(places, id)
	}
	return places
}

// since reads what a topic has after a position.
func (m *member) since(t relay.Topic, after relay.Position, n int) relay.Page {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), Patience)
	defer cancel()
	p, err := m.Broker.(keeper).Since(ctx, t, after, n)
	if err != nil {
		m.t.Fatalf("Since(%s, %v): %v", t, after, err)
	}
	return p
}

// expect fails the test unless a page has these messages and is complete, or not.
func (m *member) expect(p relay.Page, complete bool, bodies ...string) {
	m.t.Helper()
	var got []string
	for _, x := range p.Messages {
		got = append(got, string(x.Body))
	}
	if !slices.Equal(got, bodies) || p.Complete != complete {
		m.t.Errorf("read %q, complete: %v; want %q, complete: %v", got, p.Complete, bodies, complete)
	}
	if n := len(p.Messages); n > 0 && p.Position.ID != p.Messages[n-1].ID {
		m.t.Errorf("the page ends at %v, and its last message is at %v", p.Position.ID, p.Messages[n-1].ID)
	}
}

func (m *member) subscribeNew(t relay.Topic) relay.Position {
	m.t.Helper()
	p, err := m.SubscribeNew(m.t.Context(), t)
	if err != nil {
		m.t.Fatalf("SubscribeNew(%s): %v", t, err)
	}
	if p.Epoch == 0 || !p.ID.IsZero() {
		m.t.Errorf("a new topic's position is %v", p)
	}
	return p
}

// The sender, the subscribers and the history agree on the place of each message,
// and places ascend.
func testPlaces(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const topic = relay.Topic("client/places")
	start := to.subscribeNew(topic)
	bodies := []string{"a", "b", "c"}
	places := from.keep(topic, long, bodies...)
	if !slices.IsSortedFunc(places, relay.ID.Compare) || places[0] == places[1] || places[1] == places[2] {
		t.Errorf("places do not ascend: %v", places)
	}
	to.await(topic, len(bodies))
	p := from.since(topic, start, 10)
	from.expect(p, true, bodies...)
	for i, live := range to.Messages(topic) {
		kept := p.Messages[i]
		if live.ID != places[i] || kept.ID != places[i] || string(live.Body) != bodies[i] ||
			kept.From != live.From || !kept.Time.Equal(live.Time) || kept.Topic != topic {
			t.Errorf("message %d is %v where it was delivered, %v in the history; its place is %v", i, live, kept, places[i])
		}
	}
}

func testPages(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("client/pages")
	at := m.subscribeNew(topic)
	m.keep(topic, long, "0", "1", "2", "3", "4", "5", "6")
	for _, want := range [][]string{{"0", "1", "2"}, {"3", "4", "5"}, {"6"}, nil} {
		p := m.since(topic, at, 3)
		m.expect(p, true, want...)
		if p.More != (len(want) == 3) {
			t.Errorf("after %q there is more: %v", want, p.More)
		}
		at = p.Position
	}
}

// What a stream has lost to its bound is missed only by those who need it.
func testTrimmed(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("client/trimmed")
	start := m.subscribeNew(topic)
	places := m.keep(topic, relay.Retention{Length: 3, Age: time.Minute}, "0", "1", "2", "3", "4", "5")
	at := func(i int) relay.Position { return relay.Position{Epoch: start.Epoch, ID: places[i], At: time.Now()} }
	m.expect(m.since(topic, start, 10), false, "3", "4", "5")
	m.expect(m.since(topic, at(1), 10), false, "3", "4", "5")
	m.expect(m.since(topic, at(2), 10), true, "3", "4", "5") // at the edge: nothing of it is missing
	m.expect(m.since(topic, at(3), 10), true, "4", "5")
	m.expect(m.since(topic, at(5), 10), true)
	other := at(2)
	other.Epoch++
	m.expect(m.since(topic, other, 10), false, "3", "4", "5")
	other.Epoch = 0
	m.expect(m.since(topic, other, 10), false, "3", "4", "5")
}

// Messages go when their time has come, and what is known of them stays.
func testExpired(t *testing.T, f *fleet) {
	m := f.join()
	const topic, quiet = relay.Topic("client/expired"), relay.Topic("client/quiet")
	start, never := m.subscribeNew(topic), m.subscribeNew(quiet)
	short := relay.Retention{Length: 10, Age: time.Second}
	places := m.keep(topic, short, "0", "1")
	Eventually(t, "the messages expire", func() bool { return len(m.since(topic, start, 10).Messages) == 0 })
	at := func(i int) relay.Position { return relay.Position{Epoch: start.Epoch, ID: places[i], At: time.Now()} }
	m.expect(m.since(topic, start, 10), false)
	m.expect(m.since(topic, at(0), 10), false)
	m.expect(m.since(topic, at(1), 10), true)
	m.expect(m.since(quiet, never, 10), true)
	long := never
	long.At = time.Now().Add(-24 * time.Hour) // nobody knows what was published since
	m.expect(m.since(quiet, long, 10), false)
	m.keep(topic, short, "2")
	m.expect(m.since(topic, at(1), 10), true, "2")
	m.expect(m.since(topic, at(0), 10), false, "2")
}

func testBefore(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("client/before")
	m.keep(topic, long, "0", "1", "2", "3", "4")
	var at relay.ID
	for _, want := range [][]string{{"4", "3"}, {"2", "1"}, {"0"}} {
		messages, more, err := m.Broker.(keeper).Before(t.Context(), topic, at, 2)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range messages {
			got = append(got, string(x.Body))
			at = x.ID
		}
		if !slices.Equal(got, want) || more != (len(want) == 2) {
			t.Errorf("read %q, more: %v; want %q", got, more, want)
		}
	}
}

// A message that is not kept has no place and leaves none.
func testNothingKept(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("client/unkept")
	start := m.subscribeNew(topic)
	m.publish(topic, "passing")
	places := m.keep(topic, long, "kept")
	m.publish(topic, "passing too")
	m.await(topic, 3)
	if got := m.Bodies(topic); !slices.Equal(got, []string{"passing", "kept", "passing too"}) {
		t.Errorf("got %q", got)
	}
	m.expect(m.since(topic, start, 10), true, "kept")
	m.expect(m.since(topic, relay.Position{Epoch: start.Epoch, ID: places[0], At: time.Now()}, 10), true)
	if m.Gaps() != 0 {
		t.Errorf("%d gaps", m.Gaps())
	}
}

// Subscribe tells where a topic stands, so that what comes later is neither
// missed nor read twice.
func testPositions(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const topic = relay.Topic("client/positions")
	places := from.keep(topic, long, "0", "1")
	for range 2 { // the second time it is known on the node
		p, err := to.Subscribe(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if p[0].ID != places[1] || p[0].Epoch == 0 {
			t.Errorf("the topic is at %v, and Subscribe says %v", places[1], p[0])
		}
		to.expect(to.since(topic, p[0], 10), true)
	}
	more := from.keep(topic, long, "2")
	to.await(topic, 1)
	if got := to.Bodies(topic); !slices.Equal(got, []string{"2"}) {
		t.Errorf("got %q", got)
	}
	p, err := to.Subscribe(t.Context(), topic)
	if err != nil || p[0].ID != more[0] {
		t.Errorf("the topic is at %v, and Subscribe says %v, %v", more[0], p, err)
	}
}

// Many publish kept messages to one topic: every node gets each once, in the order
// of the history.
func testKeptOrder(t *testing.T, f *fleet) {
	members := []*member{f.join(), f.join(), f.join()}
	const topic = relay.Topic("client/order")
	const each = 200
	start := members[0].subscribeNew(topic)
	for _, m := range members[1:] {
		if _, err := m.Subscribe(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
	}
	ledger := windowed()
	for i := range each {
		for k, m := range members {
			ledger.Window <- struct{}{}
			m.Enqueue(relay.Message{Topic: topic, From: fmt.Sprint(k), Body: fmt.Append(nil, k, ".", i)}, long, ledger, Numbered(k, i))
		}
	}
	total := each * len(members)
	Eventually(t, "every message is answered", func() bool { return ledger.Len() == total })
	page := members[0].since(topic, start, total+1)
	if !page.Complete || len(page.Messages) != total {
		t.Fatalf("the history has %d messages, complete: %v; %d were published", len(page.Messages), page.Complete, total)
	}
	for k, m := range members {
		m.await(topic, total)
		got := m.Messages(topic)
		if len(got) != total {
			t.Errorf("node %d got %d messages, %d were published", k, len(got), total)
		}
		for i := range page.Messages {
			if got[i].ID != page.Messages[i].ID {
				t.Fatalf("node %d got %v in place %d, where the history has %v", k, got[i].ID, i, page.Messages[i].ID)
			}
		}
		if m.Gaps() != 0 {
			t.Errorf("node %d: %d gaps", k, m.Gaps())
		}
	}
}
