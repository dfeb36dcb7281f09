package relaytest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/pkg/relay"
)

// InboxNode is a node that runs: what it publishes with, and its inboxes.
type InboxNode struct {
	relay.Broker
	relay.Inbox
	*Recorder
}

// InboxRetention is what a test keeps the messages of a topic for, and how long the
// inboxes remember readers.
var InboxRetention = relay.Retention{Length: 1000, Age: time.Hour}

// InboxBackend is one Redis for all parts of the suite.
type InboxBackend struct {
	// Open makes one more node, which runs until the end of the test and takes all topics
	// that start with relay.UserTopics for kept.
	Open func(tb testing.TB) *InboxNode
	// Flush has Redis lose everything.
	Flush func(tb testing.TB)
	// Rounds is how many messages the readers that hop between nodes are sent.
	Rounds int
}

// Inbox checks what relay.Inbox promises, in parts most of which run in parallel.
func Inbox(t *testing.T, b InboxBackend) {
	t.Run("Whole", func(t *testing.T) {
		for _, part := range []struct {
			name string
			test func(*testing.T, *mailbox)
		}{
			{"Nothing", testInboxNothing},
			{"Messages", testInboxMessages},
			{"Positions", testInboxPositions},
			{"Unsettled", testInboxUnsettled},
			{"Insist", testInboxInsist},
			{"NotWritten", testInboxNotWritten},
			{"Offer", testInboxOffer},
			{"OfferToOneUnknown", testInboxOfferUnknown},
			{"SettleLate", testInboxSettleLate},
			{"After", testInboxAfter},
			{"AfterDropsOffers", testInboxAfterDrops},
			{"AfterMadeUp", testInboxAfterMadeUp},
			{"Watermark", testInboxWatermark},
			{"WatermarkOfAfter", testInboxWatermarkAfter},
			{"Trimmed", testInboxTrimmed},
			{"TrimmedAtTheEdge", testInboxTrimmedEdge},
			{"TrimmedAloneFirst", testInboxTrimmedAlone},
			{"Expired", testInboxExpired},
			{"ManyReaders", testInboxReaders},
			{"QuietReader", testInboxQuietReader},
			{"ToldByPlace", testInboxToldByPlace},
			{"Race", testInboxRace},
			{"BadArguments", testInboxBad},
			{"Hops", testInboxHops},
			{"HopsByAfter", testInboxHopsByAfter},
		} {
			t.Run(part.name, func(t *testing.T) {
				t.Parallel()
				part.test(t, newMailbox(t, b))
			})
		}
	})
	t.Run("Flush", func(t *testing.T) { testInboxFlush(t, newMailbox(t, b)) })
}

// mailbox is one part of the suite, with a topic that no other one has.
type mailbox struct {
	InboxBackend
	t     *testing.T
	topic relay.Topic
	keep  relay.Retention
	a     *InboxNode
}

func newMailbox(t *testing.T, b InboxBackend) *mailbox {
	return &mailbox{InboxBackend: b, t: t, topic: relay.UserTopic(rand.Int64()), keep: InboxRetention, a: b.Open(t)}
}

// send publishes messages with the given bodies and returns their places.
func (m *mailbox) send(bodies ...string) (places []relay.ID) {
	m.t.Helper()
	for _, body := range bodies {
		id, err := m.a.Publish(m.t.Context(), relay.Message{Topic: m.topic, From: "test", Body: []byte(body)}, m.keep)
		if err != nil || id.IsZero() {
			m.t.Fatalf("publishing %q: place %v, %v", body, id, err)
		}
		places = append(places, id)
	}
	return places
}

// collect collects up to ten messages and fails the test when that does.
func (m *mailbox) collect(n *InboxNode, r relay.Reading) relay.Collected {
	m.t.Helper()
	c, err := n.Collect(m.t.Context(), m.topic, r, 10)
	if err != nil {
		m.t.Fatalf("Collect(%v): %v", r, err)
	}
	return c
}

