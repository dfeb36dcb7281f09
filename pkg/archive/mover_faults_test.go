package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/relay"
)

// Who has lost the claim moves nothing any more, nor shows a backlog; nor does one who
// cannot find out.
func TestMoverNeedsTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m, stop := b.mover("a", 10)
		defer stop()
		all := b.journal.appendTo(room, 20)
		time.Sleep(2 * lookEvery)
		b.holds(t, 10, 10, all)

		for _, err := range []error{fmt.Errorf("%w: cut off", relay.ErrUnavailable), relay.ErrClosed} {
			b.claims.set(err)
			all = append(all, b.journal.appendTo(room, 5)...)
			before := b.archive.len(room)
			time.Sleep(10 * lookEvery)
			b.holds(t, 15, before, all)
			b.claims.set(nil)
			time.Sleep(2 * lookEvery)
			b.holds(t, 10, before+5, all)
		}
		if got := b.said(); got != "" {
			t.Errorf("the log says %q, want nothing: who has the claims tells of it", got)
		}

		b.claims.set(nil, "archive/chat/beast", "b")
		all = append(all, b.journal.appendTo(room, 5)...)
		before := b.archive.len(room)
		time.Sleep(10 * lookEvery)
		b.holds(t, 15, before, all)
		if got := value(t, m.metrics.backlog); got != 0 {
			t.Errorf("a backlog of %v of a topic that another one moves", got)
		}

		b.claims.set(errors.New("a name of 1000 bytes is too long"))
		time.Sleep(2 * retryFirst)
		if got := b.said(); !strings.Contains(got, "too long") {
			t.Errorf("the log says %q, want what is wrong with the claim", got)
		}
	})
}

// What fails is repeated, is told of once when it begins and once when it is over, and
// shows in the metrics.
func TestMoverTellsOfErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		topics := []relay.Topic{room, "chat/b", "chat/c"}
		for _, topic := range topics {
			b.journal.appendTo(topic, 30)
		}
		b.archive.inject(func(context.Context, string) fault { return refused })
		m, stop := b.mover("a", 10, topics...)
		defer stop()
		time.Sleep(10 * retryLast)
		if got := strings.Count(b.said(), "\n"); got != 1 || !strings.Contains(b.said(), "level=WARN") {
			t.Errorf("the log says %q, want one warning", b.said())
		}
		if got := value(t, m.metrics.backlog); got != 60 {
			t.Errorf("a backlog of %v, want 60", got)
		}
		attempts := int(value(t, m.metrics.errors))
		if most := 3 * (10*int(retryLast/time.Second)/10 + 5); attempts < 3*8 || attempts > most {
			t.Errorf("%d attempts, want %d to %d", attempts, 3*8, most)
		}
		for _, topic := range topics {
			if got := b.claims.holder("archive/" + string(topic)); got != "" {
				t.Errorf("%q has the claim, want nobody while it fails", got)
			}
		}
		b.archive.inject(nil)
		time.Sleep(2 * retryLast)
		if got := strings.Count(b.said(), "\n"); got != 2 || !strings.Contains(b.said(), "level=INFO") {
			t.Errorf("the log says %q, want a warning, and that it is over", b.said())
		}
		if got := value(t, m.metrics.backlog); got != 0 {
			t.Errorf("a backlog of %v, want none", got)
		}
		if got := value(t, m.metrics.archived); got != 60 {
			t.Errorf("%v messages are counted, want 60", got)
		}
	})
}

// A node whose own way to the database is broken leaves the topic to another one.
func TestMoverWhoseDatabaseIsAwayGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		broken := b.again()
		broken.archive = newStore()
		broken.archive.inject(func(context.Context, string) fault { return refused })
		_, stopA := broken.mover("a", 10)
		defer stopA()
		time.Sleep(lookEvery)
		all := b.journal.appendTo(room, 50)
		_, stopB := b.mover("b", 10)
		defer stopB()
		time.Sleep(2 * retryLast)
		b.holds(t, 10, 40, all)
	})
}

// A mover that dies at any step, the step executed or not, leaves nothing that the
// next one does not put right.
func TestMoverDies(t *testing.T) {
	for _, step := range []string{"oldest", "store", "forget"} {
		for _, executed := range []fault{refused, answerLost} {
			for nth := range 4 {
				t.Run(fmt.Sprintf("%s %d, %d", step, nth, executed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b := newBench()
						all := b.journal.appendTo(room, 1000)
						dead := make(chan struct{})
						count := 0
						die := func(ctx context.Context, call string, run func(context.Context) error) error {
							select {
							case <-dead: // whatever it did after that, nobody would see it
								return errBroken
							default:
							}
							if call != step || count < nth {
								if call == step {
									count++
								}
								return run(ctx)
							}
							if executed == answerLost {
								if err := run(ctx); err != nil {
									t.Error(err)
								}
							}
							close(dead)
							return errBroken
						}
						m := NewMover(Config{Journal: mortal{b.journal, die}, Archive: mortal{b.archive, die},
							Claims: newClaims(), Node: "a", Topics: []relay.Topic{room}, Length: 10})
						ctx, cancel := context.WithCancel(t.Context())
						done := make(chan error, 1)
						go func() { done <- m.Run(ctx) }()
						<-dead
						if err := same(pages(t, b.history, room, 77), all); err != nil {
							t.Errorf("after the death: %v", err)
						}
						_, stop := b.mover("b", 10)
						time.Sleep(2 * lookEvery)
						stop()
						cancel()
						if err := <-done; err != nil {
							t.Error(err)
						}
						b.holds(t, 10, 990, all)
						if got := b.archive.all(room); !equal(got, all[:990]) {
							t.Errorf("the archive has %d messages, want the first 990", len(got))
						}
					})
				})
			}
		}
	}
}

// mortal is a store as one sees it who may die.
type mortal struct {
	*store
	die func(ctx context.Context, call string, run func(context.Context) error) error
}

func (m mortal) Oldest(ctx context.Context, t relay.Topic, n int) (messages []relay.Message, total int64, err error) {
	err = m.die(ctx, "oldest", func(ctx context.Context) (err error) {
		messages, total, err = m.store.Oldest(ctx, t, n)
		return err
	})
	return messages, total, err
}

func (m mortal) Store(ctx context.Context, messages []relay.Message) error {
	return m.die(ctx, "store", func(ctx context.Context) error { return m.store.Store(ctx, messages) })
}

func (m mortal) Forget(ctx context.Context, t relay.Topic, upTo relay.ID) error {
	return m.die(ctx, "forget", func(ctx context.Context) error { return m.store.Forget(ctx, t, upTo) })
}

// A call that never ends is given up, and repeated.
func TestMoverGivesUpOnWhatHangs(t *testing.T) {
	for _, step := range []string{"oldest", "store", "forget"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				all := b.journal.appendTo(room, 50)
				var hung atomic.Bool
				hang := func(ctx context.Context, call string) fault {
					if call == step && hung.CompareAndSwap(false, true) {
						<-ctx.Done()
					}
					return noFault
				}
				b.journal.inject(hang)
				b.archive.inject(hang)
				_, stop := b.mover("a", 10)
				defer stop()
				time.Sleep(storeTimeout + 2*retryLast)
				if !hung.Load() {
					t.Error("nothing hung")
				}
				b.holds(t, 10, 40, all)
			})
		})
	}
}
