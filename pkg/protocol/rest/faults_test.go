package rest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/account"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

type ctx = context.Context

// A handler that panics answers with 500, in the protocol's form; nothing of why is told.
func TestPanic(t *testing.T) {
	f := newFleet(t, options{deps: func(_ int, d *Deps) { d.Friends = nil }})
	n, alice := f.nodes[0], f.users["alice"]
	n.ask(alice.token, "GET", "/Users/1/friends", "").expect(http.StatusInternalServerError, `{"error":{"code":"internal","message":"internal error"}}`)
	n.ask(alice.token, "GET", "/Users/1", "").expect(http.StatusOK, "")
	if !strings.Contains(f.log.String(), "panic") {
		t.Error("the log does not tell of it")
	}
}

// panicInbox panics when an answer is offered.
type panicInbox struct{ relay.Inbox }

func (panicInbox) Offer(ctx, relay.Topic, string, relay.Position) error { panic("the test says so") }

// So does one of a parked poll, and the node goes on.
func TestPanicOfParkedPoll(t *testing.T) {
	f := newFleet(t, options{deps: func(_ int, d *Deps) { d.Inbox = panicInbox{d.Inbox} }})
	n, bobby := f.nodes[0], f.users["bobby"]
	poll := n.ask(bobby.token, "GET", "/me", "")
	n.parked(1)
	f.write(n, "alice", "bobby", "hello")
	poll.expect(http.StatusInternalServerError, `{"error":{"code":"internal","message":"internal error"}}`)
	n.ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "")
	n.parked(0)
}

// failing stands for what does not answer.
type failing struct {
	relay.Directory
	relay.Inbox
	err error
}

func (f failing) ByID(ctx, int64) (relay.User, error) { return relay.User{}, f.err }
func (f failing) Collect(ctx, relay.Topic, relay.Reading, int) (relay.Collected, error) {
	return relay.Collected{}, f.err
}

func TestUnavailable(t *testing.T) {
	away := fmt.Errorf("%w: secret detail", relay.ErrUnavailable)
	f := newFleet(t, options{deps: func(_ int, d *Deps) {
		d.Directory, d.Inbox = failing{Directory: d.Directory, err: away}, failing{Inbox: d.Inbox, err: away}
	}})
	n, alice := f.nodes[0], f.users["alice"]
	for _, path := range []string{"/Users/1", "/me"} {
		a := n.ask(alice.token, "GET", path, "").expect(http.StatusServiceUnavailable, `{"error":{"code":"unavailable","message":"that could not be done right now, or is not known to have been done: try again"}}`)
		if a.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After: %q", path, a.Header.Get("Retry-After"))
		}
	}
}

// deafPublisher passes nothing on until it may.
type deafPublisher struct {
	Publisher
	to   relay.Topic // "": of all users
	mu   sync.Mutex
	deaf bool
}

func (p *deafPublisher) Enqueue(m relay.Message, r relay.Retention, a relay.Acker, t relay.Token) {
	p.mu.Lock()
	deaf := p.deaf && strings.HasPrefix(string(m.Topic), cmp.Or(string(p.to), relay.UserTopics))
	p.mu.Unlock()
	if deaf {
		a.Published(t, relay.ID{}, relay.ErrUnavailable)
		return
	}
	p.Publisher.Enqueue(m, r, a, t)
}

func (p *deafPublisher) set(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
}

// oldOutbox takes every notice for an old one.
type oldOutbox struct{ relay.Outbox }

func (o oldOutbox) Pending(c ctx, _ time.Duration, n int) ([]relay.Notice, error) {
	return o.Outbox.Pending(c, 0, n)
}

