package redisbus

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"parley/pkg/relay"
)

// How far back nothing is known to be lost, by what Redis says.
func TestIntact(t *testing.T) {
	l := idleBus(t).links[0]
	place := func(s string) relay.ID {
		id, ok := parsePlace(s)
		if !ok {
			t.Fatal(s)
		}
		return id
	}
	const epoch = "7 run repl node 0"
	for _, c := range []struct {
		name              string
		head, note, epoch string
		known, former     uint64 // to the node
		want              string
	}{
		{"nothing was ever appended", "", "", epoch, 7, 0, ""},
		{"all is of one history", "5-0", "7 3-1", epoch, 7, 0, "3-1"},
		{"so it is, though the node has seen another", "5-0", "7 3-1", epoch, 7, 6, "3-1"},
		{"nothing was appended to the new history", "5-0", "6 3-1", epoch, 7, 6, "5-1"},
		{"nor is the new one known here yet", "5-0", "6 3-1", epoch, 6, 0, "5-1"},
		{"the history has no name yet", "5-0", "6 3-1", "", 6, 0, "5-1"},
		{"there is no note", "5-0", "", epoch, 7, 0, "5-1"},
		{"flushed, and not named yet", "", "", "", 7, 0, "1000"},
		{"flushed, and named by another node", "", "", epoch, 6, 0, "1000"},
		{"flushed, and known", "", "", epoch, 7, 6, "1000"},
		{"the head is gone", "", "6 3-1", epoch, 7, 0, "1000"},
	} {
		l.epoch.Store(c.known)
		l.former.Store(c.former)
		r, err := l.recent("chat/a", 1, []any{[]any{}, c.head, c.note, c.epoch, "1000"})
		want := relay.ID{Millis: 1000}
		if c.want != "1000" {
			want = place(c.want)
		}
		if err != nil || r.Intact != want {
			t.Errorf("%s: intact from %v (%v), want %v", c.name, r.Intact, err, want)
		}
	}
	for name, reply := range map[string][]any{
		"nothing":     {},
		"no list":     {"x", "", "", epoch, "1000"},
		"a bad head":  {[]any{}, "x", "", epoch, "1000"},
		"a bad time":  {[]any{}, "", "", epoch, ""},
		"a bad entry": {[]any{"x"}, "5-0", "7 3-1", epoch, "1000"},
	} {
		if r, err := l.recent("chat/a", 1, reply); !errors.Is(err, errHistory) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestNextPlace(t *testing.T) {
	for _, c := range []struct{ id, want relay.ID }{
		{relay.ID{}, relay.ID{Seq: 1}},
		{relay.ID{Millis: 5, Seq: 7}, relay.ID{Millis: 5, Seq: 8}},
		{relay.ID{Millis: 5, Seq: math.MaxUint64}, relay.ID{Millis: 6}},
	} {
		if got := next(c.id); got != c.want {
			t.Errorf("after %v comes %v, want %v", c.id, got, c.want)
		}
	}
}

// What is appended at once waits as one message of all bytes.
func TestAppendIsBounded(t *testing.T) {
	b := idleBus(t)
	lane := b.links[0].lanes[0]
	var a lastAnswer
	m := relay.Message{Topic: "chat/a", Time: time.Now(), Body: []byte(strings.Repeat("x", 100))}
	size := 2 * len(appendEnvelope(nil, &m))
	lane.enqueue(publication{channel: "c", payload: strings.Repeat("x", maxPendingBytes-size+1), at: time.Now(), acker: &a})
	b.Append([]relay.Message{m, m}, 1, &a, relay.Token{})
	if a.n != 1 || !errors.Is(a.err, relay.ErrOverloaded) {
		t.Fatalf("one byte too many: %d answers, the last %v", a.n, a.err)
	}
	lane.release(1, 1)
	b.Append([]relay.Message{m, m}, 1, &a, relay.Token{})
	if a.n != 1 || lane.pending != 1 || lane.bytes != maxPendingBytes {
		t.Errorf("%d answers, the last %v; %d messages of %d bytes wait", a.n, a.err, lane.pending, lane.bytes)
	}
	lane.closeWith(relay.ErrClosed)
	if a.n != 3 || !errors.Is(a.err, relay.ErrClosed) {
		t.Errorf("%d answers, the last %v, want %v", a.n, a.err, relay.ErrClosed)
	}
}
