package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/conn"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// list reads the notifications of an answer to a poll with max.
func (a *answered) list(t *testing.T) (all []notification) {
	t.Helper()
	var body struct{ Notifications []notification }
	if err := json.Unmarshal([]byte(a.text), &body); err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%d %s: %v", a.StatusCode, a.text, err)
	}
	return body.Notifications
}

// A poll that waits costs Redis nothing; it is answered from whichever node something
// comes, and its connection goes on.
func TestPollIsWoken(t *testing.T) {
	f := newFleet(t, options{nodes: 2})
	bobby := f.users["bobby"]
	for i := range 3 {
		poll := f.nodes[1].ask(bobby.token, "GET", "/me", "")
		f.nodes[1].parked(1)
		f.write(f.nodes[0], "alice", "bobby", fmt.Sprint(i))
		a := poll.expect(http.StatusOK, "")
		if a.Close || !strings.HasPrefix(a.text, `{"notification":"new_private_message","from":"alice","id":"`) {
			t.Errorf("answered with %s, close %v", a.text, a.Close)
		}
	}
	f.nodes[1].parked(0)
}

// hopper polls on one node after the other and notes what it gets.
type hopper struct {
	f     *fleet
	who   *person
	plain bool // leaves its place to the inbox
	seen  map[string]int
	posts []string // pulled, in their order
	after string
	gaps  int
}

// poll polls once, on a node, and pulls the conversation when there is something.
func (h *hopper) poll(n *node, from *person, timeout string) {
	t := h.f.t
	query := "/me?max=3&timeout=" + timeout
	if !h.plain && h.after != "" {
		query += "&after=" + h.after
	}
	got := n.ask(h.who.token, "GET", query, "").get()
	if got.text == "{}" {
		return
	}
	for _, one := range got.list(t) {
		if h.seen[one.ID]++; h.seen[one.ID] > 1 {
			t.Errorf("notification %s came twice", one.ID)
		}
		if one.Kind == gapNotification {
			h.gaps++
		}
		h.after = one.ID
	}
	h.pull(n, from)
}

func (h *hopper) pull(n *node, from *person) {
	t := h.f.t
	got := n.ask(h.who.token, "GET", fmt.Sprintf("/Users/%d/conversation?sender=%d", h.who.ID, from.ID), "").expect(http.StatusOK, "")
	var body struct{ Messages []messageJSON }
	if err := json.Unmarshal([]byte(got.text), &body); err != nil {
		t.Error(err)
	}
	for _, m := range body.Messages {
		h.posts = append(h.posts, m.Message)
	}
}

// A client that hops between nodes misses nothing of what others write through all of
// them meanwhile, and gets nothing twice, whether it says how far it is or not.
func TestHopping(t *testing.T) {
	const posts = 300
	relaytest.NoLeaks(t)
	r, mariadb := relaytest.StartRedis(t), relaytest.StartMariaDB(t)
	for _, c := range []struct {
		name           string
		plain, mariadb bool
	}{{"plain", true, false}, {"after", false, false}, {"plain, on MariaDB", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			o := options{nodes: 3, redis: r.URL()}
			if c.mariadb {
				o.database = mariadb.NewURL(t)
			}
			f := newFleet(t, o)
			f.redisClean(r)
			alice, bobby := f.users["alice"], f.users["bobby"]
			h := &hopper{f: f, who: bobby, plain: c.plain, seen: map[string]int{}}
			h.poll(f.nodes[0], alice, "0") // its place is known from here on
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range posts {
					f.write(f.nodes[i%3], "alice", "bobby", fmt.Sprint(i))
				}
			})
			deadline := time.Now().Add(patience)
			for i := 0; len(h.posts) < posts || len(h.seen) < posts; i++ {
				h.poll(f.nodes[i%3], alice, "1")
				if time.Now().After(deadline) {
					t.Fatalf("%d notifications and %d messages after %v", len(h.seen), len(h.posts), patience)
				}
			}
			wg.Wait()
			h.poll(f.nodes[0], alice, "0")
			if len(h.seen) != posts || len(h.posts) != posts || h.gaps != 0 {
				t.Errorf("%d notifications (%d gaps) and %d messages, want %d", len(h.seen), h.gaps, len(h.posts), posts)
			}
			for i, text := range h.posts {
				if text != fmt.Sprint(i) {
					t.Fatalf("message %d is %s", i, text)
				}
			}
		})
	}
}