// What a node could not pass on is passed on by another one, once.
func TestNoticesAreSweptUp(t *testing.T) {
	deaf := &deafPublisher{deaf: true}
	f := newFleet(t, options{nodes: 2, deps: func(i int, d *Deps) {
		d.Outbox = oldOutbox{d.Outbox}
		d.Meter = neverMeter{} // sweeps by hand only
		if i == 0 {
			deaf.Publisher = d.Publisher
			d.Publisher = deaf
		}
	}})
	pending := func() int {
		all, err := f.store.Outbox().Pending(t.Context(), 0, 100)
		if err != nil {
			t.Error(err)
		}
		return len(all)
	}
	bobby := f.users["bobby"]
	poll := f.nodes[1].ask(bobby.token, "GET", "/me?max=5", "")
	f.nodes[1].parked(1)
	f.write(f.nodes[0], "alice", "bobby", "hello")
	if pending() != 1 || !poll.open() {
		t.Fatalf("%d notices wait, the poll waits: %v", pending(), poll.open())
	}
	f.nodes[0].stop() // it cannot try again
	f.nodes[1].deps.Meter = freeMeter{}
	f.nodes[1].sweepOnce()
	if all := poll.get().list(t); len(all) != 1 || *all[0].From != "alice" {
		t.Errorf("told %v", all)
	}
	relaytest.Eventually(t, "nothing waits", func() bool { return pending() == 0 })
	f.nodes[1].sweepOnce()
	f.nodes[1].ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")

	// What is passed on at once is dropped soon.
	f.write(f.nodes[1], "alice", "bobby", "hello")
	relaytest.Eventually(t, "nothing waits", func() bool { return pending() == 0 })
}

// A node tries again by itself, those only whom it could not reach.
func TestNoticesAreTriedAgain(t *testing.T) {
	deaf := &deafPublisher{deaf: true, to: relay.UserTopic(2)}
	f := newFleet(t, options{deps: func(_ int, d *Deps) {
		d.Meter = neverMeter{}
		deaf.Publisher = d.Publisher
		d.Publisher = deaf
	}})
	n, alice := f.nodes[0], f.users["alice"]
	bobby, carol := n.ask(f.users["bobby"].token, "GET", "/me", ""), n.ask(f.users["carol"].token, "GET", "/me", "")
	n.parked(2)
	n.ask(alice.token, "PUT", "/Groups/tea", `{"members":[2,3]}`).expect(http.StatusCreated, "")
	carol.expect(http.StatusOK, "")
	if !bobby.open() {
		t.Error("who cannot be reached is told")
	}
	deaf.set(false)
	bobby.expect(http.StatusOK, "")
	relaytest.Eventually(t, "nothing waits", func() bool {
		all, err := f.store.Outbox().Pending(t.Context(), 0, 100)
		return err == nil && len(all) == 0
	})
	n.ask(f.users["carol"].token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
}

// neverMeter has no room, freeMeter always.
type neverMeter struct{}

func (neverMeter) Take(ctx, string, int64, time.Duration) (time.Duration, error) {
	return time.Second, nil
}
func (neverMeter) Return(ctx, string) error { return nil }

type freeMeter struct{ neverMeter }

func (freeMeter) Take(ctx, string, int64, time.Duration) (time.Duration, error) { return 0, nil }

// One node in the fleet sweeps at a time.
func TestOneSweeps(t *testing.T) {
	var mu sync.Mutex
	looks := 0
	f := newFleet(t, options{nodes: 3, deps: func(_ int, d *Deps) {
		d.Outbox = countedOutbox{d.Outbox, func() { mu.Lock(); defer mu.Unlock(); looks++ }}
	}})
	var wg sync.WaitGroup
	for _, n := range f.nodes {
		wg.Go(n.sweepOnce)
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if looks != 1 {
		t.Errorf("%d nodes have looked", looks)
	}
}

type countedOutbox struct {
	relay.Outbox
	look func()
}

func (o countedOutbox) Pending(c ctx, age time.Duration, n int) ([]relay.Notice, error) {
	o.look()
	if age != sweepAge || n != sweepAtOnce {
		return nil, errors.New("not what is pending")
	}
	return o.Outbox.Pending(c, age, n)
}

func TestMatchingGroups(t *testing.T) {
	names := []string{"Tea", "tea time", "steam", "STEEL", "coffee", "tEA", "a tea"}
	all := []string{"Tea", "tEA", "tea time", "a tea", "steam"}
	if got := matchingGroups(names, "TEA", nil); !slices.Equal(got, all) {
		t.Errorf("found %q, want %q", got, all)
	}
	for i := range all {
		if got := matchingGroups(names, "tea", &all[i]); !slices.Equal(got, all[i+1:]) {
			t.Errorf("after %q: %q, want %q", all[i], got, all[i+1:])
		}
	}
}

// Pages of a search have everything once.
func TestSearchPages(t *testing.T) {
	f := newFleet(t, options{})
	n, alice := f.nodes[0], f.users["alice"]
	want := map[string]bool{}
	for i := range 45 {
		name := fmt.Sprintf("zoe %02d", i)
		f.join(name)
		want[name] = true
		group := fmt.Sprintf("zoo %02d", i)
		n.ask(alice.token, "PUT", "/Groups/"+url.PathEscape(group), `{"members":[]}`).expect(http.StatusCreated, "")
		want[group] = true
	}
	after := ""
	for page := 0; ; page++ {
		var got searchJSON
		decode(t, n.ask(alice.token, "GET", "/Search?Name=ZO"+after, "").expect(http.StatusOK, "").text, &got)
		if len(got.Users) > found || len(got.Groups) > found {
			t.Errorf("page %d has %d users and %d groups", page, len(got.Users), len(got.Groups))
		}
		for _, u := range got.Users {
			if !want[u.Username] {
				t.Errorf("%s came twice, or is wrong", u.Username)
			}
			delete(want, u.Username)
		}
		for _, g := range got.Groups {
			if !want[g.ID] {
				t.Errorf("%s came twice, or is wrong", g.ID)
			}
			delete(want, g.ID)
		}
		if got.Next == "" {
			break
		}
		after = "&after=" + got.Next
	}
	if len(want) != 0 {
		t.Errorf("not found: %v", want)
	}
}

func FuzzParsePlace(f *testing.F) {
	f.Add("")
	f.Add(place{UsersDone: true}.String())
	f.Add(place{Users: []byte("x"), Group: new(string)}.String())
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePlace(s)
		if err != nil {
			return
		}
		if again, err := parsePlace(p.String()); err != nil && len(p.String()) <= maxPlace || again.UsersDone != p.UsersDone && err == nil {
			t.Errorf("%q is read as %+v, and that as %+v (%v)", s, p, again, err)
		}
	})
}

