package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// createAsBefore makes accounts as a node does that knows nothing of parts of names.
func createAsBefore(t *testing.T, s *Store, created time.Time, names ...string) (ids []int64) {
	t.Helper()
	for _, name := range names {
		result, err := s.write.Exec("INSERT INTO users (username, email, email_key, created) VALUES (?, ?, ?, ?)",
			[]byte(name), []byte(name), []byte(name), created.UnixNano())
		if err != nil {
			t.Fatal(err)
		}
		id, err := result.LastInsertId()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func find(t *testing.T, s *Store, text string) (names []string) {
	t.Helper()
	found, _, err := s.Directory().Find(t.Context(), text, nil, maxFound)
	if err != nil {
		t.Fatalf("Find %q: %v", text, err)
	}
	for _, u := range found {
		names = append(names, u.Username)
	}
	return names
}

func (s *Store) mustSweep(t *testing.T, age time.Duration) {
	t.Helper()
	if err := s.sweepOnce(t.Context(), age); err != nil {
		t.Errorf("sweepOnce: %v", err)
	}
}

func namesPlace(t *testing.T, s *Store) (place int64) {
	t.Helper()
	err := s.read.QueryRow("SELECT COALESCE(MAX(place), 0) FROM progress").Scan(&place)
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// Accounts that were made before the migration are found once the database has been
// opened by a node that knows parts of names.
func TestNamesOfFormerAccounts(t *testing.T) {
	relaytest.NoLeaks(t)
	onBoth(t, func(t *testing.T, b backend) {
		url := b.url(t)
		s := open(t, url)
		var want []string
		for i := range nameRows + 10 { // more than are looked at at once
			want = append(want, fmt.Sprintf("former %03d", i))
		}
		ids := createAsBefore(t, s, time.Now().Add(-time.Hour), want...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		nodes := []*Store{open(t, url), open(t, url)} // both do it
		relaytest.Eventually(t, "all are found", func() bool { return slices.Equal(find(t, nodes[0], "former"), want) })
		if got := find(t, nodes[1], "mer 007"); !slices.Equal(got, want[7:8]) {
			t.Errorf("inner parts: %q", got)
		}
		relaytest.Eventually(t, "they are passed for good", func() bool { return namesPlace(t, nodes[0]) == ids[len(ids)-1] })
	})
}

// A node of the former version makes accounts during a roll-out, some of which are to be
// seen only after others with higher ids.
func TestNamesOfARollOut(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		s := open(t, b.url(t))
		old, young := time.Now().Add(-2*settled), time.Now()
		first := createAsBefore(t, s, old, "Old One", "Old Two", "Old Three")
		late := createAsBefore(t, s, young, "young one", "very late", "young two")[1]
		if _, err := s.write.Exec("DELETE FROM users WHERE id = ?", late); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Users().Create(t.Context(), relay.User{Username: "young three", Email: "young three"}, ""); err != nil {
			t.Fatal(err)
		}
		createAsBefore(t, s, old, "Old Four") // by a clock that is slow
		s.mustSweep(t, settled)
		if got := find(t, s, "o"); len(got) != 7 {
			t.Errorf("found %q", got)
		}
		if place := namesPlace(t, s); place != first[2] {
			t.Errorf("the work has gone on to %d, want %d", place, first[2])
		}
		_, err := s.write.Exec("INSERT INTO users (id, username, email, email_key, created) VALUES (?, ?, ?, ?, ?)",
			late, []byte("very late"), []byte("very late"), []byte("very late"), young.UnixNano())
		if err != nil {
			t.Fatal(err)
		}
		s.mustSweep(t, settled)
		if got := find(t, s, "late"); !slices.Equal(got, []string{"very late"}) {
			t.Errorf("found %q", got)
		}
		// When all are settled all are passed, and nothing is done twice.
		s.mustSweep(t, -time.Hour)
		var last int64
		if err := s.read.QueryRow("SELECT MAX(id) FROM users").Scan(&last); err != nil {
			t.Fatal(err)
		}
		if place := namesPlace(t, s); place != last {
			t.Errorf("the work has gone on to %d, want %d", place, last)
		}
		s.mustSweep(t, settled)
		if place := namesPlace(t, s); place != last {
			t.Errorf("the work has gone back to %d from %d", place, last)
		}
	})
}

// Somebody who is renamed while his former name is looked at is found by the new one.
func TestNamesOfARenamed(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		s := open(t, b.url(t))
		id := createAsBefore(t, s, time.Now(), "Former")[0]
		name := "Latter"
		if _, err := s.Directory().Rename(t.Context(), id, &name, nil); err != nil {
			t.Fatal(err)
		}
		// It was without parts when it was looked at.
		if err := s.nameSome(t.Context(), []int64{id}); err != nil {
			t.Fatal(err)
		}
		if former, latter := find(t, s, "form"), find(t, s, "latter"); len(former) != 0 || !slices.Equal(latter, []string{name}) {
			t.Errorf("found %q and %q", former, latter)
		}
		var parts int
		if err := s.read.QueryRow("SELECT COUNT(*) FROM name_parts").Scan(&parts); err != nil || parts != len(name) {
			t.Errorf("%d parts are kept, want %d (%v)", parts, len(name), err)
		}
	})
}

