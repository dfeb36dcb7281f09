package relaytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"parley/pkg/relay"
)

// Users holds an implementation to the contract of relay.Users. Open makes an empty
// set of accounts, and returns it as so many nodes have it.
func Users(t *testing.T, open func(tb testing.TB, nodes int) []relay.Users) {
	one := func(test func(*testing.T, relay.Users)) func(*testing.T) {
		return func(t *testing.T) { test(t, open(t, 1)[0]) }
	}
	t.Run("an account is made and found", one(testUsersFound))
	t.Run("usernames are exact", one(testUsersExact))
	t.Run("emails have no case", one(testUsersEmails))
	t.Run("what is taken", one(testUsersTaken))
	t.Run("nobody", one(testUsersNobody))
	t.Run("an end of patience", one(testUsersContext))
	t.Run("many want one name", func(t *testing.T) { testUsersMany(t, open(t, 3)) })
}

func mustCreate(t *testing.T, us relay.Users, u relay.User, password string) relay.User {
	t.Helper()
	made, err := us.Create(t.Context(), u, password)
	if err != nil {
		t.Fatalf("Create %q, %q: %v", u.Username, u.Email, err)
	}
	return made
}

func testUsersFound(t *testing.T, us relay.Users) {
	const password = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
	alice := mustCreate(t, us, relay.User{ID: 4711, Username: "alice", Email: "Alice@Example.com"}, password)
	bob := mustCreate(t, us, relay.User{ID: 4711, Username: "bob", Email: "bob@example.com"}, "")
	if alice.Username != "alice" || alice.Email != "Alice@Example.com" {
		t.Errorf("Create returned %+v", alice)
	}
	if alice.ID < 1 || bob.ID < 1 || alice.ID == bob.ID || alice.ID == 4711 {
		t.Errorf("the ids are %d and %d", alice.ID, bob.ID)
	}
	for _, want := range []struct {
		relay.User
		password string
	}{{alice, password}, {bob, ""}} {
		if u, err := us.ByID(t.Context(), want.ID); err != nil || u != want.User {
			t.Errorf("ByID: %+v, %v; want %+v", u, err, want.User)
		}
		if u, got, err := us.ByEmail(t.Context(), want.Email); err != nil || u != want.User || got != want.password {
			t.Errorf("ByEmail: %+v, %q, %v; want %+v, %q", u, got, err, want.User, want.password)
		}
	}
}

// Usernames that differ in anything at all are different, also in what collations
// and fixed-length columns overlook.
func testUsersExact(t *testing.T, us relay.Users) {
	names := []string{
		"bob", "Bob", "BOB", "bob ", "bob  ", " bob", "bob\t", "bob\x00", "bo\x00b",
		"b\u00f6b", "bo\u0308b", "b\u00d6b", // composed, decomposed, upper case
		"stra\u00dfe", "strasse", "\u017ftrasse",
		"\U0001f600", "\U0001f601", "\U0001f600\ufe0f", "\u200bbob", "\uff42ob",
		strings.Repeat("\U0001f600", 100), strings.Repeat("\U0001f600", 99) + "\U0001f601",
	}
	ids := map[int64]string{}
	for i, name := range names {
		taken, _, err := us.Taken(t.Context(), name, "")
		if err != nil || taken {
			t.Errorf("%q is taken: %v, %v; nobody has it yet", name, taken, err)
		}
		u := mustCreate(t, us, relay.User{Username: name, Email: fmt.Sprint(i, "@example.com")}, "")
		if other, found := ids[u.ID]; found {
			t.Errorf("%q and %q are one account", name, other)
		}
		ids[u.ID] = name
	}
	for id, name := range ids {
		if u, err := us.ByID(t.Context(), id); err != nil || u.Username != name {
			t.Errorf("%q has become %q (%v)", name, u.Username, err)
		}
		_, err := us.Create(t.Context(), relay.User{Username: name, Email: "new@example.com"}, "")
		if !errors.Is(err, relay.ErrUsernameTaken) || errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("%q again: %v", name, err)
		}
	}
}

func testUsersEmails(t *testing.T, us relay.Users) {
	u := mustCreate(t, us, relay.User{Username: "first", Email: "J\u00f6rg+Tag@Example.COM"}, "x")
	for _, same := range []string{"J\u00f6rg+Tag@Example.COM", "j\u00f6rg+tag@example.com", "J\u00d6RG+TAG@EXAMPLE.COM"} {
		got, password, err := us.ByEmail(t.Context(), same)
		if err != nil || got != u || password != "x" {
			t.Errorf("ByEmail %q: %+v, %q, %v", same, got, password, err)
		}
		if _, err := us.Create(t.Context(), relay.User{Username: "other", Email: same}, ""); !errors.Is(err, relay.ErrEmailTaken) {
			t.Errorf("another account with %q: %v", same, err)
		}
	}
	for _, other := range []string{"jorg+tag@example.com", "j\u00f6rg+tag@example.com ", "j\u00f6rg@example.com", " j\u00f6rg+tag@example.com"} {
		if got, _, err := us.ByEmail(t.Context(), other); !errors.Is(err, relay.ErrNoUser) {
			t.Errorf("ByEmail %q: %+v, %v; this is another email", other, got, err)
		}
	}
}

