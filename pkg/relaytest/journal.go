package relaytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/pkg/relay"
)

// journalist is a broker that keeps a journal.
type journalist interface {
	relay.Broker
	relay.Journal
}

// Journal checks what relay.Journal promises. Brokers of the backend must implement
// it, and take all topics that start with "chat/" for kept.
func Journal(t *testing.T, start func(testing.TB) Backend) {
	NoLeaks(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *fleet)
	}{
		{"Empty", testJournalEmpty},
		{"Content", testJournalContent},
		{"Pages", testJournalPages},
		{"Together", testJournalTogether},
		{"OrderWithEnqueue", testJournalOrder},
		{"Full", testJournalFull},
		{"Forget", testJournalForget},
		{"ForgetWhileInUse", testJournalForgetInUse},
		{"HoleIsFilled", testJournalPositions},
		{"RedisAway", testJournalAway},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, &fleet{t: t, Backend: start(t)})
		})
	}
}

// plenty is more than any test appends.
const plenty = 1 << 20

func (m *member) journal() relay.Journal { return m.Broker.(journalist) }

// waiting is a relay.Acker for one message.
type waiting chan waitingAnswer

type waitingAnswer struct {
	id  relay.ID
	err error
}

func (w waiting) Published(_ relay.Token, id relay.ID, err error) { w <- waitingAnswer{id, err} }

// Append appends messages with the given bodies and waits for the answer: the place
// of the last one, or why there is none.
func Append(tb testing.TB, j relay.Journal, t relay.Topic, most int64, bodies ...string) (relay.ID, error) {
	tb.Helper()
	var ms []relay.Message
	for _, body := range bodies {
		ms = append(ms, relay.Message{Topic: t, From: "test", Body: []byte(body)})
	}
	w := make(waiting, 1)
	j.Append(ms, most, w, relay.Token{})
	select {
	case a := <-w:
		return a.id, a.err
	case <-time.After(Patience):
		tb.Errorf("no answer within %v", Patience)
		return relay.ID{}, relay.ErrUnavailable
	}
}

// append appends messages, and fails the test when that does.
func (m *member) append(t relay.Topic, bodies ...string) relay.ID {
	m.t.Helper()
	id, err := Append(m.t, m.journal(), t, plenty, bodies...)
	if err != nil || id.IsZero() {
		m.t.Fatalf("appending %q: place %v, %v", bodies, id, err)
	}
	return id
}

func (m *member) newest(t relay.Topic, n int) relay.Recent {
	m.t.Helper()
	r, err := m.journal().Newest(m.t.Context(), t, n)
	if err != nil {
		m.t.Fatalf("Newest(%s): %v", t, err)
	}
	return r
}

func (m *member) oldest(t relay.Topic, n int) ([]relay.Message, int64) {
	m.t.Helper()
	ms, total, err := m.journal().Oldest(m.t.Context(), t, n)
	if err != nil {
		m.t.Fatalf("Oldest(%s): %v", t, err)
	}
	return ms, total
}

func (m *member) before(t relay.Topic, at relay.ID, n int) ([]relay.Message, bool) {
	m.t.Helper()
	ms, more, err := m.journal().Before(m.t.Context(), t, at, n)
	if err != nil {
		m.t.Fatalf("Before(%s, %v): %v", t, at, err)
	}
	return ms, more
}

func (m *member) has(t relay.Topic, id relay.ID) bool {
	m.t.Helper()
	has, err := m.journal().Has(m.t.Context(), t, id)
	if err != nil {
		m.t.Fatalf("Has(%s, %v): %v", t, id, err)
	}
	return has
}

func (m *member) forget(t relay.Topic, upTo relay.ID) {
	m.t.Helper()
	if err := m.journal().Forget(m.t.Context(), t, upTo); err != nil {
		m.t.Fatalf("Forget(%s, %v): %v", t, upTo, err)
	}
}

// follow subscribes to a topic of a journal.
func (m *member) follow(t relay.Topic) relay.Position {
	m.t.Helper()
	p, err := m.Subscribe(m.t.Context(), t)
	if err != nil {
		m.t.Fatalf("Subscribe(%s): %v", t, err)
	}
	return p[0]
}

