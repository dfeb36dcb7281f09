package relaytest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// People is what one node has of accounts, and of what they do with each other.
type People struct {
	Users      relay.Users
	Directory  relay.Directory
	Friends    relay.Friends
	Identities relay.Identities
	Groups     relay.Groups
	Posts      relay.Posts
	Outbox     relay.Outbox
}

// OpenPeople makes an empty database, and returns it as so many nodes have it.
type OpenPeople func(tb testing.TB, nodes int) []People

// one makes a test of one node's.
func (open OpenPeople) one(test func(*testing.T, People)) func(*testing.T) {
	return func(t *testing.T) { test(t, open(t, 1)[0]) }
}

// user makes an account.
func (p People) user(t *testing.T, name string) relay.User {
	t.Helper()
	return mustCreate(t, p.Users, relay.User{Username: name, Email: name + "@example.com"}, "")
}

// users makes accounts and returns their ids.
func (p People) users(t *testing.T, names ...string) (ids []int64) {
	t.Helper()
	for _, name := range names {
		ids = append(ids, p.user(t, name).ID)
	}
	return ids
}

// crowd are accounts with made-up names, made by several at once.
func (p People) crowd(t *testing.T, n int) []int64 {
	t.Helper()
	ids := make([]int64, n)
	atOnce(8, func(w int) {
		for i := w; i < n; i += 8 {
			name := fmt.Sprint("one of many ", i)
			u, err := p.Users.Create(t.Context(), relay.User{Username: name, Email: name}, "")
			if err != nil {
				t.Errorf("Create: %v", err)
			}
			ids[i] = u.ID
		}
	})
	return ids
}

// atOnce has so many do something, all of whom begin at the same moment.
func atOnce(n int, do func(i int)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			do(i)
		})
	}
	close(begin)
	wg.Wait()
}

// pause lets others get on. A file that several nodes write to has no queue: whoever
// writes without a pause may keep the others from it for too long, on a machine that is
// busy with other things.
func pause() { time.Sleep(rand.N(10 * time.Millisecond)) }

// expect wants an error, or none, and never one that says that the database is away.
func expect(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("%s: error = %v, want %v", what, err, want)
	}
}

// nobody are ids that no account has.
var nobody = []int64{-1 << 63, -1, 0, 1 << 40, 1<<63 - 1}

// ended is a context that has ended.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// Directory holds an implementation to the contract of relay.Directory.
func Directory(t *testing.T, open OpenPeople) {
	t.Run("accounts are found", open.one(testDirectoryFound))
	t.Run("another username and email", open.one(testDirectoryRename))
	t.Run("what is taken", open.one(testDirectoryTaken))
	t.Run("many want one name", func(t *testing.T) { testDirectoryMany(t, open(t, 3)) })
	t.Run("search", func(t *testing.T) { testSearch(t, open) })
}

func testDirectoryFound(t *testing.T, p People) {
	for i, name := range []string{"alice", "Alice", "alice ", "\u00e4", "a\u0308", "x\x00y", "\U0001f600"} {
		want := mustCreate(t, p.Users, relay.User{Username: name, Email: fmt.Sprint(i, "@Example.com")}, "")
		for what, find := range map[string]func() (relay.User, error){
			"ByID":       func() (relay.User, error) { return p.Directory.ByID(t.Context(), want.ID) },
			"ByUsername": func() (relay.User, error) { return p.Directory.ByUsername(t.Context(), name) },
		} {
			if u, err := find(); err != nil || u != want {
				t.Errorf("%s of %q: %+v, %v; want %+v", what, name, u, err, want)
			}
		}
	}
	for _, name := range []string{"", "ALICE", "alice  ", "alic", "' OR 1=1 -- ", "%", "*"} {
		u, err := p.Directory.ByUsername(t.Context(), name)
		expect(t, "ByUsername of nobody", err, relay.ErrNoUser)
		if u != (relay.User{}) {
			t.Errorf("ByUsername %q: %+v", name, u)
		}
	}
	for _, id := range nobody {
		_, err := p.Directory.ByID(t.Context(), id)
		expect(t, "ByID of nobody", err, relay.ErrNoUser)
	}
	if _, err := p.Directory.ByUsername(ended(t), "alice"); !errors.Is(err, context.Canceled) {
		t.Errorf("ByUsername without patience: %v", err)
	}
}