func testUsersTaken(t *testing.T, us relay.Users) {
	mustCreate(t, us, relay.User{Username: "alice", Email: "alice@example.com"}, "")
	mustCreate(t, us, relay.User{Username: "bob", Email: "bob@example.com"}, "")
	for _, c := range []struct {
		username, email           string
		usernameTaken, emailTaken bool
		err                       error
	}{
		{"alice", "alice@example.com", true, true, relay.ErrEmailTaken},
		{"alice", "bob@example.com", true, true, relay.ErrEmailTaken}, // each by another one
		{"alice", "new@example.com", true, false, relay.ErrUsernameTaken},
		{"new", "ALICE@example.com", false, true, relay.ErrEmailTaken},
		{"Alice", "new@example.com", false, false, nil},
	} {
		usernameTaken, emailTaken, err := us.Taken(t.Context(), c.username, c.email)
		if err != nil || usernameTaken != c.usernameTaken || emailTaken != c.emailTaken {
			t.Errorf("Taken %q, %q: %v, %v, %v; want %v, %v", c.username, c.email, usernameTaken, emailTaken, err, c.usernameTaken, c.emailTaken)
		}
		u, err := us.Create(t.Context(), relay.User{Username: c.username, Email: c.email}, "")
		if !errors.Is(err, c.err) {
			t.Errorf("Create %q, %q: %v, want %v", c.username, c.email, err, c.err)
		}
		if c.err != nil && u != (relay.User{}) {
			t.Errorf("Create failed and returned %+v", u)
		}
	}
}

func testUsersNobody(t *testing.T, us relay.Users) {
	for _, id := range []int64{-1, 0, 1, 1 << 62} {
		if u, err := us.ByID(t.Context(), id); !errors.Is(err, relay.ErrNoUser) || u != (relay.User{}) {
			t.Errorf("ByID %d: %+v, %v", id, u, err)
		}
	}
	for _, email := range []string{"", "nobody@example.com", "' OR 1=1 -- ", "%", "*"} {
		u, password, err := us.ByEmail(t.Context(), email)
		if !errors.Is(err, relay.ErrNoUser) || errors.Is(err, relay.ErrUnavailable) || u != (relay.User{}) || password != "" {
			t.Errorf("ByEmail %q: %+v, %q, %v", email, u, password, err)
		}
	}
}

// A call whose context has ended does nothing.
func testUsersContext(t *testing.T, us relay.Users) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := us.Create(ctx, relay.User{Username: "alice", Email: "alice@example.com"}, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v", err)
	}
	if _, _, err := us.ByEmail(ctx, "alice@example.com"); !errors.Is(err, context.Canceled) {
		t.Errorf("ByEmail: %v", err)
	}
	if username, email, err := us.Taken(t.Context(), "alice", "alice@example.com"); err != nil || username || email {
		t.Errorf("afterwards: taken %v, %v, %v", username, email, err)
	}
}

// However many try at once, on several nodes, one gets it.
func testUsersMany(t *testing.T, nodes []relay.Users) {
	const tries = 100
	for _, c := range []struct {
		what string
		user func(i int) relay.User
		want error
	}{
		{"username", func(i int) relay.User {
			return relay.User{Username: "wanted", Email: fmt.Sprint(i, "@example.com")}
		}, relay.ErrUsernameTaken},
		{"email", func(i int) relay.User {
			return relay.User{Username: fmt.Sprint("user ", i), Email: []string{"wanted@example.com", "Wanted@Example.com"}[i%2]}
		}, relay.ErrEmailTaken},
		{"both", func(int) relay.User {
			return relay.User{Username: "both", Email: "both@example.com"}
		}, relay.ErrEmailTaken},
	} {
		var made, id atomic.Int64
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range tries {
			wg.Go(func() {
				<-begin
				u, err := nodes[i%len(nodes)].Create(t.Context(), c.user(i), "")
				switch {
				case err == nil:
					made.Add(1)
					id.Store(u.ID)
				case !errors.Is(err, c.want):
					t.Errorf("%s: error = %v, want %v", c.what, err, c.want)
				}
			})
		}
		close(begin)
		wg.Wait()
		if made.Load() != 1 {
			t.Errorf("%s: %d of %d accounts were made, want 1", c.what, made.Load(), tries)
		}
		for _, us := range nodes {
			if _, err := us.ByID(t.Context(), id.Load()); err != nil {
				t.Errorf("%s: the account: %v", c.what, err)
			}
		}
	}
}
