package sqlstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"parley/pkg/relay"
)

// All that changes something, at once, on two nodes, on few users and fewer groups: no
// call fails because of others, what is counted is what there is, and whoever waits for
// somebody is not waited for by him.
func TestEverythingAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		// Groups that are made again under the names of those that were just deleted are
		// the exception: MySQL has those who wait for such a name share a lock.
		t.Run("groups stay", func(t *testing.T) { storm(t, b, true) })
		t.Run("groups come and go", func(t *testing.T) { storm(t, b, false) })
	})
}

func storm(t *testing.T, b backend, stay bool) {
	const workers, each, groups = 8, 100, 3
	nodes := b.nodes(t, 2)
	if b.name == "sqlite" {
		nodes[1] = nodes[0] // a file that two write to has no queue
	}
	users := fillUsers(t, nodes[0], 7)
	creator, users := users[0], users[1:]
	if stay {
		for i := range groups {
			g := relay.Group{Name: fmt.Sprint("group ", i), Creator: creator, Members: users[i:]}
			if _, _, err := nodes[0].Groups().CreateGroup(t.Context(), g, "", nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadlocks := func() (n int) {
		if b.name == "sqlite" {
			return 0
		}
		var name string
		if err := nodes[0].read.QueryRow("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := deadlocks()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			s := nodes[w%2]
			user := func() int64 { return users[r.IntN(len(users))] }
			for i := range each {
				group, me, other := fmt.Sprint("group ", r.IntN(groups)), user(), user()
				var err error
				what := r.IntN(9)
				switch what {
				case 0:
					g := relay.Group{Name: group, Creator: me, Members: []int64{other, user()}}
					if stay {
						g.Name = fmt.Sprint("group ", w, ".", i)
					}
					_, _, err = s.Groups().CreateGroup(t.Context(), g, "first", nil, nil)
					if err == nil && stay {
						_, err = s.Groups().Leave(t.Context(), g.Name, me)
					}
				case 1, 2:
					_, _, err = s.Groups().AddMember(t.Context(), group, me, other, nil)
				case 3:
					_, err = s.Groups().Leave(t.Context(), group, me)
				case 4:
					_, _, err = s.Posts().WriteToGroup(t.Context(), me, group, "x", nil)
				case 5:
					if me != other {
						_, _, err = s.Posts().WriteTo(t.Context(), me, other, "x", nil)
					}
					if err == nil {
						_, _, err = s.Posts().Pull(t.Context(), other, me, "", 3, 1<<20)
					}
				case 6:
					err = s.Friends().Befriend(t.Context(), me, other)
				case 7:
					err = s.Friends().Unfriend(t.Context(), me, other)
				case 8:
					name := fmt.Sprint("renamed ", w, i)
					_, err = s.Directory().Rename(t.Context(), me, &name, &name)
					if err == nil {
						err = s.Outbox().Done(t.Context(), r.Int64N(100), r.Int64N(100))
					}
				}
				if err != nil && (!isAnswer(err) || errors.Is(err, relay.ErrNoUser)) {
					t.Errorf("%d: %v", what, err)
				}
			}
		})
	}
	wg.Wait()
	if n := deadlocks() - before; n > 0 && stay {
		t.Errorf("%d deadlocks", n)
	}
	expectTallies(t, nodes[0])
	// Numbers are dense, and every member has a group.
	for what, query := range map[string]string{
		"numbers left out": "SELECT c.id FROM conversations c WHERE newest <> (SELECT COUNT(*) FROM posts p WHERE p.conversation = c.id) OR " +
			"newest <> (SELECT COALESCE(MAX(seq), 0) FROM posts p WHERE p.conversation = c.id)",
		"posts of nothing":   "SELECT conversation FROM posts WHERE conversation NOT IN (SELECT id FROM conversations)",
		"members of nothing": "SELECT conversation FROM members WHERE conversation NOT IN (SELECT id FROM conversations)",
		"without creator": "SELECT id FROM conversations c WHERE name IS NOT NULL AND NOT EXISTS " +
			"(SELECT 1 FROM members m WHERE m.conversation = c.id AND m.user_id = c.creator)",
		"names of nobody": "SELECT user_id FROM name_parts p WHERE stage = 0 AND NOT EXISTS " +
			"(SELECT 1 FROM users u WHERE u.id = p.user_id AND u.username = p.part)",
	} {
		if found, err := ids(t.Context(), nodes[0].read, query); err != nil || len(found) > 0 {
			t.Errorf("%s: %v, %v", what, found, err)
		}
	}
}
