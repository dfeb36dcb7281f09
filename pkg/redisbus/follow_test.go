package redisbus

import (
	"testing"
	"time"

	"parley/pkg/relay"
)

// What was held is not dispatched behind what was read, when that is newer.
func TestTrimmedWhileHeld(t *testing.T) {
	m := func(n uint64) relay.Message {
		return relay.Message{ID: relay.ID{Millis: n}, Time: time.Unix(int64(n), 0)}
	}
	// place was 0; the messages 1 to 10 came while the history was being read, which
	// had 8, 9 and 10 left: dispatched after a gap.
	s := &subscription{placed: true, place: relay.ID{Millis: 10}, healing: &healing{gap: true}}
	for i := uint64(8); i <= 10; i++ {
		x := m(i)
		s.healing.delivered = append(s.healing.delivered, stampOf(&x))
	}
	for i := uint64(1); i <= 10; i++ {
		x := m(i)
		s.healing.hold(&x, relay.ID{Millis: i - 1})
	}
	for {
		ready, more, gap := s.follow()
		for i := range ready {
			t.Errorf("dispatched %v after 8, 9, 10", ready[i].ID)
		}
		if len(ready) == 0 && !more && !gap {
			return
		}
	}
}

// A message that comes through the connection late, and was trimmed from the history
// before that could be read, does not come after newer ones.
func TestOvertaken(t *testing.T) {
	at := func(n uint64) *relay.Message {
		return &relay.Message{ID: relay.ID{Millis: n}, Time: time.Unix(int64(n), 0)}
	}
	dispatched := []stamp{stampOf(at(8)), stampOf(at(9)), stampOf(at(10))}
	for _, c := range []struct {
		m    *relay.Message
		prev relay.ID
		rest int
		yes  bool
	}{
		{at(8), relay.ID{Millis: 7}, 2, true},
		{at(10), relay.ID{Millis: 9}, 0, true},
		{at(7), relay.ID{Millis: 6}, 3, true},
		{at(11), relay.ID{Millis: 10}, 3, false},
		{at(7), relay.ID{}, 3, false}, // the first of another history
		{&relay.Message{ID: relay.ID{Millis: 9}, Time: time.Unix(99, 0)}, relay.ID{}, 3, false},
	} {
		rest, yes := overtaken(c.m, dispatched, !c.prev.IsZero())
		if yes != c.yes || len(rest) != c.rest {
			t.Errorf("%v after %v: %v, %d may still come; want %v, %d", c.m.ID, c.prev, yes, len(rest), c.yes, c.rest)
		}
	}
}
