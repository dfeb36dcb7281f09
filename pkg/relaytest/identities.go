package relaytest

import (
	"fmt"
	"testing"

	"parley/pkg/relay"
)

// Identities holds an implementation to the contract of relay.Identities.
func Identities(t *testing.T, open OpenPeople) {
	t.Run("an account is made and found", open.one(testIdentitiesFound))
	t.Run("what is taken", open.one(testIdentitiesTaken))
	t.Run("many come for the first time", func(t *testing.T) { testIdentitiesMany(t, open(t, 3)) })
}

func testIdentitiesFound(t *testing.T, p People) {
	subjects := [][2]string{
		{"https://one.example", "7"}, {"https://two.example", "7"}, {"https://one.example", "8"}, {"https://one.example/", "7"},
		{"https://one.example", "7 "}, {"https://one.example", "a"}, {"https://one.example", "A"}, {"", ""},
	}
	var made []relay.User
	for i, s := range subjects {
		_, err := p.Identities.ByIdentity(t.Context(), s[0], s[1])
		expect(t, "before", err, relay.ErrNoUser)
		want := relay.User{ID: 4711, Username: fmt.Sprint("user ", i), Email: fmt.Sprint(i, "@Example.com")}
		u, err := p.Identities.CreateWithIdentity(t.Context(), want, s[0], s[1])
		if want.ID = u.ID; err != nil || u != want || u.ID < 1 {
			t.Fatalf("CreateWithIdentity: %+v, %v; want %+v", u, err, want)
		}
		made = append(made, u)
	}
	for i, s := range subjects {
		if u, err := p.Identities.ByIdentity(t.Context(), s[0], s[1]); err != nil || u != made[i] {
			t.Errorf("ByIdentity: %+v, %v; want %+v", u, err, made[i])
		}
		if u, password, err := p.Users.ByEmail(t.Context(), made[i].Email); err != nil || u != made[i] || password != "" {
			t.Errorf("ByEmail: %+v, %q, %v; want %+v and no password", u, password, err, made[i])
		}
	}
	name := "renamed"
	u, err := p.Directory.Rename(t.Context(), made[0].ID, &name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Identities.ByIdentity(t.Context(), subjects[0][0], subjects[0][1]); err != nil || got != u {
		t.Errorf("under another name: %+v, %v; want %+v", got, err, u)
	}
}

func testIdentitiesTaken(t *testing.T, p People) {
	p.user(t, "alice")
	bob := relay.User{Username: "bob", Email: "bob@example.com"}
	if _, err := p.Identities.CreateWithIdentity(t.Context(), bob, "issuer", "bob"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		username, email, subject string
		want                     error
	}{
		{"bob", "bob@example.com", "bob", relay.ErrIdentityTaken},
		{"alice", "alice@example.com", "bob", relay.ErrIdentityTaken},
		{"new", "new@example.com", "bob", relay.ErrIdentityTaken},
		{"alice", "new@example.com", "new", relay.ErrUsernameTaken},
		{"new", "ALICE@example.com", "new", relay.ErrEmailTaken},
		{"alice", "bob@example.com", "new", relay.ErrEmailTaken},
	} {
		u, err := p.Identities.CreateWithIdentity(t.Context(), relay.User{Username: c.username, Email: c.email}, "issuer", c.subject)
		expect(t, fmt.Sprintf("%+v", c), err, c.want)
		if u != (relay.User{}) {
			t.Errorf("CreateWithIdentity failed and returned %+v", u)
		}
	}
	// Nothing is left of what failed.
	_, err := p.Identities.ByIdentity(t.Context(), "issuer", "new")
	expect(t, "the identity", err, relay.ErrNoUser)
	if username, email, err := p.Users.Taken(t.Context(), "new", "new@example.com"); err != nil || username || email {
		t.Errorf("taken: %v, %v, %v", username, email, err)
	}
	p.expectFound(t, "new")
}

func testIdentitiesMany(t *testing.T, nodes []People) {
	const tries = 30
	for _, c := range []struct {
		what string
		user func(i int) relay.User
	}{
		{"the same names", func(int) relay.User { return relay.User{Username: "same", Email: "same@example.com"} }},
		{"names of their own", func(i int) relay.User { return relay.User{Username: fmt.Sprint("own ", i), Email: fmt.Sprint(i)} }},
	} {
		made, errs := make([]relay.User, tries), make([]error, tries)
		atOnce(tries, func(i int) {
			made[i], errs[i] = nodes[i%len(nodes)].Identities.CreateWithIdentity(t.Context(), c.user(i), "issuer", c.what)
		})
		got := 0
		for i, err := range errs {
			if err != nil {
				expect(t, c.what, err, relay.ErrIdentityTaken)
				continue
			}
			got++
			if u, err := nodes[0].Identities.ByIdentity(t.Context(), "issuer", c.what); err != nil || u != made[i] {
				t.Errorf("%s: %+v, %v; want %+v", c.what, u, err, made[i])
			}
		}
		if got != 1 {
			t.Errorf("%s: %d accounts were made, want 1", c.what, got)
		}
	}
	nodes[0].expectFound(t, "same", "same")
}
