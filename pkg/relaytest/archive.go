package relaytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// Archive holds an implementation to the contract of relay.Archive. Open makes an
// empty archive, and returns it as so many nodes have it.
func Archive(t *testing.T, open func(tb testing.TB, nodes int) []relay.Archive) {
	one := func(test func(*testing.T, relay.Archive)) func(*testing.T) {
		return func(t *testing.T) { test(t, open(t, 1)[0]) }
	}
	t.Run("an empty topic", one(testArchiveEmpty))
	t.Run("messages are kept as they are", one(testArchiveContent))
	t.Run("pages", one(testArchivePages))
	t.Run("places", one(testArchivePlaces))
	t.Run("topics are exact", one(testArchiveTopics))
	t.Run("storing again", one(testArchiveAgain))
	t.Run("all or none", one(testArchiveAllOrNone))
	t.Run("a large batch", one(testArchiveLarge))
	t.Run("an end of patience", one(testArchiveContext))
	t.Run("several nodes at once", func(t *testing.T) { testArchiveMany(t, open(t, 3)) })
}

const archiveTopic = relay.Topic("chat/beast")

// archived are messages of a topic in consecutive milliseconds, from the first.
func archived(topic relay.Topic, first uint64, bodies ...string) []relay.Message {
	var ms []relay.Message
	for i, body := range bodies {
		ms = append(ms, relay.Message{
			ID: relay.ID{Millis: first + uint64(i)}, Topic: topic, From: "7",
			Time: time.Unix(1_700_000_000, int64(i)+1), Body: []byte(body),
		})
	}
	return ms
}

func mustStore(t *testing.T, a relay.Archive, ms ...relay.Message) {
	t.Helper()
	if err := a.Store(t.Context(), ms); err != nil {
		t.Fatalf("Store: %v", err)
	}
}

// page reads a page, which must be what Newest says, too, if it is the newest.
func page(t *testing.T, a relay.Archive, topic relay.Topic, before relay.ID, n int) ([]relay.Message, bool) {
	t.Helper()
	ms, more, err := a.Before(t.Context(), topic, before, n)
	if err != nil {
		t.Fatalf("Before %v: %v", before, err)
	}
	if before.IsZero() {
		recent, err := a.Newest(t.Context(), topic, n)
		if err != nil {
			t.Fatalf("Newest: %v", err)
		}
		if !slices.Equal(bodies(recent.Messages), bodies(ms)) || recent.More != more || !recent.Intact.IsZero() {
			t.Errorf("Newest: %q, more %v, intact %v; Before: %q, more %v", bodies(recent.Messages), recent.More, recent.Intact, bodies(ms), more)
		}
	}
	return ms, more
}

func bodies(ms []relay.Message) []string {
	all := []string{}
	for i := range ms {
		all = append(all, string(ms[i].Body))
	}
	return all
}

func expectPage(t *testing.T, a relay.Archive, topic relay.Topic, before relay.ID, n int, want []string, wantMore bool) {
	t.Helper()
	ms, more := page(t, a, topic, before, n)
	if !slices.Equal(bodies(ms), want) || more != wantMore {
		t.Errorf("%d before %v: %q, more %v; want %q, more %v", n, before, bodies(ms), more, want, wantMore)
	}
}

func testArchiveEmpty(t *testing.T, a relay.Archive) {
	mustStore(t, a)
	expectPage(t, a, archiveTopic, relay.ID{}, 10, []string{}, false)
	expectPage(t, a, archiveTopic, relay.ID{Millis: 5, Seq: 5}, 10, []string{}, false)
	if has, err := a.Has(t.Context(), archiveTopic, relay.ID{Millis: 1}); has || err != nil {
		t.Errorf("Has: %v, %v", has, err)
	}
}

func testArchiveContent(t *testing.T, a relay.Archive) {
	random := make([]byte, 1<<20)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(random)
	var all []relay.Message
	for i, m := range []relay.Message{
		{From: "7", Time: time.Unix(1_700_000_000, 123_456_789), Body: []byte(`{"content":"hello"}`)},
		{From: "", Time: time.Time{}, Body: nil},
		{From: "with a space ", Time: time.Date(2200, 1, 1, 0, 0, 0, 1, time.UTC), Body: []byte{}},
		{From: "\U0001f600\x00\xff", Time: time.Date(1700, 1, 1, 0, 0, 0, 999, time.UTC), Body: []byte("\x00\xff'\"\\\x1a\n%_")},
		{From: strings.Repeat("x", 500), Time: time.Unix(0, 1), Body: random},
		{From: "spaces", Time: time.Unix(0, -1), Body: []byte("  ends in spaces and zeros  \x00\x00")},
	} {
		m.Topic, m.ID = archiveTopic, relay.ID{Millis: uint64(i), Seq: 1}
		all = append(all, m)
	}
	mustStore(t, a, all...)
	got, more := page(t, a, archiveTopic, relay.ID{}, len(all))
	if len(got) != len(all) || more {
		t.Fatalf("%d messages, more %v; want %d", len(got), more, len(all))
	}
	for i, want := range all {
		m := got[len(all)-1-i]
		if m.ID != want.ID || m.Topic != want.Topic || m.From != want.From || !m.Time.Equal(want.Time) || m.Time.IsZero() != want.Time.IsZero() {
			t.Errorf("stored %v %s %q %v, got %v %s %q %v", want.ID, want.Topic, want.From, want.Time, m.ID, m.Topic, m.From, m.Time)
		}
		if !bytes.Equal(m.Body, want.Body) {
			t.Errorf("message %d has another body of %d bytes, want %d", i, len(m.Body), len(want.Body))
		}
	}
}