// redisClean has nothing of another test in a Redis that several share.
func (f *fleet) redisClean(r *relaytest.Redis) {
	f.t.Helper()
	keys, err := r.Client().Keys(f.t.Context(), "parley:*user/*").Result()
	if err != nil {
		f.t.Fatal(err)
	}
	if len(keys) > 0 {
		if err := r.Client().Del(f.t.Context(), keys...).Err(); err != nil {
			f.t.Fatal(err)
		}
	}
}

// A node that drains answers what waits at once, and what comes; nothing of it counts as
// delivered.
func TestDrain(t *testing.T) {
	f := newFleet(t, options{nodes: 2})
	bobby := f.users["bobby"]
	poll := f.nodes[0].ask(bobby.token, "GET", "/me", "")
	f.nodes[0].parked(1)
	f.nodes[0].lot.Drain()
	if a := poll.expect(http.StatusOK, "{}"); !a.Close {
		t.Error("the connection goes on")
	}
	f.write(f.nodes[0], "alice", "bobby", "late")
	if a := f.nodes[0].ask(bobby.token, "GET", "/me?max=5", "").expect(http.StatusOK, "{}"); !a.Close {
		t.Error("the connection goes on")
	}
	if all := f.nodes[1].ask(bobby.token, "GET", "/me?max=5", "").get().list(t); len(all) != 1 {
		t.Errorf("the other node has %v", all)
	}
}

// The polls of a session that ends are told, on every node; others wait on.
func TestSessionEnds(t *testing.T) {
	f := newFleet(t, options{nodes: 2})
	bobby := f.users["bobby"]
	other := f.session(bobby)
	ended, standing := f.nodes[1].ask(bobby.token, "GET", "/me", ""), f.nodes[1].ask(other, "GET", "/me", "")
	f.nodes[1].parked(2)
	f.nodes[0].ask(bobby.token, "DELETE", "/auth/token", "").expect(http.StatusNoContent, "")
	a := ended.expect(http.StatusUnauthorized, `{"error":{"code":"unauthorized","message":"the session has ended"}}`)
	if a.Header.Get("WWW-Authenticate") == "" {
		t.Error("no WWW-Authenticate")
	}
	f.nodes[1].parked(1)
	f.nodes[0].ask(bobby.token, "GET", "/me", "").expect(http.StatusUnauthorized, "")
	if !standing.open() {
		t.Error("another session's poll was answered")
	}
	// Where the end of a session may have been missed, all come again.
	revocations{f.nodes[1].Server}.Gap(relay.Position{})
	standing.expect(http.StatusOK, "{}")
}

// A session that ends while its poll is on its way is noticed, though nobody was there to
// hear of it.
func TestSessionEndsBeforePark(t *testing.T) {
	var inbox *slowInbox
	f := newFleet(t, options{deps: func(_ int, d *Deps) {
		inbox = &slowInbox{Inbox: d.Inbox, entered: make(chan struct{}), go_: make(chan struct{})}
		d.Inbox = inbox
	}})
	bobby := f.users["bobby"]
	poll := f.nodes[0].ask(bobby.token, "GET", "/me", "")
	<-inbox.entered
	f.nodes[0].ask(bobby.token, "DELETE", "/auth/token", "").expect(http.StatusNoContent, "")
	close(inbox.go_)
	poll.expect(http.StatusUnauthorized, "")
}

// slowInbox lets nobody read until it may.
type slowInbox struct {
	relay.Inbox
	entered, go_ chan struct{}
}

func (s *slowInbox) Collect(ctx ctx, t relay.Topic, r relay.Reading, n int) (relay.Collected, error) {
	c, err := s.Inbox.Collect(ctx, t, r, n)
	close(s.entered)
	<-s.go_
	return c, err
}

// What comes between reading the inbox and parking is not lost, and comes once.
func TestWhatComesWhileReading(t *testing.T) {
	var inbox *slowInbox
	f := newFleet(t, options{nodes: 2, deps: func(i int, d *Deps) {
		if i == 0 {
			inbox = &slowInbox{Inbox: d.Inbox, entered: make(chan struct{}), go_: make(chan struct{})}
			d.Inbox = inbox
		}
	}})
	bobby := f.users["bobby"]
	poll := f.nodes[0].ask(bobby.token, "GET", "/me?max=100", "")
	<-inbox.entered
	const many = maxNotifications + 20 // more than are held
	for i := range many {
		f.write(f.nodes[1], "alice", "bobby", fmt.Sprint(i))
	}
	other := f.nodes[1].ask(f.session(bobby), "GET", "/me?max=100", "").get().list(t)
	relaytest.Eventually(t, "the node has heard of all", func() bool {
		f.nodes[0].mu.Lock()
		defer f.nodes[0].mu.Unlock()
		c := f.nodes[0].centers[bobby.ID]
		c.mu.Lock()
		defer c.mu.Unlock()
		p := c.polls[0]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.anew && len(p.waiting) == many-maxNotifications
	})
	inbox.entered = make(chan struct{})
	close(inbox.go_)
	all := poll.get().list(t)
	if len(all) != maxNotifications || len(other) != maxNotifications || all[0].ID != other[0].ID || all[maxNotifications-1].ID != other[maxNotifications-1].ID {
		t.Errorf("%d notifications from %v, want those from %v", len(all), all[0], other[0])
	}
}

