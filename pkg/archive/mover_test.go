package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/relay"
)

// The tests of movers run on synctest's clock: what they say of time is exact.

// bench is a journal, an archive and claims, and what movers say.
type bench struct {
	journal, archive *store
	claims           *claims
	history          *History

	mu  sync.Mutex
	log bytes.Buffer
}

func newBench() *bench {
	b := &bench{journal: newStore(), archive: newStore(), claims: newClaims()}
	b.history = NewHistory(b.journal, b.archive)
	return b
}

// again is the same, as another node may see it.
func (b *bench) again() *bench {
	return &bench{journal: b.journal, archive: b.archive, claims: b.claims, history: b.history}
}

func (b *bench) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

// said is what the log has.
func (b *bench) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// mover makes one and runs it until stop is called.
func (b *bench) mover(node string, length int64, topics ...relay.Topic) (m *Mover, stop func()) {
	if len(topics) == 0 {
		topics = []relay.Topic{room}
	}
	m = NewMover(Config{Journal: b.journal, Archive: b.archive, Claims: b.claims, Node: node, Topics: topics, Length: length,
		Log: slog.New(slog.NewTextHandler(b, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return m, func() {
		cancel()
		if err := <-done; err != nil {
			panic(err) // it never is one
		}
	}
}

// holds checks how the messages are spread, and that the history has all of them.
func (b *bench) holds(t *testing.T, journal, archive int, all []relay.Message) {
	t.Helper()
	if j, a := b.journal.len(room), b.archive.len(room); j != journal || a != archive {
		t.Errorf("the journal has %d messages and the archive %d, want %d and %d", j, a, journal, archive)
	}
	if err := same(pages(t, b.history, room, 100), all); err != nil {
		t.Error(err)
	}
}

func TestMoverKeepsTheLength(t *testing.T) {
	for _, c := range []struct{ messages, length, moved int }{
		{0, 10, 0}, {9, 10, 0}, {10, 10, 0}, {11, 10, 1}, {10 + batchFirst, 10, batchFirst},
		{11 + batchFirst, 10, batchFirst + 1}, {7, 0, 7}, {7, -1, 7},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.length, c.messages), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				all := b.journal.appendTo(room, c.messages)
				m, stop := b.mover("a", int64(c.length))
				defer stop()
				time.Sleep(4 * lookEvery)
				b.holds(t, c.messages-c.moved, c.moved, all)
				if got := value(t, m.metrics.archived); got != float64(c.moved) {
					t.Errorf("%v messages are counted, want %d", got, c.moved)
				}
				// What comes later is moved within a look.
				all = append(all, b.journal.appendTo(room, 1)...)
				time.Sleep(lookEvery + lookEvery/4)
				if c.moved > 0 {
					b.holds(t, c.messages-c.moved, c.moved+1, all)
				}
				if got := value(t, m.metrics.backlog); got != 0 {
					t.Errorf("a backlog of %v, want none", got)
				}
			})
		})
	}
}

// A topic far beyond its length is moved batch after batch, in batches that grow to
// their bound, with a rest in between.
func TestMoverCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, length, took = 20_000, 100, 8 * time.Millisecond
		b := newBench()
		all := b.journal.appendTo(room, n)
		b.archive.inject(func(_ context.Context, call string) fault {
			if call == "store" {
				time.Sleep(took)
			}
			return noFault
		})
		var sizes []int
		var rests []time.Duration
		var stored time.Time
		archived := 0
		b.journal.inject(func(_ context.Context, call string) fault {
			switch {
			case call == "forget":
				sizes = append(sizes, b.archive.len(room)-archived)
				archived = b.archive.len(room)
				stored = time.Now()
			case call == "oldest" && !stored.IsZero() && b.journal.len(room) >= length+batchMost:
				rests = append(rests, time.Since(stored))
				stored = time.Time{}
			}
			return noFault
		})
		_, stop := b.mover("a", length)
		time.Sleep(4 * lookEvery)
		stop()
		b.holds(t, length, n-length, all)
		if want := []int{batchFirst, 4 * batchFirst, batchMost, batchMost}; !slices.Equal(sizes[:4], want) || slices.Max(sizes) != batchMost {
			t.Errorf("batches of %v messages, want %v and no more", sizes, want)
		}
		for _, rest := range rests {
			if rest != took/restShare {
				t.Errorf("a rest of %v, want %v", rest, took/restShare)
			}
		}
		if len(rests) < n/batchMost-2 {
			t.Errorf("%d rests", len(rests))
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	of := func(n, size int) (batch []relay.Message) {
		for range n {
			batch = append(batch, relay.Message{Body: make([]byte, size)})
		}
		return batch
	}
	for _, c := range []struct{ size, messages, bytes, want int }{
		{32, 32, 0, 128},
		{32, 32, 100, 128},
		{128, 128, 100, batchMost},
		{batchMost, batchMost, 100, batchMost},
		{batchMost, batchMost, batchBytes / batchMost, batchMost},
		{batchMost, batchMost, batchBytes/batchMost + 10, batchMost - 3},
		{batchMost, batchMost, 1 << 16, 16},
		{16, 16, 1 << 16, 16},
		{1, 1, batchBytes, 1},
		{1, 1, batchBytes + 1, 1},
		{1, 1, batchBytes / 2, 2},
		{1, 1, 1, 4},
	} {
		if got := nextSize(c.size, of(c.messages, c.bytes)); got != c.want {
			t.Errorf("after %d messages of %d bytes, %d are moved, want %d", c.messages, c.bytes, got, c.want)
		}
	}
}