// bodiesOf are the bodies of messages.
func bodiesOf(ms []relay.Message) (all []string) {
	for i := range ms {
		all = append(all, string(ms[i].Body))
	}
	return all
}

// same tells whether messages have these bodies.
func same(ms []relay.Message, bodies ...string) bool { return slices.Equal(bodiesOf(ms), bodies) }

// Of a topic that never had a message there is nothing to know.
func testJournalEmpty(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("chat/empty")
	m.follow(topic)
	if r := m.newest(topic, 10); len(r.Messages) != 0 || r.More || !r.Begins || !r.Intact.IsZero() {
		t.Errorf("the newest of nothing: %+v", r)
	}
	if ms, total := m.oldest(topic, 10); len(ms) != 0 || total != 0 {
		t.Errorf("the oldest of nothing: %v, of %d", ms, total)
	}
	if ms, more := m.before(topic, relay.ID{}, 10); len(ms) != 0 || more {
		t.Errorf("before nothing: %v, more: %v", ms, more)
	}
	if ms, more := m.before(topic, relay.ID{Millis: 1 << 50}, 10); len(ms) != 0 || more {
		t.Errorf("before a place: %v, more: %v", ms, more)
	}
	if m.has(topic, relay.ID{}) || m.has(topic, relay.ID{Millis: 1, Seq: 1}) {
		t.Error("it has a message")
	}
	m.forget(topic, relay.ID{Millis: 1, Seq: 1})
	m.append(topic, "0")
	m.await(topic, 1)
}

// Messages come as they were given, to subscribers and readers, at the same places.
func testJournalContent(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const topic = relay.Topic("chat/content")
	to.follow(topic)
	from.follow(topic)
	at := time.Unix(1_700_000_000, 123)
	long := strings.Repeat("x", 100_000)
	w := make(waiting, 1)
	from.journal().Append([]relay.Message{
		{Topic: topic, From: "alice", Time: at, Body: []byte("one")},
		{Topic: topic, From: "alice", Body: nil},
		{Topic: topic, Body: []byte("\x00\xff\r\n")},
		{Topic: topic, From: "bob", Body: []byte(long)},
	}, 0, w, Numbered(1, 2))
	a := <-w
	if a.err != nil {
		t.Fatal(a.err)
	}
	to.await(topic, 4)
	from.await(topic, 4)
	got := to.Messages(topic)
	read, total := from.oldest(topic, 10)
	if len(read) != 4 || total != 4 {
		t.Fatalf("the journal has %d messages and says %d, want 4", len(read), total)
	}
	for i, want := range []struct{ from, body string }{{"alice", "one"}, {"alice", ""}, {"", "\x00\xff\r\n"}, {"bob", long}} {
		for where, m := range map[string]relay.Message{"heard": got[i], "read": read[i]} {
			if m.From != want.from || string(m.Body) != want.body || m.Topic != topic || m.ID != read[i].ID {
				t.Errorf("message %d, %s: from %q, %d bytes at %v in %s", i, where, m.From, len(m.Body), m.ID, m.Topic)
			}
			if i == 0 && !m.Time.Equal(at) || i > 0 && time.Since(m.Time).Abs() > time.Hour {
				t.Errorf("message %d, %s: of %v", i, where, m.Time)
			}
		}
	}
	if read[3].ID != a.id {
		t.Errorf("the last message is at %v, its sender was told %v", read[3].ID, a.id)
	}
	r := from.newest(topic, 3)
	if !same(r.Messages, long, "\x00\xff\r\n", "") || !r.More {
		t.Errorf("the newest three: %d messages, more: %v", len(r.Messages), r.More)
	}
	if r = from.newest(topic, 4); len(r.Messages) != 4 || r.More || !r.Begins {
		t.Errorf("the newest four: %d messages, more: %v, from the beginning: %v", len(r.Messages), r.More, r.Begins)
	}
	if r.Intact != read[0].ID {
		t.Errorf("intact from %v, the first message is at %v", r.Intact, read[0].ID)
	}
	for _, m := range read {
		if !from.has(topic, m.ID) {
			t.Errorf("it has no message at %v", m.ID)
		}
	}
	if from.has(topic, relay.ID{Millis: a.id.Millis, Seq: a.id.Seq + 1}) || from.has("chat/other", a.id) {
		t.Error("it has a message that nobody has appended")
	}
}

