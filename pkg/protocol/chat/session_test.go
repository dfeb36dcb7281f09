package chat

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/conn"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

var errAway = fmt.Errorf("%w: a test", relay.ErrUnavailable)

func TestPagesAndWhetherThereIsMore(t *testing.T) {
	for total, want := range map[int][]int{0: {0}, 1: {1}, 99: {99}, 100: {100}, 101: {100, 1}, 200: {100, 100}, 201: {100, 100, 1}} {
		t.Run(strconv.Itoa(total), func(t *testing.T) {
			f := newFixture(t, false, Config{}, conn.Config{})
			f.say(lobby, 2, "bob", numbered("n", 1, total)...)
			c := f.connect(t, "alice", "")
			room := c.want("hello").Payload.Rooms[0]
			messages, more := room.Messages, isTrue(room.HasMoreMessages)
			left := total
			for i, n := range want {
				if got := contents(messages); got != backwards("n", left, left-n+1) {
					t.Fatalf("page %d has %s, want the %d before %d", i, got, n, left+1)
				}
				if left -= n; more != (left > 0) {
					t.Fatalf("page %d says hasMoreMessages %v when %d are left", i, more, left)
				}
				if left > 0 {
					c.send(`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":%q}}`, messages[n-1].ID)
					e := c.want("roomHistory")
					if *e.Payload.RoomID != "lobby" || e.Payload.Recovered != nil {
						t.Fatalf("%+v", e)
					}
					messages, more = e.Payload.Messages, isTrue(e.Payload.HasMoreMessages)
				}
			}
		})
	}
}

// What was appended while rooms are loading is in the greeting or comes after it, not
// both.
func TestMessagesWhileRoomsAreLoading(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	f.say(lobby, 2, "bob", numbered("n", 1, 50)...)
	held := make(chan struct{})
	f.with(func() { f.held = held })
	c := f.connect(t, "alice", "")
	relaytest.Eventually(t, "the rooms are being read", func() (yes bool) { f.with(func() { yes = f.reading >= 2 }); return })
	f.say(lobby, 2, "bob", numbered("n", 51, 120)...)
	close(held)
	f.say(lobby, 2, "bob", numbered("n", 121, 130)...)
	got := contents(c.want("hello").Payload.Rooms[0].Messages)
	_, newest, _ := strings.Cut(strings.SplitN(got, ",", 2)[0], "n")
	last, _ := strconv.Atoi(newest)
	if last < 120 || got != backwards("n", last, last-99) {
		t.Fatalf("the greeting has %s", got)
	}
	for last < 130 {
		for _, m := range c.want("serverMessages").Payload.Messages {
			if last++; m.Content != fmt.Sprint("n", last) {
				t.Fatalf("got %s after n%d", m.Content, last-1)
			}
		}
	}
}

// Clients that come while others write see each message once, whatever they came with.
func TestNoHoleAndNoDoubleWhileOthersWrite(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	const total, clients = 400, 30
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range total / 4 {
			f.say(lobby, 2, "bob", numbered("n", 4*i+1, 4*i+4)...)
		}
	})
	for i := range clients {
		wg.Go(func() {
			var seen []string
			last := ""
			for round := 0; ; round++ {
				query := ""
				if last != "" {
					query = "?since=lobby%3A" + last
				}
				c := f.connect(t, []string{"alice", "bob"}[i%2], query)
				e := c.want("hello")
				ms := e.Payload.Rooms[0].Messages
				if isTrue(e.Payload.Rooms[0].Recovered) != (last != "") {
					t.Errorf("recovered is %v for a client with the last message %q", isTrue(e.Payload.Rooms[0].Recovered), last)
				}
				if len(ms) == pageSize && isTrue(e.Payload.Rooms[0].HasMoreMessages) {
					seen = nil // a whole page: what is older is to be had by paging
				}
				slices.Reverse(ms)
				for n := 0; ; n++ {
					for _, m := range ms {
						seen, last = append(seen, m.Content), m.ID
					}
					if n == 3+i%5 && round < 4 || last != "" && seen[len(seen)-1] == fmt.Sprint("n", total) {
						break
					}
					ms = c.want("serverMessages").Payload.Messages
				}
				_ = c.CloseNow()
				if last != "" && seen[len(seen)-1] == fmt.Sprint("n", total) {
					break
				}
			}
			if want := numbered("n", total-len(seen)+1, total); !slices.Equal(seen, want) {
				t.Errorf("client %d saw %v", i, seen)
			}
		})
	}
	wg.Wait()
}

