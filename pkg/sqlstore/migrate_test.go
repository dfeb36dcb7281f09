package sqlstore

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// use makes one of each kind and finds it: an account, with a friend, an identity, a
// group and a post, and a message.
func use(t *testing.T, s *Store, name string) {
	t.Helper()
	u, err := s.Users().Create(t.Context(), relay.User{Username: name, Email: name + "@example.com"}, "")
	if err != nil {
		t.Errorf("%s: Create: %v", name, err)
	}
	if _, err := s.Users().ByID(t.Context(), u.ID); err != nil {
		t.Errorf("%s: ByID: %v", name, err)
	}
	m := relay.Message{ID: relay.ID{Millis: 1}, Topic: relay.Topic("chat/" + name)}
	if err := s.Archive().Store(t.Context(), []relay.Message{m}); err != nil {
		t.Errorf("%s: Store: %v", name, err)
	}
	if has, err := s.Archive().Has(t.Context(), m.Topic, m.ID); err != nil || !has {
		t.Errorf("%s: Has: %v, %v", name, has, err)
	}
	friend := relay.User{Username: name + "'s friend", Email: name + "'s friend"}
	if friend, err = s.Identities().CreateWithIdentity(t.Context(), friend, "issuer", name); err != nil {
		t.Errorf("%s: CreateWithIdentity: %v", name, err)
	}
	if got, err := s.Identities().ByIdentity(t.Context(), "issuer", name); err != nil || got != friend {
		t.Errorf("%s: ByIdentity: %+v, %v", name, got, err)
	}
	if err := s.Friends().Befriend(t.Context(), u.ID, friend.ID); err != nil {
		t.Errorf("%s: Befriend: %v", name, err)
	}
	g := relay.Group{Name: name, Creator: u.ID, Members: []int64{friend.ID}}
	if _, notices, err := s.Groups().CreateGroup(t.Context(), g, "first", []byte(name), []byte(name)); err != nil || len(notices) != 2 {
		t.Errorf("%s: CreateGroup: %+v, %v", name, notices, err)
	}
	if _, _, err := s.Posts().WriteTo(t.Context(), u.ID, friend.ID, "hello", []byte(name)); err != nil {
		t.Errorf("%s: WriteTo: %v", name, err)
	}
	if posts, _, err := s.Posts().Page(t.Context(), friend.ID, u.ID, 0, 1); err != nil || len(posts) != 1 || posts[0].Text != "hello" {
		t.Errorf("%s: Page: %+v, %v", name, posts, err)
	}
}

// Nodes that start at once on an empty database all come up, and the tables are made
// once.
func TestManyStartAtOnce(t *testing.T) {
	relaytest.NoLeaks(t)
	onBoth(t, func(t *testing.T, b backend) {
		url := b.url(t)
		stores := make([]*Store, 8)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range stores {
			wg.Go(func() {
				<-begin
				var err error
				if stores[i], err = Open(t.Context(), Options{URL: url}); err != nil {
					t.Errorf("Open: %v", err)
				}
			})
		}
		close(begin)
		wg.Wait()
		for i, s := range stores {
			if s == nil {
				continue
			}
			defer s.Close()
			use(t, s, strings.Repeat("x", i+1))
			var made int
			if err := s.read.QueryRow("SELECT COUNT(*) FROM " + versionTable + " WHERE version_id = 1").Scan(&made); err != nil || made != 1 {
				t.Errorf("the first migration was made %d times (%v)", made, err)
			}
		}
	})
}

// A database that a newer node has migrated serves this one.
func TestNewerDatabase(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		url := b.url(t)
		newer := open(t, url)
		for _, statement := range []string{
			"ALTER TABLE users ADD COLUMN picture BLOB NULL",
			"ALTER TABLE archive ADD COLUMN edited BIGINT NULL",
			"CREATE TABLE rooms (id BIGINT PRIMARY KEY)",
			"INSERT INTO " + versionTable + " (version_id, is_applied) VALUES (1001, 1), (1002, 1)",
		} {
			if b.name == "sqlite" {
				statement = strings.ReplaceAll(statement, "BIGINT", "INTEGER")
			}
			if _, err := newer.write.Exec(statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		use(t, open(t, url), "old")
		use(t, newer, "new")
	})
}

// A node that died after it had made the tables, and before it had noted that, is
// succeeded by one that makes them again, and harms nothing.
func TestMigrationIsRepeated(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		url := b.url(t)
		s := open(t, url)
		use(t, s, "kept")
		if _, err := s.write.Exec("DELETE FROM " + versionTable + " WHERE version_id > 0"); err != nil {
			t.Fatal(err)
		}
		again := open(t, url)
		if _, _, err := again.Users().ByEmail(t.Context(), "kept@example.com"); err != nil {
			t.Errorf("what was there: %v", err)
		}
		use(t, again, "more")
	})
}

// Migrations come in pairs, and keep what the package promises of them.
func TestMigrationsOnlyAdd(t *testing.T) {
	// What else is needed has to be said in a way that MySQL may repeat; it has no
	// IF NOT EXISTS for columns and indexes.
	allowed := map[string]*regexp.Regexp{
		"migrations/mysql":  regexp.MustCompile(`^CREATE TABLE IF NOT EXISTS `),
		"migrations/sqlite": regexp.MustCompile(`^CREATE (TABLE|INDEX) IF NOT EXISTS `),
	}
	comment := regexp.MustCompile(`(?m)--.*$`)
	var names [2][]string
	for i, dir := range []string{"migrations/mysql", "migrations/sqlite"} {
		files, err := fs.ReadDir(migrations, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			names[i] = append(names[i], f.Name())
			text, err := fs.ReadFile(migrations, path.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			statements := 0
			for statement := range strings.SplitSeq(comment.ReplaceAllString(string(text), ""), ";") {
				if statement = strings.TrimSpace(statement); statement == "" {
					continue
				}
				statements++
				if !allowed[dir].MatchString(statement) {
					t.Errorf("%s/%s may not be repeated, or takes something away:\n%s", dir, f.Name(), statement)
				}
			}
			if statements == 0 {
				t.Errorf("%s/%s does nothing", dir, f.Name())
			}
		}
	}
	if len(names[0]) == 0 || !slices.Equal(names[0], names[1]) {
		t.Errorf("MySQL has %v, SQLite %v", names[0], names[1])
	}
}
