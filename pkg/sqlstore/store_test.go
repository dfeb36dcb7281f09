package sqlstore

import (
	"path/filepath"
	"testing"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// backend is a kind of database: url makes an empty one.
type backend struct {
	name string
	url  func(testing.TB) string
}

// backends are both kinds; they end with the test.
func backends(t *testing.T) []backend {
	t.Helper()
	mariadb := relaytest.StartMariaDB(t)
	return []backend{
		{"sqlite", func(tb testing.TB) string { return "sqlite:" + filepath.Join(tb.TempDir(), "new", "parley.db") }},
		{"mariadb", func(tb testing.TB) string { return mariadb.NewURL(tb) }},
	}
}

// onBoth runs a test on each kind of database.
func onBoth(t *testing.T, test func(*testing.T, backend)) {
	t.Helper()
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) { test(t, b) })
	}
}

// open opens a database until the test ends.
func open(tb testing.TB, url string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), Options{URL: url})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return s
}

func (b backend) nodes(tb testing.TB, n int) (stores []*Store) {
	url := b.url(tb)
	for range n {
		stores = append(stores, open(tb, url))
	}
	return stores
}

func TestUsers(t *testing.T) {
	relaytest.NoLeaks(t)
	onBoth(t, func(t *testing.T, b backend) {
		relaytest.Users(t, func(tb testing.TB, n int) (all []relay.Users) {
			for _, s := range b.nodes(tb, n) {
				all = append(all, s.Users())
			}
			return all
		})
	})
}

func TestArchive(t *testing.T) {
	relaytest.NoLeaks(t)
	onBoth(t, func(t *testing.T, b backend) {
		relaytest.Archive(t, func(tb testing.TB, n int) (all []relay.Archive) {
			for _, s := range b.nodes(tb, n) {
				all = append(all, s.Archive())
			}
			return all
		})
	})
}

// people are the accounts, and what they do with each other, of several nodes.
func (b backend) people(tb testing.TB, n int) (all []relaytest.People) {
	for _, s := range b.nodes(tb, n) {
		all = append(all, peopleOf(s))
	}
	return all
}

func peopleOf(s *Store) relaytest.People {
	return relaytest.People{
		Users: s.Users(), Directory: s.Directory(), Friends: s.Friends(), Identities: s.Identities(),
		Groups: s.Groups(), Posts: s.Posts(), Outbox: s.Outbox(),
	}
}

// TestPeople holds all that accounts do with each other to the contracts.
func TestPeople(t *testing.T) {
	relaytest.NoLeaks(t)
	onBoth(t, func(t *testing.T, b backend) {
		t.Run("Directory", func(t *testing.T) { relaytest.Directory(t, b.people) })
		t.Run("Friends", func(t *testing.T) { relaytest.Friends(t, b.people) })
		t.Run("Identities", func(t *testing.T) { relaytest.Identities(t, b.people) })
		t.Run("Groups", func(t *testing.T) { relaytest.Groups(t, b.people) })
		t.Run("Posts", func(t *testing.T) { relaytest.Posts(t, b.people) })
		t.Run("Outbox", func(t *testing.T) { relaytest.Outbox(t, b.people) })
	})
}