func TestSince(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	f.say(lobby, 2, "bob", numbered("n", 1, 250)...)
	var ids []string // of n1 and so on
	f.with(func() {
		for _, m := range f.history[lobby.Topic()] {
			ids = append(ids, m.ID.String())
		}
	})
	keeper := f.connect(t, "bob", "") // keeps the rooms loaded
	keeper.want("hello")
	for _, test := range []struct {
		name, last string
		intact     string // nothing is known to be lost from there on
		want       string
		more       bool
		recovered  bool
	}{
		{"nothing missed", ids[249], "", "", true, true},
		{"one missed", ids[248], "", "n250", true, true},
		{"a page less one missed", ids[150], "", backwards("n", 250, 152), true, true},
		{"a page missed", ids[149], "", backwards("n", 250, 151), true, true},
		{"more than a page missed", ids[9], "", backwards("n", 250, 151), true, true},
		{"from the beginning", "0-0", "", backwards("n", 250, 151), true, true},
		{"a place that never was", "1700000000000-999", "", backwards("n", 250, 151), true, false},
		{"no place", "yesterday", "", backwards("n", 250, 151), true, false},
		{"an empty place", "", "", backwards("n", 250, 151), true, false},
		{"at the loss", ids[240], ids[240], backwards("n", 250, 242), true, true},
		{"before a loss", ids[239], ids[240], backwards("n", 250, 241), true, false},
		{"long before a loss", ids[3], ids[240], backwards("n", 250, 151), true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.intact != "" {
				id, _ := relay.ParseID(test.intact)
				f.with(func() { f.intact[lobby.Topic()] = id })
				f.gap(lobby.Topic()) // has the room read again
				relaytest.Eventually(t, "the room was read", func() bool { return f.intactEverywhere(id) })
			}
			check := func(messages []wireMessage, more, recovered, complete *bool) {
				t.Helper()
				if contents(messages) != test.want || isTrue(more) != test.more || recovered == nil || *recovered != test.recovered {
					t.Errorf("got %s, more %v, recovered %v", contents(messages), isTrue(more), recovered)
				}
				if whole := test.recovered && test.want != backwards("n", 250, 151); complete == nil || *complete != whole {
					t.Errorf("complete is %v, want %v", complete, whole)
				}
			}
			c := f.connect(t, "alice", "?since=lobby%3A"+test.last+"%2Cnowhere%3A1-1")
			e := c.want("hello")
			check(e.Payload.Rooms[0].Messages, e.Payload.Rooms[0].HasMoreMessages, e.Payload.Rooms[0].Recovered, e.Payload.Rooms[0].Complete)
			if e.Payload.Rooms[1].Recovered != nil {
				t.Error("a room that was not asked for says recovered")
			}
			c.send(`{"type":"resume","payload":{"rooms":{"lobby":%q}}}`, test.last)
			e = c.want("roomHistory")
			check(e.Payload.Messages, e.Payload.HasMoreMessages, e.Payload.Recovered, e.Payload.Complete)
		})
	}
}

// What the journal cannot give a node any more, it reads from the whole history.
func TestGapsAreClosed(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	f.say(lobby, 2, "bob", numbered("n", 1, 10)...)
	c := f.connect(t, "alice", "")
	c.want("hello")
	f.with(func() { f.mute = true })
	f.say(lobby, 2, "bob", numbered("n", 11, 320)...)
	f.with(func() { f.mute = false })
	f.gap(lobby.Topic())
	f.say(lobby, 2, "bob", "n321")
	for last := 10; last < 321; {
		for _, m := range c.want("serverMessages").Payload.Messages {
			if last++; m.Content != fmt.Sprint("n", last) {
				t.Fatalf("got %s after n%d", m.Content, last-1)
			}
		}
	}
}

