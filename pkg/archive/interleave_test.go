package archive

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"parley/pkg/relay"
)

// world is a topic of which, at every step of every call, something else may happen:
// messages are appended, other movers move some, calls fail, movers die.
type world struct {
	r       *rand.Rand
	faults  bool
	depth   int
	journal *store
	archive *store
	all     []relay.Message // appended, in all
}

func newWorld(seed uint64, faults bool) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 0)), faults: faults, journal: newStore(), archive: newStore()}
	step := func(context.Context, string) fault { return w.step() }
	w.journal.inject(step)
	w.archive.inject(step)
	return w
}

// step is called in the middle of things.
func (w *world) step() fault {
	if w.depth < 3 {
		w.depth++
		for w.r.IntN(3) == 0 {
			w.act()
		}
		w.depth--
	}
	if !w.faults {
		return noFault
	}
	switch w.r.IntN(10) {
	case 0:
		return refused
	case 1:
		return answerLost
	}
	return noFault
}

// act appends some messages, or moves some, as one more mover.
func (w *world) act() {
	if w.r.IntN(2) == 0 && len(w.all) < 80 {
		w.all = append(w.all, w.journal.appendTo(room, w.r.IntN(8))...)
		return
	}
	m := NewMover(Config{Journal: w.journal, Archive: w.archive})
	f := follower{Mover: m, topic: room, size: 1 + w.r.IntN(6)}
	_, _ = f.batch(context.Background(), int64(w.r.IntN(12))) // where it fails, it has died
}

// read pages through the topic, and says what is wrong with that.
func (w *world) read(tb testing.TB, h *History) error {
	had := len(w.all)
	got := pages(tb, h, room, 1+w.r.IntN(7))
	if len(got) < had {
		return fmt.Errorf("got %d messages, of %d at least", len(got), had)
	}
	// Nothing is missing, nothing is there twice, nothing is out of order.
	return same(got, w.all[:len(got)])
}

// Whatever happens in between, in any order, paging gives each message once.
func TestHistoryInAllInterleavings(t *testing.T) {
	first, runs := uint64(time.Now().UnixNano()), 200
	for i := range uint64(runs) {
		seed := first + i
		w := newWorld(seed, i%2 == 0)
		h := NewHistory(w.journal, w.archive)
		for range 8 {
			w.act()
			if err := w.read(t, h); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		// What any mover left undone, the last one does.
		w.faults, w.depth = false, 3
		m := NewMover(Config{Journal: w.journal, Archive: w.archive, Topics: []relay.Topic{room}})
		if err := m.MoveAll(t.Context()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if n := w.journal.len(room); n != 0 {
			t.Fatalf("seed %d: %d messages are left in the journal", seed, n)
		}
		if got := w.archive.all(room); !equal(got, w.all) {
			t.Fatalf("seed %d: the archive has %d messages, want the %d that were appended", seed, len(got), len(w.all))
		}
		if err := w.read(t, h); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
