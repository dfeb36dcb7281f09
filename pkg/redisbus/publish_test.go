package redisbus

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

// idleBus is a bus that does not run, so that what it is given waits.
func idleBus(tb testing.TB) *Bus {
	tb.Helper()
	b, err := New(Options{URL: "redis://127.0.0.1:1", Node: "idle", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.links[0].close() })
	return b
}

// lastAnswer is an Acker that keeps the last answer and counts them.
type lastAnswer struct {
	n   int
	err error
}

func (a *lastAnswer) Published(_ relay.Token, _ relay.ID, err error) { a.n, a.err = a.n+1, err }

// What waits is bounded in messages, exactly.
func TestPendingMessagesAreBounded(t *testing.T) {
	b := idleBus(t)
	var a lastAnswer
	m := relay.Message{Topic: "client/a"}
	for range maxPending {
		b.Enqueue(m, relay.Retention{}, &a, relay.Token{})
	}
	if a.n != 0 {
		t.Fatalf("answered before anything was sent: %v", a.err)
	}
	b.Enqueue(m, relay.Retention{}, &a, relay.Token{})
	if a.n != 1 || !errors.Is(a.err, relay.ErrOverloaded) {
		t.Fatalf("one message too many: %d answers, the last %v", a.n, a.err)
	}
	b.links[0].lanes[0].release(1, len(appendEnvelope(nil, &relay.Message{Time: time.Now()})))
	b.Enqueue(m, relay.Retention{}, &a, relay.Token{})
	if a.n != 1 {
		t.Errorf("there was room for one, and it was refused: %v", a.err)
	}
	b.Enqueue(m, relay.Retention{}, &a, relay.Token{})
	if a.n != 2 {
		t.Error("there was room for one, and two were taken")
	}
	if got := testCounter(t, b.metrics.publishErrors); got != 2 {
		t.Errorf("the metric says %v errors, want 2", got)
	}
}

// What waits is bounded in bytes, exactly.
func TestPendingBytesAreBounded(t *testing.T) {
	b := idleBus(t)
	var a lastAnswer
	payload := strings.Repeat("x", 1<<20)
	for range maxPendingBytes >> 20 {
		b.links[0].lanes[0].enqueue(publication{channel: "c", payload: payload, at: time.Now(), acker: &a})
	}
	b.links[0].lanes[0].enqueue(publication{channel: "c", at: time.Now(), acker: &a})
	if a.n != 0 {
		t.Fatalf("refused below the bound: %v", a.err)
	}
	b.links[0].lanes[0].enqueue(publication{channel: "c", payload: "x", at: time.Now(), acker: &a})
	if a.n != 1 || !errors.Is(a.err, relay.ErrOverloaded) {
		t.Fatalf("one byte too many: %d answers, the last %v", a.n, a.err)
	}
	b.links[0].lanes[0].release(1, 1)
	b.links[0].lanes[0].enqueue(publication{channel: "c", payload: "x", at: time.Now(), acker: &a})
	if a.n != 1 {
		t.Errorf("there was room for one byte, and it was refused: %v", a.err)
	}
}

// A pipeline has a bounded number of messages and, but for one large message, of
// bytes.
func TestChunk(t *testing.T) {
	sized := func(sizes ...int) (ps []publication) {
		for _, n := range sizes {
			ps = append(ps, publication{payload: strings.Repeat("x", n)})
		}
		return ps
	}
	for _, c := range []struct {
		name     string
		ps       []publication
		n, bytes int
	}{
		{"one", sized(5), 1, 5},
		{"all", sized(1, 2, 3), 3, 6},
		{"empty messages", make([]publication, maxBatch+1), maxBatch, 0},
		{"just as many", make([]publication, maxBatch), maxBatch, 0},
		{"full", sized(maxBatchBytes, 1), 1, maxBatchBytes},
		{"just full", sized(maxBatchBytes-1, 1, 1), 2, maxBatchBytes},
		{"one too large", sized(2*maxBatchBytes, 1), 1, 2 * maxBatchBytes},
		{"the second too large", sized(1, 2*maxBatchBytes), 1, 1},
	} {
		if n, bytes := chunk(c.ps); n != c.n || bytes != c.bytes {
			t.Errorf("%s: %d messages of %d bytes, want %d of %d", c.name, n, bytes, c.n, c.bytes)
		}
	}
}

// The end answers what waits, in order, and what comes later at once.
func TestCloseWith(t *testing.T) {
	b := idleBus(t)
	w := make(waitingAcker, 3)
	for range 2 {
		b.Enqueue(relay.Message{Topic: "client/a"}, relay.Retention{}, w, relay.Token{})
	}
	var flushes atomic.Int64
	b.links[0].lanes[0].flush = func() { flushes.Add(1) }
	b.links[0].lanes[0].closeWith(relay.ErrClosed)
	if len(w) != 2 || flushes.Load() != 1 {
		t.Errorf("%d answers and %d flushes, want 2 and 1", len(w), flushes.Load())
	}
	b.Enqueue(relay.Message{Topic: "client/a"}, relay.Retention{}, w, relay.Token{})
	if len(w) != 3 {
		t.Fatalf("%d answers, want 3", len(w))
	}
	for range 3 {
		if a := <-w; !errors.Is(a.err, relay.ErrClosed) {
			t.Errorf("error = %v, want ErrClosed", a.err)
		}
	}
}

// A message costs one allocation on its way into the queue, for its bytes.
func TestEnqueueAllocates(t *testing.T) {
	b := idleBus(t)
	a, m := new(lastAnswer), benchMessage()
	b.links[0].lanes[0].queue = make([]publication, 0, 2000)
	got := testing.AllocsPerRun(1000, func() { b.Enqueue(m, relay.Retention{}, a, relay.Token{}) })
	if got > 1 {
		t.Errorf("%v allocations a message, want 1", got)
	}
}

func TestNewRefusesBadURL(t *testing.T) {
	for _, url := range []string{"", "http://127.0.0.1", "redis://127.0.0.1:6379/notanumber", "127.0.0.1:6379"} {
		if b, err := New(Options{URL: url}); err == nil {
			t.Errorf("New takes the URL %q: %v", url, b)
		}
	}
}

// benchMessage is a message of a usual size.
func benchMessage() relay.Message {
	return relay.Message{
		Topic: "client/0B4C0AF4-5A77-45A1-8B2F-6A2D0B8D0F3E",
		From:  "6F9619FF-8B86-D011-B42D-00C04FC964FF",
		Time:  time.Unix(1_700_000_000, 0),
		Body:  []byte(strings.Repeat("hello, ", 12)),
	}
}

// BenchmarkEnqueue is the sender's part of a publish: one allocation, which
// holds the channel's name and the envelope.
func BenchmarkEnqueue(b *testing.B) {
	bus := idleBus(b)
	bus.links[0].lanes[0].queue = make([]publication, 0, maxPending)
	m := benchMessage()
	b.ReportAllocs()
	for b.Loop() {
		bus.Enqueue(m, relay.Retention{}, nil, relay.Token{})
		if len(bus.links[0].lanes[0].queue) == cap(bus.links[0].lanes[0].queue) {
			bus.links[0].lanes[0].release(len(bus.links[0].lanes[0].queue), bus.links[0].lanes[0].bytes)
			bus.links[0].lanes[0].queue = bus.links[0].lanes[0].queue[:0]
		}
	}
}