func testArchivePages(t *testing.T, a relay.Archive) {
	mustStore(t, a, archived(archiveTopic, 10, "0", "1", "2", "3", "4", "5", "6")...)
	at := func(i uint64) relay.ID { return relay.ID{Millis: 10 + i} }
	expectPage(t, a, archiveTopic, relay.ID{}, 3, []string{"6", "5", "4"}, true)
	expectPage(t, a, archiveTopic, at(4), 3, []string{"3", "2", "1"}, true)
	expectPage(t, a, archiveTopic, at(1), 3, []string{"0"}, false)
	expectPage(t, a, archiveTopic, at(0), 3, []string{}, false)
	expectPage(t, a, archiveTopic, relay.ID{}, 7, []string{"6", "5", "4", "3", "2", "1", "0"}, false)
	expectPage(t, a, archiveTopic, relay.ID{}, 6, []string{"6", "5", "4", "3", "2", "1"}, true)
	// Places that no message has.
	expectPage(t, a, archiveTopic, relay.ID{Millis: 12, Seq: 9}, 2, []string{"2", "1"}, true)
	expectPage(t, a, archiveTopic, relay.ID{Millis: 1}, 2, []string{}, false)
	expectPage(t, a, archiveTopic, relay.ID{Millis: math.MaxUint64, Seq: math.MaxUint64}, 1, []string{"6"}, true)
	// No message is asked for, or all.
	for _, n := range []int{0, -1, math.MinInt} {
		expectPage(t, a, archiveTopic, relay.ID{}, n, []string{}, true)
	}
	expectPage(t, a, archiveTopic, relay.ID{}, math.MaxInt, []string{"6", "5", "4", "3", "2", "1", "0"}, false)
}

// The order is that of the places, over the whole of their range.
func testArchivePlaces(t *testing.T, a relay.Archive) {
	numbers := []uint64{0, 1, 2, math.MaxInt64 - 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64 - 1, math.MaxUint64}
	var all []relay.Message // in order
	for _, millis := range numbers {
		for _, seq := range numbers {
			if id := (relay.ID{Millis: millis, Seq: seq}); !id.IsZero() {
				all = append(all, relay.Message{ID: id, Topic: archiveTopic, Body: []byte(id.String()), Time: time.Unix(1, 0)})
			}
		}
	}
	shuffled := slices.Clone(all)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	mustStore(t, a, shuffled[:len(all)/2]...)
	mustStore(t, a, shuffled[len(all)/2:]...)
	newestFirst := slices.Clone(all)
	slices.Reverse(newestFirst)
	expectPage(t, a, archiveTopic, relay.ID{}, len(all), bodies(newestFirst), false)
	for i := range newestFirst {
		ms, more := page(t, a, archiveTopic, newestFirst[i].ID, 2)
		want := newestFirst[i+1 : min(i+3, len(all))]
		if !slices.Equal(bodies(ms), bodies(want)) || more != (i+3 < len(all)) {
			t.Errorf("before %v: %q, more %v; want %q", newestFirst[i].ID, bodies(ms), more, bodies(want))
		}
		for j := range ms {
			if ms[j].ID != want[j].ID {
				t.Errorf("the place %v came back as %v", want[j].ID, ms[j].ID)
			}
		}
		if has, err := a.Has(t.Context(), archiveTopic, newestFirst[i].ID); err != nil || !has {
			t.Errorf("Has %v: %v, %v", newestFirst[i].ID, has, err)
		}
	}
	for _, id := range []relay.ID{{}, {Millis: 3, Seq: 1}, {Millis: 1, Seq: 3}, {Millis: math.MaxInt64 - 2, Seq: 0}} {
		if has, err := a.Has(t.Context(), archiveTopic, id); err != nil || has {
			t.Errorf("Has %v: %v, %v", id, has, err)
		}
	}
}