// An answer that could not be written counts as none.
func TestBrokenAnswer(t *testing.T) {
	f := newFleet(t, options{})
	n, bobby := f.nodes[0], f.users["bobby"]
	n.ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
	f.write(n, "alice", "bobby", "hello")
	topic := relay.UserTopic(bobby.ID)
	session, err := n.accounts.Session(t.Context(), bobby.token)
	if err != nil {
		t.Fatal(err)
	}
	// A node that dies while it writes: it has collected, and nothing more is heard of it.
	relaytest.Eventually(t, "it waits", func() bool {
		c, err := n.deps.Inbox.Collect(t.Context(), topic, relay.Reading{Reader: session.Key}, 1)
		return err == nil && len(c.Messages) == 1
	})
	began := time.Now()
	if all := n.ask(bobby.token, "GET", "/me?max=5", "").get().list(t); len(all) != 1 {
		t.Errorf("given again: %v", all)
	}
	if took := time.Since(began); took < unsettledPatience/2 {
		t.Errorf("the node was taken for dead after %v", took)
	}
	n.ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
}

// Who comes while an answer to the same session is being written waits until that is done.
func TestAnswerOnItsWay(t *testing.T) {
	f := newFleet(t, options{nodes: 2})
	bobby := f.users["bobby"]
	f.nodes[0].ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
	f.write(f.nodes[0], "alice", "bobby", "hello")
	session, err := f.nodes[0].accounts.Session(t.Context(), bobby.token)
	if err != nil {
		t.Fatal(err)
	}
	topic := relay.UserTopic(bobby.ID)
	var c relay.Collected
	relaytest.Eventually(t, "it waits", func() bool {
		c, err = f.nodes[0].deps.Inbox.Collect(t.Context(), topic, relay.Reading{Reader: session.Key}, 1)
		return err == nil && len(c.Messages) == 1
	})
	poll := f.nodes[1].ask(bobby.token, "GET", "/me?timeout=0", "")
	if err := f.nodes[0].deps.Inbox.Settle(t.Context(), topic, session.Key, c.End, true); err != nil {
		t.Fatal(err)
	}
	poll.expect(http.StatusOK, "{}")
}

// More than are kept: the client is told, once it has come for the answer, and goes on from
// there, one at a time or several.
func TestGap(t *testing.T) {
	for _, c := range []struct{ plain, listed bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		t.Run(fmt.Sprintf("plain %v listed %v", c.plain, c.listed), func(t *testing.T) {
			f := newFleet(t, options{})
			n, bobby := f.nodes[0], f.users["bobby"]
			n.ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
			topic := relay.UserTopic(bobby.ID)
			retention := NoticeRetention
			retention.Length = 3
			after := ""
			for i := range 6 {
				id, err := n.bus.Publish(t.Context(), relay.Message{Topic: topic, Body: noticeOfPrivate(fmt.Sprint(i))}, retention)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					after = id.String()
				}
			}
			var got []string
			for len(got) < 4 {
				query := "/me?timeout=0"
				if c.listed {
					query += "&max=2"
				}
				if !c.plain {
					query += "&after=" + after
				}
				a := n.ask(bobby.token, "GET", query, "").get()
				var all []notification
				if c.listed {
					all = a.list(t)
				} else {
					var one notification
					if err := json.Unmarshal([]byte(a.text), &one); err != nil || one.Kind == "" {
						t.Fatalf("after %v: %s", got, a.text)
					}
					all = append(all, one)
				}
				if len(all) == 0 {
					t.Fatalf("only %v", got)
				}
				for _, one := range all {
					if one.Kind == gapNotification {
						got = append(got, gapNotification)
					} else {
						got = append(got, *one.From)
					}
					after = one.ID
				}
			}
			if fmt.Sprint(got) != "[gap 3 4 5]" {
				t.Errorf("got %v", got)
			}
			query := "/me?timeout=0"
			if !c.plain {
				query += "&after=" + after
			}
			n.ask(bobby.token, "GET", query, "").expect(http.StatusOK, "{}")
		})
	}
}