// get is collect for a reader that leaves its place to the inbox.
func (m *mailbox) get(n *InboxNode, reader string) relay.Collected {
	m.t.Helper()
	return m.collect(n, relay.Reading{Reader: reader})
}

func (m *mailbox) settle(n *InboxNode, reader string, p relay.Position, written bool) {
	m.t.Helper()
	if err := n.Settle(m.t.Context(), m.topic, reader, p, written); err != nil {
		m.t.Fatalf("Settle(%s, %v, %v): %v", reader, p, written, err)
	}
}

func (m *mailbox) offer(n *InboxNode, reader string, p relay.Position) {
	m.t.Helper()
	if err := n.Offer(m.t.Context(), m.topic, reader, p); err != nil {
		m.t.Fatalf("Offer(%s, %v): %v", reader, p, err)
	}
}

// expect fails the test unless what was collected are these messages, and complete, or not.
func (m *mailbox) expect(c relay.Collected, complete bool, bodies ...string) {
	m.t.Helper()
	var got []string
	for _, x := range c.Messages {
		got = append(got, string(x.Body))
	}
	if !slices.Equal(got, bodies) || c.Complete != complete || c.Unsettled {
		m.t.Errorf("collected %q, complete: %v, unsettled: %v; want %q, complete: %v", got, c.Complete, c.Unsettled, bodies, complete)
	}
	if c.Start.Epoch == 0 || c.End.Epoch != c.Start.Epoch {
		m.t.Errorf("starts in epoch %d and ends in %d", c.Start.Epoch, c.End.Epoch)
	}
	if n := len(c.Messages); n > 0 && c.End.ID != c.Messages[n-1].ID {
		m.t.Errorf("ends at %v, and the last message is at %v", c.End.ID, c.Messages[n-1].ID)
	} else if complete && n > 0 && c.Before != c.Start.ID {
		m.t.Errorf("before the first message there is %v, and it starts at %v", c.Before, c.Start.ID)
	} else if n == 0 && complete && c.End != c.Start {
		m.t.Errorf("without messages it starts at %v and ends at %v", c.Start, c.End)
	}
}

// unsettled fails the test unless an answer is being written.
func (m *mailbox) unsettled(c relay.Collected) {
	m.t.Helper()
	if !c.Unsettled || len(c.Messages) > 0 || c.Complete {
		m.t.Errorf("collected %d messages, complete: %v, unsettled: %v; want unsettled", len(c.Messages), c.Complete, c.Unsettled)
	}
}

// takes has a reader collect messages and take them.
func (m *mailbox) takes(n *InboxNode, reader string, bodies ...string) relay.Collected {
	m.t.Helper()
	c := m.get(n, reader)
	m.expect(c, true, bodies...)
	m.settle(n, reader, c.End, true)
	return c
}

func testInboxNothing(t *testing.T, m *mailbox) {
	b := m.Open(t)
	for _, n := range []*InboxNode{m.a, b, m.a} {
		c := m.get(n, "r")
		m.expect(c, true)
		if !c.Start.ID.IsZero() || c.Start.At.IsZero() || c.Start.At.After(time.Now()) {
			t.Errorf("the beginning is %v", c.Start)
		}
	}
	m.send("0")
	m.expect(m.get(b, "r"), true, "0")
}

// Messages come in order, as many as asked for, on whichever node, with all they have.
func testInboxMessages(t *testing.T, m *mailbox) {
	b := m.Open(t)
	places := m.send("0", "1", "2", "3", "4")
	start := relay.ID{}
	for i, n := range []*InboxNode{b, m.a, b} {
		c, err := n.Collect(t.Context(), m.topic, relay.Reading{Reader: "r"}, 2)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"0", "1", "2", "3", "4"}[2*i : min(2*i+2, 5)]
		m.expect(c, true, want...)
		if c.Start.ID != start || c.Start.At != (time.Time{}) || c.End.At.IsZero() != (len(want) == 2) {
			t.Errorf("answer %d starts at %v and ends at %v", i, c.Start, c.End)
		}
		for k, x := range c.Messages {
			if x.ID != places[2*i+k] || x.Topic != m.topic || x.From != "test" || time.Since(x.Time) > Patience {
				t.Errorf("message %d is %v", 2*i+k, x)
			}
		}
		m.settle(n, "r", c.End, true)
		start = c.End.ID
	}
	m.expect(m.get(m.a, "r"), true)
}