func TestGapsThatAreToldOf(t *testing.T) {
	for name, test := range map[string]struct {
		lose func(f *fixture)
		want string
	}{
		"what was shown last is gone": {func(f *fixture) {
			f.history[lobby.Topic()] = slices.Delete(f.history[lobby.Topic()], 9, 12)
		}, "n13,n14,n15"},
		"everything is gone": {func(f *fixture) { f.history[lobby.Topic()] = nil }, ""},
		"something was lost behind it": {func(f *fixture) {
			f.history[lobby.Topic()] = slices.Delete(f.history[lobby.Topic()], 10, 12)
			f.intact[lobby.Topic()] = f.history[lobby.Topic()][10].ID
		}, "n13,n14,n15"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, false, Config{}, conn.Config{})
			f.say(lobby, 2, "bob", numbered("n", 1, 10)...)
			c := f.connect(t, "alice", "")
			c.want("hello")
			f.with(func() { f.mute = true })
			f.say(lobby, 2, "bob", numbered("n", 11, 15)...)
			f.with(func() {
				f.mute = false
				test.lose(f)
			})
			f.gap(lobby.Topic())
			c.wantError(errGap, "lobby")
			f.say(lobby, 2, "bob", "end")
			var got []wireMessage
			for len(got) == 0 || got[len(got)-1].Content != "end" {
				got = append(got, c.want("serverMessages").Payload.Messages...)
			}
			if got := contents(got[:len(got)-1]); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// A room that cannot be read is read again; clients that come meanwhile are told to
// try later.
func TestHistoryAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		f.say(lobby, 2, "bob", "n1")
		held := make(chan struct{})
		f.with(func() { f.held = held })
		f.connect(t, "alice", "").wantClose(conn.CodeTryLater, "not available, try again")
		f.with(func() { f.held = nil })
		close(held)
		time.Sleep(2 * reloadMax)
		c := f.connect(t, "alice", "")
		if got := contents(c.want("hello").Payload.Rooms[0].Messages); got != "n1" {
			t.Errorf("got %s", got)
		}
		f.with(func() { f.reads = errAway })
		c.send(`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":"5-5"}}`)
		c.wantError(errUnavailable, "lobby")
		c.send(`{"type":"resume","payload":{"rooms":{"lobby":"5-5"}}}`)
		c.wantError(errUnavailable, "")
		bob := f.connect(t, "bob", "?since=lobby%3A5-5") // nobody knows that message right now
		if r := bob.want("hello").Payload.Rooms[0]; contents(r.Messages) != "n1" || r.Recovered == nil || *r.Recovered {
			t.Errorf("a client that comes back: %+v", r)
		}
		_ = bob.CloseNow()
		f.gap(lobby.Topic()) // read until it works
		time.Sleep(3 * reloadMax)
		f.with(func() { f.reads = nil })
		c.say(lobby, "n2")
		if got := contents(c.want("serverMessages").Payload.Messages); got != "n2" {
			t.Errorf("got %s", got)
		}
	})
}

func TestRedisRefuses(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	c := f.connect(t, "alice", "")
	c.want("hello")
	for err, want := range map[error]*problem{errAway: errUnavailable, fmt.Errorf("a test: %w", relay.ErrFull): errFull, relay.ErrClosed: errUnavailable, errors.New("?"): errUnavailable} {
		f.with(func() { f.appends = err })
		c.say(kitchen, "x", "y")
		c.wantError(want, "kitchen")
	}
}

func TestRoomIsFull(t *testing.T) {
	f := newFixture(t, false, Config{RoomLength: 2000}, conn.Config{})
	f.say(lobby, 2, "bob", numbered("n", 1, JournalFactor*2000)...)
	c := f.connect(t, "alice", "")
	c.want("hello")
	c.say(lobby, "the last one")
	c.want("serverMessages")
	c.say(lobby, "one too many")
	c.wantError(errFull, "lobby")
}

// A frame's messages come back in one.
func TestFramesStayWhole(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	a, b := f.connect(t, "alice", ""), f.connect(t, "bob", "")
	a.want("hello")
	b.want("hello")
	all := numbered("n", 1, maxMessages)
	a.say(lobby, all...)
	for _, c := range []*client{a, b} {
		if got := contents(c.want("serverMessages").Payload.Messages); got != strings.Join(all, ",") {
			t.Errorf("got %s", got)
		}
	}
	a.say(lobby, append(all, "one more")...)
	a.wantError(errTooMany, "lobby")
}

func TestLimits(t *testing.T) {
	f := newFixture(t, false, Config{MaxMessageBytes: 8, Rate: 1}, conn.Config{})
	c := f.connect(t, "alice", "")
	c.want("hello")
	c.say(lobby, "12345678")
	c.want("serverMessages")
	c.say(lobby, "ok", "123456789")
	c.wantError(errTooLong, "lobby")
	c.say(lobby, "1234\n67") // an escape has two characters
	c.want("serverMessages")
	c.say(lobby, "1234\n678")
	c.wantError(errTooLong, "lobby")
	c.say(lobby, "a", "b") // with them it is four
	c.want("serverMessages")
	c.say(lobby, "c")
	c.wantError(errTooFast, "lobby")
	// 40 of what is not relayed may come at once, three of which were errors.
	for range 3 {
		c.send(`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":"1-1"}}`)
		c.want("roomHistory")
	}
	c.send(`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":"1-1"}}`)
	c.wantError(errTooFast, "lobby")
}