// Redis loses what it had: who waits is told.
func TestRedisLosesData(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	f := newFleet(t, options{nodes: 2, redis: r.URL()})
	f.redisClean(r)
	bobby := f.users["bobby"]
	f.write(f.nodes[0], "alice", "bobby", "one")
	first := f.nodes[0].ask(bobby.token, "GET", "/me?max=5", "").get().list(t)
	poll := f.nodes[1].ask(bobby.token, "GET", "/me?max=5&after="+first[0].ID, "")
	f.nodes[1].parked(1)
	session, err := f.nodes[0].accounts.Session(t.Context(), bobby.token)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := r.Client().Get(t.Context(), "parley:v:"+session.Key).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	// All but the session, which would have to be begun anew.
	pipe := r.Client().TxPipeline()
	pipe.FlushAll(t.Context())
	pipe.Set(t.Context(), "parley:v:"+session.Key, kept, 0)
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := poll.get().list(t)
	if len(all) != 1 || all[0].Kind != gapNotification {
		t.Errorf("told of %v, want a gap", all)
	}
}

// As many polls of a user as may be, and one more; and what is not answered does not count
// for good.
func TestMostPolls(t *testing.T) {
	f := newFleet(t, options{})
	n, bobby := f.nodes[0], f.users["bobby"]
	var polls []*request
	for range maxPolls {
		polls = append(polls, n.ask(bobby.token, "GET", "/me", ""))
	}
	n.parked(maxPolls)
	if a := n.ask(bobby.token, "GET", "/me", "").expect(http.StatusTooManyRequests, ""); a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
	}
	n.ask(f.users["carol"].token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
	f.write(n, "alice", "bobby", "all of you")
	for _, p := range polls {
		p.expect(http.StatusOK, "")
	}
	relaytest.Eventually(t, "there is room", func() bool {
		return n.ask(bobby.token, "GET", "/me?timeout=0", "").get().StatusCode == http.StatusOK
	})
	relaytest.Eventually(t, "no connection counts any more", func() bool { return n.deps.Admission.(*conn.Group).Len() == 0 })
}

// Polls count as connections.
func TestPollsAreAdmitted(t *testing.T) {
	for name, c := range map[string]struct {
		admit  conn.Config
		status int
	}{
		"of the node":    {conn.Config{MaxConnections: 1}, http.StatusServiceUnavailable},
		"of the address": {conn.Config{MaxConnectionsPerIP: 1}, http.StatusTooManyRequests},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, options{admit: c.admit})
			n, bobby := f.nodes[0], f.users["bobby"]
			first := n.ask(bobby.token, "GET", "/me?timeout=1", "")
			n.parked(1)
			if a := n.ask(bobby.token, "GET", "/me", "").expect(c.status, ""); a.Header.Get("Retry-After") != "5" {
				t.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
			}
			first.expect(http.StatusOK, "{}")
			relaytest.Eventually(t, "there is room", func() bool {
				return n.ask(bobby.token, "GET", "/me?timeout=0", "").get().StatusCode == http.StatusOK
			})
		})
	}
}

// The topic of a user is heard a while longer than there are polls, and no longer.
func TestLinger(t *testing.T) {
	f := newFleet(t, options{})
	n, bobby := f.nodes[0], f.users["bobby"]
	count := func() int {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.centers)
	}
	n.ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
	if count() != 0 {
		t.Error("a user is heard who does not wait")
	}
	n.ask(bobby.token, "GET", "/me?timeout=0.01", "").expect(http.StatusOK, "{}")
	n.tidyCenters(time.Now().Add(linger - time.Second))
	if count() != 1 {
		t.Error("the user is forgotten at once")
	}
	poll := n.ask(bobby.token, "GET", "/me", "")
	n.parked(1)
	n.tidyCenters(time.Now().Add(2 * linger))
	if count() != 1 {
		t.Error("a user who waits is forgotten")
	}
	f.write(n, "alice", "bobby", "hello")
	poll.expect(http.StatusOK, "")
	relaytest.Eventually(t, "the user is forgotten", func() bool {
		n.tidyCenters(time.Now().Add(linger + time.Second))
		return count() == 0
	})
}