// The posts of a deleted group go, in one step or in several, and no others.
func TestPostsOfADeletedGroup(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		for name, count := range map[string]int{"none": 0, "few": buryRows, "one more": buryRows + 1, "many": 3*buryRows + 1} {
			s := open(t, b.url(t))
			alice, err := s.Users().Create(t.Context(), relay.User{Username: "alice", Email: "alice"}, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, group := range []string{"before", "group", "behind"} {
				if _, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: group, Creator: alice.ID}, "", nil, nil); err != nil {
					t.Fatal(err)
				}
				fillPosts(t, s, group, alice.ID, count)
			}
			if deleted, err := s.Groups().Leave(t.Context(), "group", alice.ID); err != nil || !deleted {
				t.Fatalf("Leave: deleted %v, %v", deleted, err)
			}
			var left, graves int
			s.mustSweep(t, settled)
			err = s.read.QueryRow("SELECT (SELECT COUNT(*) FROM posts), (SELECT COUNT(*) FROM graves)").Scan(&left, &graves)
			if err != nil || left != 2*count || graves != 0 {
				t.Errorf("%s: %d posts and %d graves are left, want %d and none (%v)", name, left, graves, 2*count, err)
			}
			for _, group := range []string{"before", "behind"} {
				if posts, _, err := s.Posts().GroupPage(t.Context(), alice.ID, group, 0, maxPage); err != nil || len(posts) != count {
					t.Errorf("%s: %q has %d posts, want %d (%v)", name, group, len(posts), count, err)
				}
			}
		}
	})
}

// fillPosts gives a group that has none so many posts.
func fillPosts(t *testing.T, s *Store, group string, sender int64, n int) {
	t.Helper()
	if n == 0 {
		return
	}
	var id int64
	if err := s.read.QueryRow("SELECT id FROM conversations WHERE name = ?", []byte(group)).Scan(&id); err != nil {
		t.Fatal(err)
	}
	var args []any
	for seq := 1; seq <= n; seq++ {
		args = append(args, id, seq, sender, 0, 1, []byte("x"))
	}
	if _, err := s.write.Exec("INSERT INTO posts (conversation, seq, sender, sent, size, body) VALUES "+list("(?, ?, ?, ?, ?, ?)", n), args...); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.Exec("UPDATE conversations SET newest = ? WHERE id = ?", n, id); err != nil {
		t.Fatal(err)
	}
}

// The work ends when it is told to, also between two bits.
func TestSweepEnds(t *testing.T) {
	s := open(t, "sqlite:"+t.TempDir()+"/parley.db")
	ctx, cancel := context.WithCancel(t.Context())
	bits := 0
	err := s.repeat(ctx, func(context.Context) (bool, error) {
		if bits++; bits == 3 {
			cancel()
		}
		return true, nil
	})
	if !errors.Is(err, context.Canceled) || bits != 3 {
		t.Errorf("%d bits, %v", bits, err)
	}
	if err := s.sweepOnce(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("sweepOnce: %v", err)
	}
}

// Every text that a name has in it is found at one of its parts, once, at a stage that
// the search looks at.
func TestPartsOf(t *testing.T) {
	for _, name := range []string{"", "a", "banana", "aaaa", "Stra\u00dfe", "\u00c4\u00e4\u00c4", "abcabcab", "\U0001f600\U0001f601\U0001f600", "x\xffy"} {
		folded := fold(name)
		parts := partsOf(name)
		if parts[0] != (namePart{0, folded}) {
			t.Errorf("%q: the first part is %+v", name, parts[0])
		}
		for from := range folded {
			for to := range folded + "." {
				if to <= from {
					continue
				}
				text := folded[from:to]
				found, first := 0, false
				for _, p := range parts {
					if p.stage <= len(text) && strings.HasPrefix(p.part, text) {
						found++
						first = first || p.stage == 0
					}
				}
				if found != 1 || first != strings.HasPrefix(folded, text) {
					t.Errorf("%q: %q is found %d times, at the beginning: %v", name, text, found, first)
				}
			}
		}
	}
	if longest := partsOf(strings.Repeat("\xff", maxNameBytes)); len(longest[0].part) != maxPart {
		t.Errorf("the longest part has %d bytes, want %d", len(longest[0].part), maxPart)
	}
}