// A history is read in pages, from its end and from any place.
func testJournalPages(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("chat/pages")
	m.append(topic, "0", "1", "2")
	m.append(topic, "3")
	m.append(topic, "4", "5", "6")
	var at relay.ID
	for _, want := range [][]string{{"6", "5", "4"}, {"3", "2", "1"}, {"0"}} {
		ms, more := m.before(topic, at, 3)
		if !same(ms, want...) || more != (len(want) == 3) {
			t.Fatalf("before %v: %q, more: %v; want %q", at, bodiesOf(ms), more, want)
		}
		at = ms[len(ms)-1].ID
	}
	for n, more := range map[int]bool{1: true, 6: true, 7: false, 8: false} {
		r := m.newest(topic, n)
		if len(r.Messages) != min(n, 7) || string(r.Messages[0].Body) != "6" || r.More != more {
			t.Errorf("the newest %d: %q, more: %v", n, bodiesOf(r.Messages), r.More)
		}
		ms, total := m.oldest(topic, n)
		if len(ms) != min(n, 7) || string(ms[0].Body) != "0" || total != 7 {
			t.Errorf("the oldest %d: %q of %d", n, bodiesOf(ms), total)
		}
	}
}

// A topic that holds more messages than it may takes no more, until some are
// forgotten; and then it takes all or none.
func testJournalFull(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("chat/full")
	m.follow(topic)
	const most = 3
	add := func(full bool, bodies ...string) relay.ID {
		t.Helper()
		id, err := Append(t, m.journal(), topic, most, bodies...)
		if full != errors.Is(err, relay.ErrFull) || !full && err != nil {
			t.Errorf("appending %q: %v", bodies, err)
		}
		if full && (errors.Is(err, relay.ErrUnavailable) || !id.IsZero()) {
			t.Errorf("a full topic answers %v, %v", id, err)
		}
		return id
	}
	first := add(false, "0", "1", "2")
	add(false, "3", "4") // it held no more than it may
	add(true, "5")
	add(true, "5", "6")
	m.forget(topic, relay.ID{Millis: first.Millis, Seq: 0})
	_, total := m.oldest(topic, 1)
	for total > most {
		add(true, "5")
		ms, _ := m.oldest(topic, 1)
		m.forget(topic, ms[0].ID)
		total--
	}
	add(false, "7", "8")
	m.await(topic, 7)
	if got := m.Bodies(topic); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "7", "8"}) || m.Gaps() != 0 {
		t.Errorf("heard %q and %d gaps", got, m.Gaps())
	}
}

// What was forgotten is gone, and the rest is known as before.
func testJournalForget(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const topic = relay.Topic("chat/forget")
	to.follow(topic)
	from.append(topic, "0", "1", "2", "3")
	all, _ := from.oldest(topic, 10)
	intact := from.newest(topic, 1).Intact
	left := func(bodies ...string) {
		t.Helper()
		ms, total := from.oldest(topic, 10)
		if !same(ms, bodies...) || total != int64(len(bodies)) {
			t.Errorf("left are %q of %d, want %q", bodiesOf(ms), total, bodies)
		}
		r := from.newest(topic, 10)
		if len(r.Messages) != len(bodies) || r.More || r.Begins || r.Intact != intact {
			t.Errorf("the newest are %q, more: %v, intact from %v, was %v", bodiesOf(r.Messages), r.More, r.Intact, intact)
		}
	}
	from.forget(topic, all[0].ID)
	left("1", "2", "3")
	from.forget(topic, all[0].ID) // again
	left("1", "2", "3")
	if from.has(topic, all[0].ID) || !from.has(topic, all[1].ID) {
		t.Error("it has what was forgotten, or not what was not")
	}
	if ms, more := from.before(topic, all[1].ID, 10); len(ms) != 0 || more {
		t.Errorf("before the oldest that is left: %q, more: %v", bodiesOf(ms), more)
	}
	if ms, more := from.before(topic, all[2].ID, 1); !same(ms, "1") || more {
		t.Errorf("the oldest that is left: %q, more: %v", bodiesOf(ms), more)
	}
	from.forget(topic, all[3].ID)
	left()
	if p := f.join().follow(topic); p.ID != all[3].ID {
		t.Errorf("the last message was at %v, and Subscribe says %v", all[3].ID, p.ID)
	}
	last := from.append(topic, "4", "5")
	if last.Compare(all[3].ID) <= 0 {
		t.Errorf("%v does not come after %v", last, all[3].ID)
	}
	left("4", "5")
	to.await(topic, 6)
	if got := to.Bodies(topic); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5"}) || to.Gaps() != 0 {
		t.Errorf("heard %q and %d gaps", got, to.Gaps())
	}
}