func testArchiveTopics(t *testing.T, a relay.Archive) {
	topics := []relay.Topic{"chat/a", "chat/A", "chat/a ", "chat/\u00e4", "chat/a\x00", "chat/", "", "chat/b", relay.Topic(strings.Repeat("x", 512))}
	var all []relay.Message
	for i, topic := range topics {
		all = append(all, archived(topic, 1, fmt.Sprint(i, "-old"), fmt.Sprint(i, "-new"))...)
	}
	mustStore(t, a, all...)
	for i, topic := range topics {
		expectPage(t, a, topic, relay.ID{}, 10, []string{fmt.Sprint(i, "-new"), fmt.Sprint(i, "-old")}, false)
		expectPage(t, a, topic, relay.ID{Millis: 2}, 10, []string{fmt.Sprint(i, "-old")}, false)
	}
	if has, err := a.Has(t.Context(), "chat/c", relay.ID{Millis: 1}); err != nil || has {
		t.Errorf("Has of a topic without messages: %v, %v", has, err)
	}
}

// What is there stays as it is, whatever comes for its place.
func testArchiveAgain(t *testing.T, a relay.Archive) {
	mustStore(t, a, archived(archiveTopic, 1, "a", "b", "c")...)
	mustStore(t, a, archived(archiveTopic, 1, "a", "b", "c")...)
	mustStore(t, a, archived(archiveTopic, 2, "other", "other", "d", "e")...)
	expectPage(t, a, archiveTopic, relay.ID{}, 10, []string{"e", "d", "c", "b", "a"}, false)
	twice := append(archived(archiveTopic, 6, "f"), archived(archiveTopic, 6, "other")...)
	mustStore(t, a, twice...)
	expectPage(t, a, archiveTopic, relay.ID{}, 2, []string{"f", "e"}, true)
}

// A batch with a message that cannot be stored leaves nothing.
func testArchiveAllOrNone(t *testing.T, a relay.Archive) {
	for name, spoil := range map[string]func(*relay.Message){
		"no place":         func(m *relay.Message) { m.ID = relay.ID{} },
		"too long a topic": func(m *relay.Message) { m.Topic = relay.Topic(strings.Repeat("x", 1<<20)) },
	} {
		bad := archived(archiveTopic, 1, "a", "b", "c")
		spoil(&bad[2])
		if err := a.Store(t.Context(), bad); err == nil || errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("%s: error = %v, want one that does not pass by itself", name, err)
		}
		expectPage(t, a, archiveTopic, relay.ID{}, 10, []string{}, false)
	}
}

// A batch may be larger than what a database takes in one piece.
func testArchiveLarge(t *testing.T, a relay.Archive) {
	const large, small = 24, 1500
	body := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	var all []relay.Message
	for i := range uint64(large) {
		all = append(all, archived("chat/large", i+1, body)...)
	}
	for i := range uint64(small) {
		all = append(all, archived("chat/small", i+1, fmt.Sprint(i))...)
	}
	mustStore(t, a, all...)
	mustStore(t, a, all...)
	ms, more := page(t, a, "chat/large", relay.ID{}, large)
	if len(ms) != large || more {
		t.Errorf("%d large messages, more %v; want %d", len(ms), more, large)
	}
	for i := range ms {
		if string(ms[i].Body) != body {
			t.Errorf("message %v has another body", ms[i].ID)
		}
	}
	ms, more = page(t, a, "chat/small", relay.ID{}, small)
	if len(ms) != small || more || string(ms[0].Body) != fmt.Sprint(small-1) {
		t.Errorf("%d small messages, more %v; want %d", len(ms), more, small)
	}
}

func testArchiveContext(t *testing.T, a relay.Archive) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Store(ctx, archived(archiveTopic, 1, "a")); !errors.Is(err, context.Canceled) {
		t.Errorf("Store: %v", err)
	}
	if _, _, err := a.Before(ctx, archiveTopic, relay.ID{}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Before: %v", err)
	}
	expectPage(t, a, archiveTopic, relay.ID{}, 1, []string{}, false)
}

// Nodes store batches that overlap, in different orders, at the same time.
func testArchiveMany(t *testing.T, nodes []relay.Archive) {
	const messages, rounds = 120, 4
	var all []relay.Message
	for i := range uint64(messages) {
		all = append(all, archived(relay.Topic(fmt.Sprint("chat/", i%3)), i+1, fmt.Sprint(i))...)
	}
	var wg sync.WaitGroup
	for k := range rounds * len(nodes) {
		wg.Go(func() {
			mine := slices.Clone(all[k : len(all)-rounds*len(nodes)+k])
			rand.New(rand.NewPCG(uint64(k), 1)).Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			if err := nodes[k%len(nodes)].Store(t.Context(), mine); err != nil {
				t.Errorf("Store: %v", err)
			}
		})
	}
	wg.Wait()
	mustStore(t, nodes[0], all...)
	total := 0
	for i := range 3 {
		ms, _ := page(t, nodes[len(nodes)-1], relay.Topic(fmt.Sprint("chat/", i)), relay.ID{}, messages)
		total += len(ms)
		if !slices.IsSortedFunc(ms, func(x, y relay.Message) int { return y.ID.Compare(x.ID) }) {
			t.Errorf("topic %d is out of order", i)
		}
	}
	if total != messages {
		t.Errorf("%d messages, want %d", total, messages)
	}
}