// Positions can be compared with those of subscribers.
func testInboxPositions(t *testing.T, m *mailbox) {
	b := m.Open(t)
	m.send("0")
	p, err := b.Subscribe(t.Context(), m.topic)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Unsubscribe(m.topic)
	c := m.takes(m.a, "r", "0")
	if c.End.ID != p[0].ID || c.End.Epoch != p[0].Epoch {
		t.Errorf("what was collected ends at %v, and the subscription begins at %v", c.End, p[0])
	}
	m.send("1")
	Eventually(t, "the message comes live", func() bool { return b.Count(m.topic) == 1 })
	c = m.takes(m.a, "r", "1")
	if live := b.Messages(m.topic)[0]; live.ID != c.End.ID {
		t.Errorf("the message is at %v, and live at %v", c.End.ID, live.ID)
	}
}

func testInboxUnsettled(t *testing.T, m *mailbox) {
	b := m.Open(t)
	m.send("0")
	c := m.get(m.a, "r")
	m.expect(c, true, "0")
	m.unsettled(m.get(m.a, "r"))
	m.unsettled(m.get(b, "r"))
	m.expect(m.get(b, "other"), true, "0") // is its own
	m.send("1")
	m.unsettled(m.get(b, "r"))
	m.settle(b, "r", c.End, true)
	c = m.get(b, "r")
	m.expect(c, true, "1")
	m.settle(m.a, "r", c.End, true)
	m.expect(m.get(m.a, "r"), true)
	m.expect(m.get(b, "r"), true) // nothing is no offer
}

// Who insists gets what was not taken, and what was taken late counts all the same.
func testInboxInsist(t *testing.T, m *mailbox) {
	b := m.Open(t)
	insist := relay.Reading{Reader: "r", Insist: true}
	m.expect(m.collect(m.a, insist), true) // there is nothing to insist on
	m.send("0")
	first := m.get(m.a, "r")
	m.expect(first, true, "0")
	m.send("1")
	m.unsettled(m.get(b, "r"))
	c := m.collect(b, insist)
	m.expect(c, true, "0", "1")
	m.unsettled(m.get(m.a, "r"))
	m.settle(m.a, "r", first.End, false) // is another answer
	m.unsettled(m.get(m.a, "r"))
	m.settle(m.a, "r", first.End, true) // so is this one, but the reader has it
	m.unsettled(m.get(m.a, "r"))
	m.settle(b, "r", c.End, false)
	m.takes(b, "r", "1")
	m.expect(m.get(m.a, "r"), true)
}

func testInboxNotWritten(t *testing.T, m *mailbox) {
	b := m.Open(t)
	m.send("0")
	for range 3 {
		c := m.get(m.a, "r")
		m.expect(c, true, "0")
		m.settle(m.a, "r", c.End, false)
		m.settle(m.a, "r", c.End, false) // tells nothing new
	}
	m.send("1")
	c := m.get(b, "r")
	m.expect(c, true, "0", "1")
	m.settle(b, "stranger", c.End, false)
	m.unsettled(m.get(b, "r"))
	m.settle(b, "r", c.End, true)
	m.settle(b, "r", c.End, false) // it was
	m.expect(m.get(b, "r"), true)
}