// All topics are moved, but not all at once.
func TestMoverOfManyTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		var topics []relay.Topic
		all := map[relay.Topic][]relay.Message{}
		for i := range 20 {
			topic := relay.Topic(fmt.Sprintf("chat/%d", i))
			topics = append(topics, topic)
			all[topic] = b.journal.appendTo(topic, 300)
		}
		var mu sync.Mutex
		now, most := 0, 0
		b.archive.inject(func(_ context.Context, call string) fault {
			if call != "store" {
				return noFault
			}
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return noFault
		})
		_, stop := b.mover("a", 10, topics...)
		time.Sleep(5 * lookEvery)
		stop()
		for _, topic := range topics {
			if n := b.journal.len(topic); n != 10 {
				t.Errorf("%d messages of %s are left, want 10", n, topic)
			}
			if err := same(pages(t, b.history, topic, 100), all[topic]); err != nil {
				t.Errorf("%s: %v", topic, err)
			}
		}
		if most > batchesAtOnce {
			t.Errorf("%d batches at once, want %d at most", most, batchesAtOnce)
		}
	})
}

// Of several nodes one moves a topic. When it stops, another one does.
func TestOneMovesAndIsSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		_, stopA := b.mover("a", 10)
		time.Sleep(4 * lookEvery)
		if got := b.claims.holder("archive/chat/beast"); got != "a" {
			t.Fatalf("%q has the claim, want a", got)
		}
		mb, stopB := b.mover("b", 10)
		defer stopB()
		all := b.journal.appendTo(room, 50)
		time.Sleep(4 * lookEvery)
		b.holds(t, 10, 40, all)
		if got := value(t, mb.metrics.archived); got != 0 {
			t.Errorf("the other node has moved %v messages", got)
		}
		stopA()
		if got := b.claims.holder("archive/chat/beast"); got != "" {
			t.Errorf("%q has the claim of one that has stopped", got)
		}
		all = append(all, b.journal.appendTo(room, 50)...)
		time.Sleep(4 * lookEvery)
		b.holds(t, 10, 90, all)
		if got := value(t, mb.metrics.archived); got != 50 {
			t.Errorf("the other node has moved %v messages, want 50", got)
		}
	})
}

// Messages are appended by some, moved by two who both believe that they are alone,
// and paged through by others, all at the same time.
func TestMoversAndReadersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		b := newBench()
		jitter := func(context.Context, string) fault {
			time.Sleep(rand.N(3 * time.Millisecond))
			return noFault
		}
		b.journal.inject(jitter)
		b.archive.inject(jitter)
		var mu sync.Mutex
		var all []relay.Message
		_, stopA := b.mover("a", 5)
		other := b.again()
		other.claims = newClaims()
		_, stopB := other.mover("b", 20)
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for i := range 2 {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			wg.Go(func() {
				for range 400 {
					mu.Lock()
					all = append(all, b.journal.appendTo(room, 1+r.IntN(3))...)
					mu.Unlock()
					time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond)
				}
			})
		}
		var readers sync.WaitGroup
		for i := range 3 {
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					mu.Lock()
					had := len(all)
					mu.Unlock()
					got := pages(t, b.history, room, 7+30*i)
					mu.Lock()
					err := same(got, all[:min(len(got), len(all))])
					mu.Unlock()
					if err != nil || len(got) < had {
						t.Errorf("seed %d: %d messages of at least %d: %v", seed, len(got), had, err)
						return
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(4 * lookEvery)
		close(stop)
		readers.Wait()
		stopA()
		stopB()
		b.holds(t, 5, len(all)-5, all)
		if got := b.archive.all(room); !equal(got, all[:len(all)-5]) {
			t.Errorf("the archive has %d messages, want the first %d", len(got), len(all)-5)
		}
	})
}

func TestMoveAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		topics := []relay.Topic{room, "chat/empty", "chat/b"}
		all, others := b.journal.appendTo(room, 2000), b.journal.appendTo("chat/b", 3)
		m := NewMover(Config{Journal: b.journal, Archive: b.archive, Topics: topics, Length: 1000})
		failures := 0
		sometimes := func(context.Context, string) fault {
			if failures++; failures%4 == 0 {
				return answerLost
			}
			return noFault
		}
		b.journal.inject(sometimes)
		b.archive.inject(sometimes)
		if err := m.MoveAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.journal.inject(nil)
		b.archive.inject(nil)
		b.holds(t, 0, 2000, all)
		if err := same(pages(t, b.history, "chat/b", 2), others); err != nil {
			t.Error(err)
		}
		if got := value(t, m.metrics.errors); got == 0 {
			t.Error("no errors are counted")
		}
	})
}

// What cannot be moved in time is told, and does not keep other topics from being moved.
func TestMoveAllEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		all := b.journal.appendTo(room, 50)
		b.archive.inject(func(context.Context, string) fault { return refused })
		m := NewMover(Config{Journal: b.journal, Archive: b.archive, Topics: []relay.Topic{room, "chat/b"}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		err := m.MoveAll(ctx)
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), string(room)) || took != 10*time.Second {
			t.Errorf("%v after %v, want that %s is left after 10 s", err, took, room)
		}
		b.archive.inject(nil)
		b.holds(t, 50, 0, all)
	})
}