// Whatever a path is, it is matched or not, and does not panic.
func FuzzRoute(f *testing.F) {
	f.Add("/Users/1/friends/a%2Fb", "GET", "Index=1")
	f.Add("/Group/x/conversation", "HEAD", "")
	f.Fuzz(func(t *testing.T, path, method, query string) {
		u, err := url.ParseRequestURI("/" + strings.TrimPrefix(path, "/"))
		if err != nil {
			return
		}
		segments := segmentsOf(u)
		if segments == nil {
			return
		}
		q, _ := url.ParseQuery(query) // as far as it can be read
		do, names, allowed := find(segments, method, q)
		if do != nil && (len(allowed) == 0 || !slices.Contains(allowed, method)) {
			t.Errorf("%s %s goes to %s, allowed is %v", method, path, do.path, allowed)
		}
		for _, name := range names {
			if name == "" {
				t.Errorf("%s has an empty name", path)
			}
		}
		if _, err := (&call{session: account.Session{Key: "x"}, query: q}).pollOf(time.Now()); err != nil && problemOf(err).status != http.StatusBadRequest {
			t.Errorf("%s: %v", query, err)
		}
	})
}

// stubbornOutbox drops nothing until it may.
type stubbornOutbox struct {
	relay.Outbox
	refuses atomic.Int32
}

func (o *stubbornOutbox) Done(c ctx, ids ...int64) error {
	if o.refuses.Add(-1) >= 0 {
		return relay.ErrUnavailable
	}
	return o.Outbox.Done(c, ids...)
}

// What could not be dropped from the database is dropped later, and a server that ends
// leaves nothing that was passed on.
func TestNoticesAreDropped(t *testing.T) {
	stubborn := &stubbornOutbox{}
	stubborn.refuses.Store(3)
	f := newFleet(t, options{deps: func(_ int, d *Deps) {
		d.Meter = neverMeter{}
		stubborn.Outbox = d.Outbox
		d.Outbox = stubborn
	}})
	pending := func() int {
		all, err := f.store.Outbox().Pending(t.Context(), 0, 100)
		if err != nil {
			t.Error(err)
		}
		return len(all)
	}
	f.write(f.nodes[0], "alice", "bobby", "one")
	relaytest.Eventually(t, "nothing waits", func() bool { return pending() == 0 })
	for i := range 20 {
		f.write(f.nodes[0], "alice", "bobby", fmt.Sprint(i))
	}
	f.nodes[0].stop()
	if n := pending(); n != 0 {
		t.Errorf("%d notices are left", n)
	}
}