// What came live is offered, and given again when it was not written.
func testInboxOffer(t *testing.T, m *mailbox) {
	b := m.Open(t)
	at := m.get(m.a, "r").End
	m.expect(m.get(m.a, "r"), true)
	place := func(i int, places []relay.ID) relay.Position { return relay.Position{Epoch: at.Epoch, ID: places[i]} }
	places := m.send("0", "1", "2")
	m.offer(m.a, "r", place(0, places))
	m.unsettled(m.get(b, "r"))
	m.offer(m.a, "r", place(0, places)) // again
	m.settle(m.a, "r", place(0, places), false)
	c := m.get(b, "r")
	m.expect(c, true, "0", "1", "2")
	m.settle(b, "r", c.End, false)
	m.offer(m.a, "r", place(1, places))
	m.settle(b, "r", place(1, places), true)
	m.offer(m.a, "r", place(0, places)) // it has come further
	m.offer(m.a, "r", place(1, places))
	c = m.get(b, "r")
	m.expect(c, true, "2")
	m.settle(b, "r", c.End, false)
	places = append(places, m.send("3")...)
	m.offer(b, "r", place(3, places))
	m.offer(b, "r", place(2, places)) // of several, the one that ends last
	m.settle(b, "r", place(2, places), true)
	m.unsettled(m.get(b, "r"))
	m.settle(b, "r", place(3, places), true)
	m.expect(m.get(b, "r"), true)
}

// A reader that was forgotten while it waited is offered what it is given, and has it.
func testInboxOfferUnknown(t *testing.T, m *mailbox) {
	epoch := m.get(m.a, "other").End.Epoch
	places := m.send("0", "1")
	m.offer(m.a, "r", relay.Position{Epoch: epoch, ID: places[0]})
	m.unsettled(m.get(m.a, "r"))
	m.settle(m.a, "r", relay.Position{Epoch: epoch, ID: places[0]}, true)
	m.settle(m.a, "s", relay.Position{Epoch: epoch, ID: places[0]}, true)
	m.takes(m.a, "t", "0", "1") // others have not come again
	m.takes(m.a, "r", "1")
	m.takes(m.a, "s", "1")
}

// An answer that ended long ago does not take a reader back.
func testInboxSettleLate(t *testing.T, m *mailbox) {
	m.send("0")
	first := m.takes(m.a, "r", "0")
	m.send("1")
	second := m.takes(m.a, "r", "1")
	late := first.End
	late.Epoch++
	m.settle(m.a, "r", late, true)
	m.settle(m.a, "r", first.End, false)
	m.expect(m.get(m.a, "r"), true)
	other := second.End
	other.Epoch++ // nobody knows what was missed since
	m.settle(m.a, "r", other, true)
	for range 2 { // until it has been told
		m.expect(m.get(m.a, "r"), false)
	}
	m.settle(m.a, "r", m.get(m.a, "r").End, true)
	m.expect(m.get(m.a, "r"), true)
}

func testInboxBad(t *testing.T, m *mailbox) {
	ctx := t.Context()
	wrong := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("%s: error = %v, want one, and not %v", what, err, relay.ErrUnavailable)
		}
	}
	long := strings.Repeat("x", 128)
	for _, reader := range []string{"", long + "x"} {
		_, err := m.a.Collect(ctx, m.topic, relay.Reading{Reader: reader}, 1)
		wrong("Collect", err)
		wrong("Offer", m.a.Offer(ctx, m.topic, reader, relay.Position{}))
		wrong("Settle", m.a.Settle(ctx, m.topic, reader, relay.Position{}, true))
	}
	for _, n := range []int{-1, 0, 1001} {
		_, err := m.a.Collect(ctx, m.topic, relay.Reading{Reader: "r"}, n)
		wrong(fmt.Sprint(n, " messages"), err)
	}
	m.send("0", "1")
	readers := []string{long, " ", "topic", "r:", string([]byte{0, '\r', '\n', 255})}
	var all []relay.Collected
	for _, reader := range readers {
		c, err := m.a.Collect(ctx, m.topic, relay.Reading{Reader: reader}, 1)
		if err != nil {
			t.Errorf("reader %q: %v", reader, err)
		}
		m.expect(c, true, "0")
		all = append(all, c)
	}
	for i, reader := range readers {
		m.settle(m.a, reader, all[i].End, true)
		c, err := m.a.Collect(ctx, m.topic, relay.Reading{Reader: reader}, 1000)
		if err != nil {
			t.Errorf("reader %q: %v", reader, err)
		}
		m.expect(c, true, "1")
	}
}
