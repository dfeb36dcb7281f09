package chat

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// The history may be ahead of the bus: what was read from it comes once more, late.
func TestWhatWasReadIsNotShownAgain(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	f.with(func() { f.mute = true })
	f.say(lobby, 2, "bob", "n1", "n2")
	c := f.connect(t, "alice", "")
	if got := contents(c.want("hello").Payload.Rooms[0].Messages); got != "n2,n1" {
		t.Fatalf("greeted with %s", got)
	}
	f.with(func() {
		f.mute = false
		for _, m := range f.history[lobby.Topic()] {
			f.dispatch(m)
		}
	})
	f.say(lobby, 2, "bob", "n3")
	if got := contents(c.want("serverMessages").Payload.Messages); got != "n3" {
		t.Errorf("got %s, want what is new", got)
	}
	// After a gap too.
	f.with(func() { f.mute = true })
	f.say(lobby, 2, "bob", "n4")
	f.gap(lobby.Topic())
	if got := contents(c.want("serverMessages").Payload.Messages); got != "n4" {
		t.Errorf("got %s, want what was missed", got)
	}
	f.with(func() {
		f.mute = false
		f.dispatch(f.history[lobby.Topic()][3])
	})
	f.say(lobby, 2, "bob", "n5")
	if got := contents(c.want("serverMessages").Payload.Messages); got != "n5" {
		t.Errorf("got %s, want what is new", got)
	}
	d := f.connect(t, "bob", "")
	if got := contents(d.want("hello").Payload.Rooms[0].Messages); got != "n5,n4,n3,n2,n1" {
		t.Errorf("greeted with %s", got)
	}
}

// A room that was empty has a history too.
func TestGapInAnEmptyRoom(t *testing.T) {
	for name, test := range map[string]struct {
		missed int
		lost   bool
	}{"some": {3, false}, "more than a page": {250, false}, "some of which are lost": {3, true}, "none that is left": {0, true}, "none": {0, false}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, false, Config{}, conn.Config{})
			c := f.connect(t, "alice", "")
			c.want("hello")
			f.with(func() { f.mute = true })
			f.say(lobby, 2, "bob", numbered("n", 1, test.missed)...)
			f.with(func() {
				f.mute = false
				if test.lost {
					f.epoch++
				}
			})
			f.gap(lobby.Topic())
			f.say(lobby, 2, "bob", "end")
			if test.lost {
				c.wantError(errGap, "lobby")
			}
			var got []wireMessage
			for len(got) == 0 || got[len(got)-1].Content != "end" {
				got = append(got, c.want("serverMessages").Payload.Messages...)
			}
			if want := strings.Join(append(numbered("n", 1, test.missed), "end"), ","); contents(got) != want {
				t.Errorf("got %s, want %s", contents(got), want)
			}
		})
	}
}

// When more was missed than can be shown, clients come back and get a page.
func TestTooMuchWasMissed(t *testing.T) {
	for name, messages := range map[string][]string{
		"many":  numbered("n", 1, (closePages+2)*pageSize),
		"large": slices.Repeat([]string{strings.Repeat("x", closeBytes/pageSize)}, 3*pageSize),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, false, Config{}, conn.Config{})
			f.say(lobby, 2, "bob", "the first")
			c := f.connect(t, "alice", "")
			c.want("hello")
			f.with(func() { f.mute = true })
			f.say(lobby, 2, "bob", messages...)
			f.with(func() { f.mute = false })
			f.gap(lobby.Topic())
			c.wantClose(conn.CodeRestart, "too much was missed: come back")
			c = f.connect(t, "alice", "")
			room := c.want("hello").Payload.Rooms[0]
			if len(room.Messages) < pageSize/2 || room.Messages[0].Content != messages[len(messages)-1] || !isTrue(room.HasMoreMessages) {
				t.Errorf("%d messages, the newest is %.20s", len(room.Messages), room.Messages[0].Content)
			}
		})
	}
}

// Pages have a bound in bytes too, and lead all the way back.
func TestPagesOfLongMessages(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	long := strings.Repeat("x", 60_000)
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i, long))
	}
	f.say(lobby, 2, "bob", want...)
	c := f.connect(t, "alice", "")
	text, _ := c.read()
	if most := helloBytes + len(long); len(text) > most {
		t.Errorf("a greeting of %d bytes, want %d at most", len(text), most)
	}
	d := f.connect(t, "alice", "")
	room := d.want("hello").Payload.Rooms[0]
	got, more := room.Messages, isTrue(room.HasMoreMessages)
	for more {
		d.send(`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":%q}}`, got[len(got)-1].ID)
		text, _ := d.read()
		e := parse(t, text)
		if most := historyBytes + 1000; len(text) > most || len(e.Payload.Messages) == 0 {
			t.Fatalf("a page of %d messages in %d bytes, want %d at most", len(e.Payload.Messages), len(text), most)
		}
		got, more = append(got, e.Payload.Messages...), isTrue(e.Payload.HasMoreMessages)
	}
	slices.Reverse(want)
	if contents(got) != strings.Join(want, ",") {
		t.Errorf("paging gives %d messages of %d", len(got), len(want))
	}
	// A single one comes however long it is.
	f.say(lobby, 2, "bob", strings.Repeat("y", 2*helloBytes), "z")
	e := f.connect(t, "bob", "")
	room = e.want("hello").Payload.Rooms[0]
	if contents(room.Messages) != "z" {
		t.Errorf("the page has %d messages", len(room.Messages))
	}
	e.send(`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":%q}}`, room.Messages[0].ID)
	if p := e.want("roomHistory").Payload; len(p.Messages) != 1 || len(p.Messages[0].Content) != 2*helloBytes || !isTrue(p.HasMoreMessages) {
		t.Errorf("%d messages", len(p.Messages))
	}
}

