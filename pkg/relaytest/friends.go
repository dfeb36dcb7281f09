package relaytest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"parley/pkg/relay"
)

// Friends holds an implementation to the contract of relay.Friends. The bounds are left
// to it, since it takes long to come there.
func Friends(t *testing.T, open OpenPeople) {
	t.Run("a list of one's own", open.one(testFriendsList))
	t.Run("nobody", open.one(testFriendsNobody))
	t.Run("many at once", func(t *testing.T) { testFriendsMany(t, open(t, 3)) })
}

func (p People) expectFriends(t *testing.T, user int64, want ...string) {
	t.Helper()
	friends, err := p.Friends.Friends(t.Context(), user)
	if err != nil {
		t.Errorf("Friends: %v", err)
	}
	var got []string
	for _, f := range friends {
		if u, err := p.Directory.ByID(t.Context(), f.ID); err != nil || u.Username != f.Username || f.Email != "" {
			t.Errorf("a friend is %+v, and should be %+v without email (%v)", f, u, err)
		}
		got = append(got, f.Username)
	}
	if !slices.Equal(got, want) {
		t.Errorf("friends are %q, want %q", got, want)
	}
}

func testFriendsList(t *testing.T, p People) {
	names := []string{"alice", "bob", "Zoe", "adam", "\u00e4nne", "a"}
	id := p.users(t, names...)
	alice := id[0]
	p.expectFriends(t, alice)
	for range 2 { // the second time nothing happens
		for _, friend := range id[1:] {
			if err := p.Friends.Befriend(t.Context(), alice, friend); err != nil {
				t.Errorf("Befriend: %v", err)
			}
		}
		p.expectFriends(t, alice, "Zoe", "a", "adam", "bob", "\u00e4nne")
	}
	p.expectFriends(t, id[1])
	for range 2 {
		if err := p.Friends.Unfriend(t.Context(), alice, id[3]); err != nil {
			t.Errorf("Unfriend: %v", err)
		}
		p.expectFriends(t, alice, "Zoe", "a", "bob", "\u00e4nne")
	}
	name := "Bob"
	if _, err := p.Directory.Rename(t.Context(), id[1], &name, nil); err != nil {
		t.Error(err)
	}
	p.expectFriends(t, alice, "Bob", "Zoe", "a", "\u00e4nne")
	if err := p.Friends.Befriend(t.Context(), alice, id[3]); err != nil {
		t.Errorf("Befriend again: %v", err)
	}
	p.expectFriends(t, alice, "Bob", "Zoe", "a", "adam", "\u00e4nne")
}

func testFriendsNobody(t *testing.T, p People) {
	alice := p.user(t, "alice").ID
	for _, id := range nobody {
		expect(t, "Befriend nobody", p.Friends.Befriend(t.Context(), alice, id), relay.ErrNoUser)
		expect(t, "nobody befriends", p.Friends.Befriend(t.Context(), id, alice), relay.ErrNoUser)
		if err := p.Friends.Unfriend(t.Context(), alice, id); err != nil {
			t.Errorf("Unfriend nobody: %v", err)
		}
		p.expectFriends(t, id)
	}
	p.expectFriends(t, alice)
	bob := p.user(t, "bob").ID
	if err := p.Friends.Befriend(ended(t), alice, bob); !errors.Is(err, context.Canceled) {
		t.Errorf("Befriend without patience: %v", err)
	}
	p.expectFriends(t, alice)
}

// The same friends come and go on several nodes.
func testFriendsMany(t *testing.T, nodes []People) {
	const each = 10
	id := nodes[0].users(t, "alice", "bob", "carol")
	atOnce(2*len(nodes), func(w int) {
		p := nodes[w%len(nodes)]
		for i := range each {
			pause()
			user, friend := id[i%3], id[(i+1)%3]
			if err := p.Friends.Befriend(t.Context(), user, friend); err != nil {
				t.Errorf("Befriend: %v", err)
			}
			if err := p.Friends.Unfriend(t.Context(), user, friend); err != nil {
				t.Errorf("Unfriend: %v", err)
			}
		}
		for i := range 3 {
			if err := p.Friends.Befriend(t.Context(), id[i], id[(i+1)%3]); err != nil {
				t.Errorf("Befriend: %v", err)
			}
		}
	})
	// Somebody's Unfriend may have come last.
	for i := range 3 {
		if err := nodes[0].Friends.Befriend(t.Context(), id[i], id[(i+1)%3]); err != nil {
			t.Errorf("Befriend: %v", err)
		}
	}
	for _, p := range nodes {
		p.expectFriends(t, id[0], "bob")
		p.expectFriends(t, id[1], "carol")
		p.expectFriends(t, id[2], "alice")
	}
}