// Subscribe tells where a topic stands, also one all of whose messages are forgotten.
func testJournalPositions(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const topic = relay.Topic("chat/positions")
	last := from.append(topic, "0", "1")
	p := to.follow(topic)
	if p.ID != last || p.Epoch == 0 {
		t.Errorf("the topic is at %v, and Subscribe says %v", last, p)
	}
	next := from.append(topic, "2", "3")
	to.await(topic, 2)
	if got := to.Bodies(topic); !slices.Equal(got, []string{"2", "3"}) {
		t.Errorf("heard %q", got)
	}
	h, ok := to.Broker.(relay.History)
	if !ok {
		t.Fatal("the broker has no histories")
	}
	page, err := h.Since(to.t.Context(), topic, p, 10)
	if err != nil || !page.Complete || !same(page.Messages, "2", "3") || page.Position.ID != next {
		t.Errorf("after %v: %q, complete: %v, up to %v (%v)", p, bodiesOf(page.Messages), page.Complete, page.Position.ID, err)
	}
	from.forget(topic, next)
	page, err = h.Since(to.t.Context(), topic, page.Position, 10)
	if err != nil || !page.Complete || len(page.Messages) != 0 {
		t.Errorf("after the last: %q, complete: %v (%v)", bodiesOf(page.Messages), page.Complete, err)
	}
	page, err = h.Since(to.t.Context(), topic, p, 10)
	if err != nil || page.Complete || len(page.Messages) != 0 {
		t.Errorf("after what was forgotten: %q, complete: %v (%v)", bodiesOf(page.Messages), page.Complete, err)
	}
}

// Without Redis everything is answered, by an error.
func testJournalAway(t *testing.T, f *fleet) {
	m := f.join()
	const topic = relay.Topic("chat/away")
	m.append(topic, "0")
	f.Down()
	relayErr := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, relay.ErrUnavailable) || errors.Is(err, relay.ErrFull) {
			t.Errorf("%s: %v, want %v", what, err, relay.ErrUnavailable)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Append(t, m.journal(), topic, plenty, "1", "2")
	relayErr("Append", err)
	t.Logf("Append was answered after %v", time.Since(began))
	_, err = m.journal().Newest(ctx, topic, 1)
	relayErr("Newest", err)
	_, _, err = m.journal().Oldest(ctx, topic, 1)
	relayErr("Oldest", err)
	_, _, err = m.journal().Before(ctx, topic, relay.ID{}, 1)
	relayErr("Before", err)
	_, err = m.journal().Has(ctx, topic, relay.ID{Millis: 1})
	relayErr("Has", err)
	relayErr("Forget", m.journal().Forget(ctx, topic, relay.ID{Millis: 1}))
	m.end()
	_, err = Append(t, m.journal(), topic, plenty, "3")
	if !errors.Is(err, relay.ErrClosed) {
		t.Errorf("Append at the end: %v, want %v", err, relay.ErrClosed)
	}
}

// nth is the name of a group's message.
func nth(sender, group, i int) string { return fmt.Sprint(sender, ".", group, ".", i) }