func testDirectoryRename(t *testing.T, p People) {
	u := mustCreate(t, p.Users, relay.User{Username: "alice", Email: "Alice@example.com"}, "secret")
	text := func(s string) *string { return &s }
	for _, c := range []struct{ username, email *string }{
		{nil, nil},
		{text("alicia"), nil},
		{nil, text("ALICE@example.com")}, // her own, in another case
		{text("alicia"), text("ALICE@example.com")},
		{text("alice"), text("alice@example.org")},
	} {
		before := u
		if c.username != nil {
			u.Username = *c.username
		}
		if c.email != nil {
			u.Email = *c.email
		}
		got, err := p.Directory.Rename(t.Context(), u.ID, c.username, c.email)
		if err != nil || got != u {
			t.Errorf("Rename: %+v, %v; want %+v", got, err, u)
		}
		if got, password, err := p.Users.ByEmail(t.Context(), strings.ToUpper(u.Email)); err != nil || got != u || password != "secret" {
			t.Errorf("ByEmail: %+v, %q, %v; want %+v", got, password, err, u)
		}
		if got, err := p.Directory.ByUsername(t.Context(), u.Username); err != nil || got != u {
			t.Errorf("ByUsername: %+v, %v; want %+v", got, err, u)
		}
		if before.Username != u.Username {
			_, err := p.Directory.ByUsername(t.Context(), before.Username)
			expect(t, "the former name", err, relay.ErrNoUser)
			// Somebody else may have it now.
			other := mustCreate(t, p.Users, relay.User{Username: before.Username, Email: "other"}, "")
			if _, err := p.Directory.Rename(t.Context(), other.ID, text(fmt.Sprint("other ", other.ID)), text(fmt.Sprint(other.ID))); err != nil {
				t.Errorf("Rename the other one: %v", err)
			}
		}
	}
	for _, id := range nobody {
		_, err := p.Directory.Rename(t.Context(), id, text("new"), nil)
		expect(t, "Rename nobody", err, relay.ErrNoUser)
	}
	if _, err := p.Directory.Rename(ended(t), u.ID, text("new"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Rename without patience: %v", err)
	}
	if got, err := p.Directory.ByID(t.Context(), u.ID); err != nil || got != u {
		t.Errorf("in the end: %+v, %v; want %+v", got, err, u)
	}
}

func testDirectoryTaken(t *testing.T, p People) {
	alice, bob := p.user(t, "alice"), p.user(t, "bob")
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		username, email *string
		want            error
	}{
		{text("bob"), nil, relay.ErrUsernameTaken},
		{nil, text("BOB@example.com"), relay.ErrEmailTaken},
		{text("bob"), text("bob@example.com"), relay.ErrEmailTaken},
		{text("bob"), text("new@example.com"), relay.ErrUsernameTaken},
		{text("new"), text("bob@example.com"), relay.ErrEmailTaken},
	} {
		u, err := p.Directory.Rename(t.Context(), alice.ID, c.username, c.email)
		expect(t, "Rename", err, c.want)
		if u != (relay.User{}) {
			t.Errorf("Rename failed and returned %+v", u)
		}
	}
	for _, want := range []relay.User{alice, bob} {
		if u, err := p.Directory.ByID(t.Context(), want.ID); err != nil || u != want {
			t.Errorf("in the end: %+v, %v; want %+v", u, err, want)
		}
	}
	if u, err := p.Directory.Rename(t.Context(), alice.ID, text("Bob"), nil); err != nil || u.Username != "Bob" {
		t.Errorf("another case: %+v, %v", u, err)
	}
}

func testDirectoryMany(t *testing.T, nodes []People) {
	const tries = 30
	ids := nodes[0].crowd(t, tries)
	wanted, errs := "wanted", make([]error, tries)
	atOnce(tries, func(i int) {
		_, errs[i] = nodes[i%len(nodes)].Directory.Rename(t.Context(), ids[i], &wanted, nil)
	})
	got := 0
	for i, err := range errs {
		if err != nil {
			expect(t, "Rename", err, relay.ErrUsernameTaken)
			continue
		}
		got++
		if u, err := nodes[0].Directory.ByUsername(t.Context(), wanted); err != nil || u.ID != ids[i] {
			t.Errorf("%d got it, and %+v has it (%v)", ids[i], u, err)
		}
	}
	if got != 1 {
		t.Errorf("%d of %d got the name, want 1", got, tries)
	}
}