// Clients that go while rooms cannot be loaded leave nothing behind.
func TestNobodyWaitsWhoHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		f.with(func() { f.reads = errAway })
		for range 20 {
			f.connect(t, "alice", "?since=lobby%3A1-1").wantClose(conn.CodeTryLater, "not available, try again")
		}
		synctest.Wait()
		f.server.mu.Lock()
		defer f.server.mu.Unlock()
		for _, sh := range f.server.shards {
			n := make(chan int, 1)
			sh.do(func() { n <- len(sh.waiting) })
			if n := <-n; n != 0 {
				t.Errorf("%d wait for rooms whose clients have gone", n)
			}
		}
	})
}

// Who has no token is told so, whatever else is wrong.
func TestNoTokenWhileRedisIsAway(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	f.with(func() { f.reads = errAway })
	f.connect(t, "", "").wantClose(conn.CodePolicy, "sign in first")
	if n := f.subscribed(); n != 0 {
		t.Errorf("somebody who is not signed in has the node subscribe to %d topics", n)
	}
}

// Whoever can send anything at all can send the largest frame, if rarely.
func TestLargeFramesAtALowRate(t *testing.T) {
	f := newFixture(t, false, Config{Rate: 0.1}, conn.Config{})
	c := f.connect(t, "alice", "")
	c.want("hello")
	c.say(lobby, numbered("n", 1, maxMessages)...)
	c.want("serverMessages")
	c.say(lobby, "another")
	c.wantError(errTooFast, "lobby")
}

// A user who comes back soon has not been away.
func TestPresenceIsNotRestless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		for range 5 {
			c := f.connect(t, "alice", "")
			c.want("hello")
			_ = c.CloseNow()
			time.Sleep(tidyEvery / 2)
		}
		f.with(func() {
			if f.changes != 1 {
				t.Errorf("%d changes, want one", f.changes)
			}
		})
		time.Sleep(3 * tidyEvery)
		f.with(func() {
			if f.changes != 2 || len(f.present) != 0 {
				t.Errorf("%d changes, and %v are present", f.changes, f.present)
			}
		})
	})
}

// What only a newer node can read does no harm.
func TestUnreadableMessages(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	c := f.connect(t, "alice", "")
	c.want("hello")
	f.with(func() { f.mute = true })
	for range 3 * pageSize {
		f.Append([]relay.Message{{Topic: lobby.Topic(), Body: []byte("?")}}, 1<<40, deaf{}, relay.Token{})
	}
	f.with(func() { f.mute = false })
	f.gap(lobby.Topic())
	f.say(lobby, 2, "bob", "end")
	if got := contents(c.want("serverMessages").Payload.Messages); got != "end" {
		t.Errorf("got %s", got)
	}
	c.send(`{"type":"clientMessages","payload":{"roomId":"lobby","messages":[{"content":"after"}]}}`)
	if got := contents(c.want("serverMessages").Payload.Messages); got != "after" {
		t.Errorf("got %s", got)
	}
}

// A doubt that comes while sessions are being looked up is not forgotten.
func TestDoubtDuringALookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		c := f.connect(t, "alice", "")
		c.want("hello")
		held := make(chan struct{})
		f.with(func() { f.standing = held })
		f.gap("account/revoked")
		time.Sleep(2 * tidyEvery) // a look-up is under way, and has seen all that it will see
		f.gap("account/revoked")
		time.Sleep(2 * tidyEvery)
		f.with(func() {
			delete(f.sessions, tokenOf("alice"))
			f.standing = nil
		})
		start := time.Now()
		close(held)
		c.wantLong(t, conn.CodePolicy, "the session has ended")
		if after := time.Since(start); after > 3*tidyEvery {
			t.Errorf("it took %s", after)
		}
	})
}

// Of several nodes one sees first that Redis has another history, and notes from where
// on it is intact. What a node has missed and shown before it sees that too, lies after
// that place.
func TestGapThatIsToldLate(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	f.say(lobby, 2, "bob", "n1")
	c := f.connect(t, "alice", "")
	c.want("hello")
	f.with(func() { f.mute = true })
	f.say(lobby, 2, "bob", "of the old master")
	f.with(func() {
		f.mute = false
		f.history[lobby.Topic()] = f.history[lobby.Topic()][:1]
	})
	f.say(lobby, 2, "bob", "n2", "n3")
	for _, want := range []string{"n2", "n3"} {
		if got := contents(c.want("serverMessages").Payload.Messages); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	f.with(func() {
		f.epoch++
		f.intact[lobby.Topic()] = f.history[lobby.Topic()][1].ID // n2
	})
	f.gap(lobby.Topic())
	c.wantError(errGap, "lobby")
	f.say(lobby, 2, "bob", "n4")
	if got := contents(c.want("serverMessages").Payload.Messages); got != "n4" {
		t.Errorf("got %s", got)
	}
}