func TestPresence(t *testing.T) {
	f := newFixture(t, false, Config{}, conn.Config{})
	a := f.connect(t, "alice", "?presence=1")
	for _, r := range a.want("hello").Payload.Rooms {
		if len(r.Online) != 1 || r.Online[0].Username != "alice" {
			t.Errorf("%s says online: %v", r.ID, r.Online)
		}
	}
	wantPresence := func(c *client, name string, online bool) {
		t.Helper()
		for _, r := range []RoomConfig{lobby, kitchen} {
			e := c.want("presence")
			if *e.Payload.RoomID != r.ID || e.Payload.User.Username != name || e.Payload.Online != online {
				t.Fatalf("got %+v, want %s %v in %s", e, name, online, r.ID)
			}
		}
	}
	wantPresence(a, "alice", true)
	plain := f.connect(t, "bob", "")
	if r := plain.want("hello").Payload.Rooms[0]; r.Online != nil {
		t.Errorf("a client that has not asked is told who is online: %v", r.Online)
	}
	wantPresence(a, "bob", true)
	second := f.connect(t, "bob", "?presence=1")
	if r := second.want("hello").Payload.Rooms[0]; len(r.Online) != 2 || r.Online[1].Username != "bob" {
		t.Errorf("online: %v", r.Online)
	}
	_ = plain.CloseNow()
	a.send(`{"type":"typing","payload":{"roomId":"kitchen"}}`)
	e := second.want("typing")
	if *e.Payload.RoomID != "kitchen" || e.Payload.User.Username != "alice" {
		t.Errorf("got %+v", e)
	}
	a.send(`{"type":"typing","payload":{"roomId":"lobby"}}`) // too soon
	_ = second.CloseNow()
	wantPresence(a, "bob", false) // and nothing of its own typing before
	// What was missed is told when the list has been read again.
	f.with(func() {
		f.present = append(f.present, "7:zoe")
		f.changes += 3
	})
	f.gap(liveTopic)
	wantPresence(a, "zoe", true)
	f.with(func() {
		f.present = slices.DeleteFunc(f.present, func(m string) bool { return m == "7:zoe" })
		f.changes++
		f.change("+", "8:yan") // one is missing before it
		f.present = append(f.present, "8:yan")
	})
	f.receiver.Flush()
	wantPresence(a, "zoe", false)
	wantPresence(a, "yan", true)
	f.with(func() { f.present = slices.DeleteFunc(f.present, func(m string) bool { return m == "8:yan" }) })
}

func TestTypingRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		a, b := f.connect(t, "alice", ""), f.connect(t, "bob", "?presence=1")
		a.want("hello")
		b.want("hello")
		for i := range 3 {
			a.send(`{"type":"typing","payload":{"roomId":"lobby"}}`)
			a.send(`{"type":"typing","payload":{"roomId":"lobby"}}`)
			time.Sleep(typingEvery + time.Second)
			b.send(`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":"1-1"}}`)
			for _, want := range []string{"typing", "roomHistory"} {
				if e := b.nextBut("presence"); e.Type != want {
					t.Fatalf("round %d: got %+v, want a %s", i, e, want)
				}
			}
		}
	})
}

func TestSessionsThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		f.connect(t, "", "").wantClose(conn.CodePolicy, "sign in first")
		f.connect(t, "nobody", "").wantClose(conn.CodePolicy, "sign in first")
		first, second, other := f.connect(t, "alice", ""), f.connect(t, "alice", ""), f.connect(t, "bob", "")
		for _, c := range []*client{first, second, other} {
			c.want("hello")
		}
		f.Enqueue(relay.Message{Topic: "account/revoked", Body: []byte("key of alice")}, relay.Retention{}, nil, relay.Token{})
		first.wantClose(conn.CodePolicy, "the session has ended")
		second.wantClose(conn.CodePolicy, "the session has ended")
		// A client whose session was looked up right before it ended.
		f.connect(t, "alice", "").wantClose(conn.CodePolicy, "sign in first")
		// Word of the end was lost.
		f.with(func() { delete(f.sessions, tokenOf("bob")) })
		f.gap("account/revoked")
		other.wantClose(conn.CodePolicy, "the session has ended")
		// And nobody knows that it was.
		f.signIn(3, "carol")
		third := f.connect(t, "carol", "")
		third.want("hello")
		f.with(func() { delete(f.sessions, tokenOf("carol")) })
		third.wantLong(t, conn.CodePolicy, "the session has ended")
		// It expires.
		f.signIn(4, "dave")
		fourth := f.connect(t, "dave", "")
		fourth.want("hello")
		start := time.Now()
		fourth.wantLong(t, conn.CodePolicy, "the session has ended")
		if after := time.Since(start); after < 59*time.Minute || after > 61*time.Minute {
			t.Errorf("a session of one hour ended after %s", after)
		}
	})
}

// A node hears its rooms only as long as it has clients.
func TestRoomsAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		for range 2 {
			c := f.connect(t, "alice", "")
			c.want("hello")
			f.say(lobby, 2, "bob", "x")
			c.want("serverMessages")
			_ = c.CloseNow()
			time.Sleep(linger / 2)
			if f.subscribed() == 0 {
				t.Error("the rooms were left at once")
			}
			time.Sleep(linger)
			if n := f.subscribed(); n != 0 {
				t.Errorf("%d subscriptions are left long after the last client", n)
			}
		}
	})
}
