package relaytest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"parley/pkg/relay"
)

// maxInboxReaders is how many readers of a topic are remembered.
const maxInboxReaders = 64

func after(reader string, id relay.ID) relay.Reading {
	return relay.Reading{Reader: reader, After: &id}
}

// A reader that names its place gets what comes after it, as often as it asks; without
// a place it goes on from the last one.
func testInboxAfter(t *testing.T, m *mailbox) {
	b := m.Open(t)
	places := m.send("0", "1", "2")
	m.expect(m.collect(m.a, after("r", relay.ID{})), true, "0", "1", "2")
	for range 2 {
		c := m.collect(b, after("r", places[0]))
		m.expect(c, true, "1", "2")
		if c.Start.ID != places[0] {
			t.Errorf("starts at %v, want %v", c.Start.ID, places[0])
		}
	}
	m.expect(m.collect(m.a, after("r", places[2])), true)
	m.expect(m.collect(m.a, after("r", places[1])), true, "2")
	m.takes(b, "r", "2")
	m.expect(m.get(b, "r"), true)
	m.expect(m.collect(b, after("r", places[0])), true, "1", "2")
	m.expect(m.collect(b, after("unknown", places[1])), true, "2")
}

func testInboxAfterDrops(t *testing.T, m *mailbox) {
	b := m.Open(t)
	places := m.send("0", "1")
	c := m.get(m.a, "r")
	m.unsettled(m.get(b, "r"))
	m.expect(m.collect(b, after("r", places[0])), true, "1")
	m.expect(m.collect(b, after("r", places[0])), true, "1") // is no offer
	c2 := m.get(b, "r")
	m.expect(c2, true, "1")
	m.settle(m.a, "r", c.End, true) // the one from before, which ends at the same place
	m.expect(m.get(b, "r"), true)
}

// A place that no message had, and that comes after all, takes nothing from the reader
// and from others.
func testInboxAfterMadeUp(t *testing.T, m *mailbox) {
	future := relay.ID{Millis: uint64(time.Now().Add(24 * 365 * time.Hour).UnixMilli())}
	places := []relay.ID{future, {Millis: math.MaxUint64, Seq: math.MaxUint64}, {Millis: 1 << 53, Seq: 1<<53 + 1}}
	read := func(reader string, last relay.ID) {
		t.Helper()
		for _, place := range places {
			c := m.collect(m.a, after(reader, place))
			m.expect(c, false)
			if c.Start.ID != place || c.End.ID != last {
				t.Errorf("after %v it starts at %v and ends at %v, want %v", place, c.Start.ID, c.End.ID, last)
			}
		}
	}
	read("r", relay.ID{})
	place := m.send("0")[0]
	read("q", place)
	m.takes(m.a, "s", "0")
	m.expect(m.get(m.a, "s"), true)
	m.expect(m.get(m.a, "r"), false, "0")
	m.settle(m.a, "r", relay.Position{}, false)
	read("r", place)
	read("t", place)
	m.send("1")
	c := m.get(m.a, "r")
	m.expect(c, false, "1") // until it has been told
	m.settle(m.a, "r", c.End, true)
	m.takes(m.a, "unknown", "1")
	m.expect(m.get(m.a, "r"), true)
	old := relay.ID{Millis: place.Millis - 10}
	m.expect(m.collect(m.a, after("u", old)), false, "0", "1")
	between := relay.ID{Millis: place.Millis, Seq: place.Seq + 1}
	c = m.collect(m.a, after("u", between))
	m.expect(c, false, "1")
	m.settle(m.a, "u", relay.Position{Epoch: c.End.Epoch, ID: c.Before}, true) // alone, at first
	if c.Before != place {
		t.Errorf("the message comes after %v, want %v", c.Before, place)
	}
	m.takes(m.a, "u", "1")
}

// What was given is dropped when its reader comes again, for readers that are not known;
// those that are known still get it.
func testInboxWatermark(t *testing.T, m *mailbox) {
	b := m.Open(t)
	m.takes(b, "known") // and stays at the beginning
	m.send("0", "1")
	c := m.takes(m.a, "r", "0", "1")
	first := m.get(b, "first")
	m.expect(first, true, "0", "1")
	m.settle(b, "first", first.End, false)
	m.expect(m.get(m.a, "r"), true)
	second := m.get(b, "second")
	m.expect(second, true)
	if second.Start.ID != c.End.ID {
		t.Errorf("an unknown reader starts at %v, want %v", second.Start.ID, c.End.ID)
	}
	m.takes(b, "first", "0", "1")
	m.takes(b, "known", "0", "1")
	m.send("2")
	for _, reader := range []string{"r", "first", "second", "third", "known"} {
		m.takes(m.a, reader, "2")
	}
}