// Tokens that open nothing are counted for the address that they come from.
func TestTokensThatOpenNothing(t *testing.T) {
	f := newFleet(t, options{config: func(c *Config) { c.Rate = 0.01 }})
	n := f.nodes[0]
	for range costMessage {
		n.ask(strings.Repeat("A", 43), "GET", "/Users/1", "").expect(http.StatusUnauthorized, "")
	}
	n.ask(strings.Repeat("A", 43), "GET", "/Users/1", "").expect(http.StatusTooManyRequests, "")
	n.ask(f.users["alice"].token, "GET", "/Users/1", "").expect(http.StatusOK, "")
}

// A cookie lets a page of a foreign site in only as far as a browser says where it comes
// from; a token in the header is the program's own.
func TestForeignPages(t *testing.T) {
	f := newFleet(t, options{})
	n, alice, bobby := f.nodes[0], f.users["alice"], f.users["bobby"]
	cookie, bearer := "Cookie: sid="+bobby.token, "Authorization: Bearer "+alice.token
	for _, c := range []struct {
		header []string
		path   string
		status int
	}{
		{[]string{cookie}, "/me?timeout=0", http.StatusOK},
		{[]string{cookie, "Sec-Fetch-Site: same-origin"}, "/me?timeout=0", http.StatusOK},
		{[]string{cookie, "Sec-Fetch-Site: none"}, "/me?timeout=0", http.StatusOK},
		{[]string{cookie, "Sec-Fetch-Site: cross-site"}, "/me?timeout=0", http.StatusForbidden},
		{[]string{cookie, "Sec-Fetch-Site: same-site"}, "/Users/2/conversation?sender=1", http.StatusForbidden},
		{[]string{cookie, "Sec-Fetch-Site: cross-site", "Authorization: Basic eA=="}, "/me?timeout=0", http.StatusForbidden},
		{[]string{bearer, "Sec-Fetch-Site: cross-site"}, "/me?timeout=0", http.StatusOK},
		{[]string{cookie, "Sec-Fetch-Site: cross-site"}, "/Users/2", http.StatusOK}, // its answer is not shown to the page
	} {
		n.ask("", "GET", c.path, "", c.header...).expect(c.status, "")
	}
	n.ask("", "GET", "/Users/me", "", cookie, bearer).expect(http.StatusOK, `{"id":1,"username":"alice","email":"alice@example.com"}`)
}

// What this version does not understand is told as a gap, and does not hold anybody up.
func TestUnknownNotices(t *testing.T) {
	f := newFleet(t, options{})
	n, bobby := f.nodes[0], f.users["bobby"]
	n.ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
	put := func(body string) {
		if _, err := n.bus.Publish(t.Context(), relay.Message{Topic: relay.UserTopic(bobby.ID), Body: []byte(body)}, NoticeRetention); err != nil {
			t.Fatal(err)
		}
	}
	put("\x00later")
	put("{}")
	if all := n.ask(bobby.token, "GET", "/me?max=5", "").get().list(t); len(all) != 2 || all[0].Kind != gapNotification || all[1].Kind != gapNotification {
		t.Errorf("told %v", all)
	}
	n.ask(bobby.token, "GET", "/me?timeout=0", "").expect(http.StatusOK, "{}")
	poll := n.ask(bobby.token, "GET", "/me?max=3", "")
	n.parked(1)
	put(`{"notification":"new","more":1}`)
	if all := poll.get().list(t); len(all) != 1 || all[0].Kind != "new" {
		t.Errorf("told %v", all)
	}
}

// A body that is null is none.
func TestNullBody(t *testing.T) {
	f := newFleet(t, options{})
	n, alice := f.nodes[0], f.users["alice"]
	n.ask(alice.token, "PUT", "/Users/1", " null\n").expect(http.StatusBadRequest, `{"error":{"code":"bad_request","message":"the body is of the wrong type"}}`)
}
