package texto

import (
	"testing"
	"time"

	"parley/pkg/relay"
)

func numbered(n int) *relay.Message {
	return &relay.Message{ID: relay.ID{Millis: uint64(n) + 1}, Time: time.UnixMilli(int64(n)), Body: make([]byte, 72)}
}

// What is held is bounded at its edge; beyond it all goes, and nothing comes in
// until the history has been read again.
func TestHeldIsBounded(t *testing.T) {
	const each = 72 + heldOverhead
	c := &catchUp{limit: 3 * each}
	for n := range 3 {
		c.hold(held{message: *numbered(n)})
	}
	if len(c.held) != 3 || c.overflow {
		t.Fatalf("%d held, overflow %v, want all three", len(c.held), c.overflow)
	}
	if h, ok := c.next(); !ok || h.message.ID.Millis != 1 || c.bytes != 2*each {
		t.Fatalf("got %v, %v, %d bytes left", h, ok, c.bytes)
	}
	c.hold(held{message: *numbered(3)})
	c.hold(held{gap: true})
	if len(c.held) != 0 || !c.overflow || c.bytes != 0 {
		t.Fatalf("%d held, overflow %v, %d bytes, want nothing", len(c.held), c.overflow, c.bytes)
	}
	c.hold(held{message: *numbered(4)})
	if len(c.held) != 0 {
		t.Error("held on after an overflow")
	}
	c.overflow = false
	c.hold(held{message: *numbered(5)})
	if h, ok := c.next(); !ok || h.message.ID.Millis != 6 {
		t.Errorf("got %v, %v", h, ok)
	}
	if _, ok := c.next(); ok {
		t.Error("more than was held")
	}
}

// A message that was read is known when it comes again, once; others are not.
func TestKnown(t *testing.T) {
	c := &catchUp{}
	if c.known(numbered(1)) {
		t.Error("known before anything was read")
	}
	for n := 1; n <= 5; n++ {
		c.remember(numbered(n))
	}
	another := numbered(4)
	another.Time = another.Time.Add(1)
	for _, step := range []struct {
		name string
		m    *relay.Message
		want bool
		left int
	}{
		{"one that is not kept", &relay.Message{}, false, 5},
		{"one before them all", numbered(0), false, 5},
		{"the third", numbered(3), true, 2},
		{"the third again", numbered(3), false, 2},
		{"another one at the place of the fourth, of another history", another, false, 2},
		{"the fourth", numbered(4), true, 1},
		{"a newer one", numbered(6), false, 0},
		{"the fifth, too late", numbered(5), false, 0},
	} {
		if got := c.known(step.m); got != step.want || len(c.read) != step.left {
			t.Errorf("%s: known %v, %d left, want %v, %d", step.name, got, len(c.read), step.want, step.left)
		}
	}
}

// What is remembered is bounded; the newest stay.
func TestRememberedIsBounded(t *testing.T) {
	c := &catchUp{}
	for n := range maxRemembered {
		c.remember(numbered(n))
	}
	if len(c.read) != maxRemembered || !c.known(numbered(0)) {
		t.Fatalf("%d remembered, want %d and the first of them", len(c.read), maxRemembered)
	}
	c.remember(numbered(maxRemembered))
	c.remember(numbered(maxRemembered + 1))
	if len(c.read) > maxRemembered || !c.known(numbered(maxRemembered+1)) {
		t.Errorf("%d remembered, want the newest among at most %d", len(c.read), maxRemembered)
	}
}