func testInboxWatermarkAfter(t *testing.T, m *mailbox) {
	places := m.send("0", "1", "2")
	m.expect(m.collect(m.a, after("r", places[1])), true, "2")
	m.takes(m.a, "s", "2")
	m.expect(m.collect(m.a, after("r", places[0])), true, "1", "2")
	m.takes(m.a, "t", "2") // it does not go back
}

// Of what was trimmed those are told who have missed it, until an answer was written.
func testInboxTrimmed(t *testing.T, m *mailbox) {
	b := m.Open(t)
	m.keep.Length = 10
	place := m.send("first")[0]
	m.takes(m.a, "r", "first")
	var bodies []string
	for i := range 13 {
		bodies = append(bodies, fmt.Sprint(i))
	}
	places := m.send(bodies...)
	m.expect(m.collect(b, after("place", place)), false, bodies[3:]...)
	for range 2 {
		c := m.get(b, "r")
		m.expect(c, false, bodies[3:]...)
		if c.Start.ID != place || c.Before != places[2] {
			t.Errorf("starts at %v, the first message comes after %v; want %v and %v", c.Start.ID, c.Before, place, places[2])
		}
		m.settle(b, "r", c.End, false)
	}
	m.expect(m.get(m.a, "unknown"), false, bodies[3:]...)
	c := m.get(b, "r")
	m.expect(c, false, bodies[3:]...)
	m.settle(b, "r", c.End, true)
	m.expect(m.get(b, "r"), true)
	m.expect(m.get(b, "unknown too"), true)
	m.expect(m.collect(b, after("place", place)), false, bodies[3:]...)
	m.expect(m.collect(b, after("place", c.Messages[8].ID)), true, bodies[12]) // which it knows by the answer alone
}

// That something is missing may be told in an answer of its own, which ends right before
// the first message.
func testInboxTrimmedAlone(t *testing.T, m *mailbox) {
	m.keep.Length = 10
	start := m.send("first")[0]
	m.takes(m.a, "r", "first")
	var bodies []string
	for i := range 13 {
		bodies = append(bodies, fmt.Sprint(i))
	}
	m.send(bodies...)
	for _, reading := range []relay.Reading{{Reader: "unknown"}, {Reader: "r"}, after("place", start)} {
		c := m.collect(m.a, reading)
		m.expect(c, false, bodies[3:]...)
		m.settle(m.a, reading.Reader, c.End, false)
		m.settle(m.a, reading.Reader, relay.Position{Epoch: c.End.Epoch, ID: c.Before}, true)
		m.takes(m.a, reading.Reader, bodies[3:]...)
	}
}

// Right at the edge nothing is missing.
func testInboxTrimmedEdge(t *testing.T, m *mailbox) {
	m.keep.Length = 10
	places := m.send("a", "b")
	m.takes(m.a, "r", "a", "b")
	var bodies []string
	for i := range 10 {
		bodies = append(bodies, fmt.Sprint(i))
	}
	m.send(bodies...)
	m.expect(m.collect(m.a, after("b", places[1])), true, bodies...)
	m.expect(m.collect(m.a, after("a", places[0])), false, bodies...)
	m.takes(m.a, "r", bodies...)
}

// What has expired is told to those who have missed it; what was the last stays known.
func testInboxExpired(t *testing.T, m *mailbox) {
	epoch := m.takes(m.a, "new").End.Epoch
	m.keep.Age = time.Second
	places := m.send("0", "1")
	for reader, p := range map[string]relay.ID{"all": places[1], "half": places[0]} {
		m.settle(m.a, reader, relay.Position{Epoch: epoch, ID: p}, true)
	}
	Eventually(t, "the messages expire", func() bool {
		c, err := m.a.Collect(t.Context(), m.topic, relay.Reading{Reader: "watch", After: &relay.ID{}}, 1)
		return err == nil && len(c.Messages) == 0
	})
	m.takes(m.a, "all")
	for _, reader := range []string{"half", "new"} {
		c := m.get(m.a, reader)
		m.expect(c, false)
		if c.End.ID != places[1] {
			t.Errorf("%s: ends at %v, want %v", reader, c.End.ID, places[1])
		}
		m.expect(m.get(m.a, reader), false) // until it has been told
		m.settle(m.a, reader, c.End, true)
		m.expect(m.get(m.a, reader), true)
	}
	m.send("2")
	for _, reader := range []string{"all", "half", "new"} {
		m.takes(m.a, reader, "2")
	}
}

