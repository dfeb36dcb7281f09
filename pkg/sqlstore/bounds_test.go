package sqlstore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"parley/pkg/relay"
)

// fillUsers makes so many accounts and returns their ids.
func fillUsers(t *testing.T, s *Store, n int) (all []int64) {
	t.Helper()
	var args []any
	for i := range n {
		name := fmt.Appendf(nil, "u%d", i)
		args = append(args, name, name, name, 0)
	}
	_, err := s.write.Exec("INSERT INTO users (username, email, email_key, created) VALUES "+list("(?, ?, ?, ?)", n), args...)
	if err != nil {
		t.Fatal(err)
	}
	if all, err = ids(t.Context(), s.read, "SELECT id FROM users ORDER BY id DESC LIMIT ?", n); err != nil || len(all) != n {
		t.Fatalf("%d accounts, %v", len(all), err)
	}
	return distinct(all...)
}

// race has as many try to do something as there are, on two nodes, and wants so many of
// them to succeed, and the others to be told that it would be too many.
func race(t *testing.T, what string, nodes []*Store, tries []int64, want int, try func(s *Store, user int64) error) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	done := 0
	for i, user := range tries {
		wg.Go(func() {
			err := try(nodes[i%len(nodes)], user)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done++
			case !errors.Is(err, relay.ErrTooMany) || errors.Is(err, relay.ErrUnavailable):
				t.Errorf("%s: error = %v, want %v", what, err, relay.ErrTooMany)
			}
		})
	}
	wg.Wait()
	if done != want {
		t.Errorf("%s: %d succeeded, want %d", what, done, want)
	}
}

// expectTallies wants what is counted of users to be what there is.
func expectTallies(t *testing.T, s *Store) {
	t.Helper()
	wrong, err := ids(t.Context(), s.read, "SELECT user_id FROM tallies WHERE "+
		"friends <> (SELECT COUNT(*) FROM friends f WHERE f.user_id = tallies.user_id) OR "+
		"memberships <> (SELECT COUNT(*) FROM members m WHERE m.user_id = tallies.user_id)")
	if err != nil || len(wrong) > 0 {
		t.Errorf("counted wrongly: %v, %v", wrong, err)
	}
}

func TestMaxFriends(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		nodes := b.nodes(t, 2)
		s := nodes[0]
		all := fillUsers(t, s, relay.MaxFriends+12)
		me, friends, others := all[0], all[1:relay.MaxFriends], all[relay.MaxFriends:]
		var args []any
		for _, f := range friends {
			args = append(args, me, f)
		}
		if _, err := s.write.Exec("INSERT INTO friends (user_id, friend_id) VALUES "+list("(?, ?)", len(friends)), args...); err != nil {
			t.Fatal(err)
		}
		if _, err := s.write.Exec("INSERT INTO tallies (user_id, friends, memberships) VALUES (?, ?, 0)", me, len(friends)); err != nil {
			t.Fatal(err)
		}
		befriend := func(s *Store, user int64) error { return s.Friends().Befriend(t.Context(), me, user) }
		race(t, "one below", nodes, others, 1, befriend)
		list, err := s.Friends().Friends(t.Context(), me)
		if err != nil || len(list) != relay.MaxFriends {
			t.Errorf("%d friends, %v", len(list), err)
		}
		if err := befriend(s, friends[7]); err != nil {
			t.Errorf("who is a friend already: %v", err)
		}
		if err := s.Friends().Befriend(t.Context(), others[0], me); err != nil {
			t.Errorf("the other way round: %v", err)
		}
		for _, f := range friends[:2] {
			if err := s.Friends().Unfriend(t.Context(), me, f); err != nil {
				t.Errorf("Unfriend: %v", err)
			}
		}
		race(t, "two below", nodes, friends[:2], 2, befriend)
		expectTallies(t, s)
	})
}