// So many readers are remembered; the one that was used longest ago goes first, and starts
// as one that is not known.
func testInboxReaders(t *testing.T, m *mailbox) {
	name := func(i int) string { return fmt.Sprint("reader-", i) }
	for i := range maxInboxReaders {
		m.expect(m.get(m.a, name(i)), true)
	}
	m.send("0")
	m.takes(m.a, name(0), "0")
	m.expect(m.get(m.a, name(0)), true) // from now on others do not get it
	c := m.get(m.a, name(1))
	m.expect(c, true, "0") // but for those that are known, and all are
	m.settle(m.a, name(1), c.End, false)
	m.offer(m.a, name(2), c.End)
	m.expect(m.get(m.a, "one more"), true)
	m.expect(m.get(m.a, name(3)), true) // it was forgotten; now 4 is
	m.expect(m.get(m.a, name(4)), true)
	m.takes(m.a, name(6), "0") // used now
	m.takes(m.a, name(1), "0")
	m.unsettled(m.get(m.a, name(2)))
	for i := 7; i < maxInboxReaders; i++ {
		m.takes(m.a, name(i), "0")
	}
}

// A reader with a place that goes on from where it was told was told: by the answer alone it
// knows that place.
func testInboxToldByPlace(t *testing.T, m *mailbox) {
	m.keep.Length = 10
	start := m.send("first")[0]
	var bodies []string
	for i := range 13 {
		bodies = append(bodies, fmt.Sprint(i))
	}
	m.send(bodies...)
	for range 2 { // nothing is known of how the first answer went
		m.expect(m.collect(m.a, after("r", start)), false, bodies[3:]...)
	}
	c := m.collect(m.a, after("r", start))
	m.expect(m.collect(m.a, after("r", c.Before)), true, bodies[3:]...)
	m.expect(m.collect(m.a, after("r", start)), false, bodies[3:]...)
	m.expect(m.collect(m.a, after("r", c.Messages[4].ID)), true, bodies[8:]...)
}

// A reader that comes often without anything new for it is not the one to be forgotten.
func testInboxQuietReader(t *testing.T, m *mailbox) {
	m.expect(m.get(m.a, "quiet"), true)
	for i := range 2 * maxInboxReaders {
		m.expect(m.get(m.a, fmt.Sprint("reader-", i)), true)
		m.expect(m.get(m.a, "quiet"), true)
	}
	m.send("0")
	m.takes(m.a, "reader-100", "0")
	m.expect(m.get(m.a, "reader-100"), true) // those that are not known do not get it any more
	m.expect(m.get(m.a, "unknown"), true)
	m.expect(m.get(m.a, "quiet"), true, "0")
}

// When Redis has lost all, every reader is told, also one of which nothing is known any
// more, and is told no more when an answer with it was written. What comes later comes.
func testInboxFlush(t *testing.T, m *mailbox) {
	b := m.Open(t)
	last := m.send("0", "1")[1]
	m.takes(m.a, "r", "0", "1")
	m.Flush(t)
	for i, n := range []*InboxNode{m.a, b} {
		for range 2 {
			m.told(n, "r")
			c, err := n.Collect(t.Context(), m.topic, after(fmt.Sprint("place-", i), last), 10)
			if err != nil || c.Complete || len(c.Messages) > 0 {
				t.Errorf("with a place it collects %v, %v", c, err)
			}
		}
	}
	Eventually(t, "the reader has been told", func() bool { // the history has a name soon
		c := m.get(m.a, "r")
		m.settle(m.a, "r", c.End, true)
		return m.get(b, "r").Complete
	})
	m.send("2")
	m.takes(b, "r", "2")
	m.told(b, "unknown", "2")
	c := m.collect(b, relay.Reading{Reader: "unknown", Insist: true})
	m.settle(b, "unknown", c.End, true)
	m.expect(m.get(m.a, "unknown"), true)
}

// told fails the test unless a reader is told that messages may be missing.
func (m *mailbox) told(n *InboxNode, reader string, bodies ...string) {
	m.t.Helper()
	c := m.get(n, reader)
	if c.Complete || c.Unsettled || len(c.Messages) != len(bodies) {
		m.t.Errorf("%s collects %v", reader, c)
	}
}