func TestMaxGroupMembers(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		nodes := b.nodes(t, 2)
		s := nodes[0]
		all := fillUsers(t, s, relay.MaxGroupMembers+10)
		create := func(name string, members []int64) error {
			_, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: name, Creator: all[0], Members: members}, "first", []byte("created"), []byte("posted"))
			return err
		}
		if err := create("full", all[1:relay.MaxGroupMembers]); err != nil {
			t.Errorf("as many as may be: %v", err)
		}
		if err := create("more", all[1:relay.MaxGroupMembers+1]); !errors.Is(err, relay.ErrTooMany) {
			t.Errorf("one more: %v", err)
		}
		if _, _, err := s.Groups().AddMember(t.Context(), "full", all[0], all[relay.MaxGroupMembers], nil); !errors.Is(err, relay.ErrTooMany) {
			t.Errorf("one more comes: %v", err)
		}
		_, notice, err := s.Posts().WriteToGroup(t.Context(), all[5], "full", "x", []byte("posted"))
		if err != nil || len(notice.To) != relay.MaxGroupMembers-1 {
			t.Errorf("a notice to %d, %v", len(notice.To), err)
		}
		if pending, err := s.Outbox().Pending(t.Context(), 0, 10); err != nil || len(pending) != 3 || len(pending[2].To) != relay.MaxGroupMembers-1 {
			t.Errorf("%d notices, %v", len(pending), err)
		}
		if err := create("nearly", all[1:relay.MaxGroupMembers-1]); err != nil {
			t.Errorf("one below: %v", err)
		}
		race(t, "one below", nodes, all[relay.MaxGroupMembers:], 1, func(s *Store, user int64) error {
			_, _, err := s.Groups().AddMember(t.Context(), "nearly", all[0], user, nil)
			return err
		})
		if g, err := s.Groups().Group(t.Context(), "nearly"); err != nil || len(g.Members) != relay.MaxGroupMembers {
			t.Errorf("%d members, %v", len(g.Members), err)
		}
		expectTallies(t, s)
		if deleted, err := s.Groups().Leave(t.Context(), "nearly", all[0]); err != nil || !deleted {
			t.Errorf("Leave: deleted %v, %v", deleted, err)
		}
		expectTallies(t, s)
	})
}

func TestMaxMemberships(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		nodes := b.nodes(t, 2)
		s := nodes[0]
		all := fillUsers(t, s, 12)
		busy := all[0]
		var groups, members []any
		const below = relay.MaxMemberships - 1
		for i := range below {
			groups = append(groups, 1000+i, fmt.Appendf(nil, "group %04d", i), all[1])
			members = append(members, 1000+i, busy)
		}
		for query, args := range map[string][]any{
			"INSERT INTO conversations (id, name, creator) VALUES " + list("(?, ?, ?)", below): groups,
			"INSERT INTO members (conversation, user_id) VALUES " + list("(?, ?)", below):      members,
			"INSERT INTO tallies (user_id, friends, memberships) VALUES (?, 0, ?)":             {busy, below},
		} {
			if _, err := s.write.Exec(query, args...); err != nil {
				t.Fatal(err)
			}
		}
		// Some make groups with him, others add him to one.
		for i, other := range all[1:] {
			if i%2 == 0 {
				continue
			}
			if _, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: fmt.Sprint("of ", other), Creator: other}, "", nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		come := func(s *Store, other int64) error {
			if _, err := s.Groups().Group(t.Context(), fmt.Sprint("of ", other)); err == nil {
				_, _, err := s.Groups().AddMember(t.Context(), fmt.Sprint("of ", other), other, busy, nil)
				return err
			}
			g := relay.Group{Name: fmt.Sprint("new of ", other), Creator: other, Members: []int64{busy}}
			_, _, err := s.Groups().CreateGroup(t.Context(), g, "", nil, nil)
			return err
		}
		race(t, "one below", nodes, all[1:], 1, come)
		names, err := s.Groups().GroupsOf(t.Context(), busy)
		if err != nil || len(names) != relay.MaxMemberships {
			t.Errorf("%d groups, %v", len(names), err)
		}
		if _, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: "his own", Creator: busy}, "", nil, nil); !errors.Is(err, relay.ErrTooMany) {
			t.Errorf("a group of his own: %v", err)
		}
		if _, err := s.Groups().Leave(t.Context(), "group 0007", busy); err != nil {
			t.Errorf("Leave: %v", err)
		}
		if _, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: "his own", Creator: busy}, "", nil, nil); err != nil {
			t.Errorf("a group of his own when there is room: %v", err)
		}
		expectTallies(t, s)
	})
}

// What is as long as may be is kept; one byte more is refused, not cut off.
func TestLimitsOfPeople(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		s := open(t, b.url(t))
		all := fillUsers(t, s, 2)
		text := func(n int) string { return strings.Repeat("x", n) }
		for what, call := range map[string]func(more int) error{
			"username": func(more int) error {
				name := text(maxNameBytes + more)
				_, err := s.Directory().Rename(t.Context(), all[0], &name, nil)
				return err
			},
			"email": func(more int) error {
				name := text(maxNameBytes + more)
				_, err := s.Directory().Rename(t.Context(), all[0], nil, &name)
				return err
			},
			"the longest parts": func(more int) error {
				name := strings.Repeat("\xff", maxNameBytes+more)
				_, err := s.Directory().Rename(t.Context(), all[1], &name, nil)
				return err
			},
			"issuer": func(more int) error {
				_, err := s.Identities().CreateWithIdentity(t.Context(), relay.User{Username: "i", Email: "i"}, text(maxIdentity+more), "x")
				return err
			},
			"subject": func(more int) error {
				_, err := s.Identities().CreateWithIdentity(t.Context(), relay.User{Username: "s", Email: "s"}, "x", text(maxIdentity+more))
				return err
			},
			"group": func(more int) error {
				_, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: text(maxGroupName + more), Creator: all[0]}, "", nil, nil)
				return err
			},
			"first post": func(more int) error {
				_, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: "first", Creator: all[0]}, text(MaxBody+more), nil, nil)
				return err
			},
			"notice of a group": func(more int) error {
				_, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: "notice", Creator: all[0], Members: all}, "", make([]byte, maxNotice+more), nil)
				return err
			},
			"notice of a first post": func(more int) error {
				_, _, err := s.Groups().CreateGroup(t.Context(), relay.Group{Name: "posted", Creator: all[0], Members: all}, "x", nil, make([]byte, maxNotice+more))
				return err
			},
			"post": func(more int) error {
				post, _, err := s.Posts().WriteTo(t.Context(), all[0], all[1], text(MaxBody+more), nil)
				if err == nil {
					page, _, err := s.Posts().Page(t.Context(), all[0], all[1], 0, 1)
					if err != nil || len(page) != 1 || page[0].Text != post.Text {
						return fmt.Errorf("it came back otherwise: %w", err)
					}
				}
				return err
			},
			"notice": func(more int) error {
				body := bytes.Repeat([]byte("y"), maxNotice+more)
				_, _, err := s.Posts().WriteTo(t.Context(), all[1], all[0], "x", body)
				if err == nil {
					all, err := s.Outbox().Pending(t.Context(), 0, maxPending)
					for _, n := range all {
						if bytes.Equal(n.Body, body) {
							return nil
						}
					}
					return fmt.Errorf("it is not there: %w", err)
				}
				return err
			},
		} {
			if err := call(1); err == nil || errors.Is(err, relay.ErrUnavailable) || isAnswer(err) {
				t.Errorf("a longer %s: %v", what, err)
			}
			if err := call(0); err != nil {
				t.Errorf("the longest %s: %v", what, err)
			}
		}
	})
}

func TestCallsAreBounded(t *testing.T) {
	s := open(t, "sqlite:"+t.TempDir()+"/parley.db")
	all := fillUsers(t, s, maxFound+1)
	s.mustSweep(t, settled)
	if found, next, err := s.Directory().Find(t.Context(), "U", nil, maxFound+1); err != nil || len(found) != maxFound || next == nil {
		t.Errorf("%d accounts, more %v, %v", len(found), next != nil, err)
	}
	if _, _, err := s.Posts().WriteTo(t.Context(), all[1], all[0], "0", nil); err != nil {
		t.Fatal(err)
	}
	for {
		var n int
		if err := s.read.QueryRow("SELECT COUNT(*) FROM posts").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > maxPage {
			if _, err := s.write.Exec("UPDATE conversations SET newest = ?", n); err != nil {
				t.Fatal(err)
			}
			break
		}
		_, err := s.write.Exec("INSERT INTO posts SELECT conversation, seq + (SELECT MAX(seq) FROM posts), sender, sent, size, body FROM posts LIMIT ?", n)
		if err != nil {
			t.Fatal(err)
		}
	}
	if posts, more, err := s.Posts().Page(t.Context(), all[0], all[1], 0, maxPage+1); err != nil || len(posts) != maxPage || !more {
		t.Errorf("a page of %d, more %v, %v", len(posts), more, err)
	}
	if posts, more, err := s.Posts().Pull(t.Context(), all[0], all[1], "", maxPage+1, 1<<30); err != nil || len(posts) != maxPage || !more {
		t.Errorf("pulled %d, more %v, %v", len(posts), more, err)
	}
}
