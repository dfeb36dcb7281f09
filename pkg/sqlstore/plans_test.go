package sqlstore

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/pkg/relay"
)

// patient is the database on connections that wait for as long as it takes.
func patient(t *testing.T, b backend, url string, s *Store) *sql.DB {
	t.Helper()
	if b.name == "sqlite" {
		return s.write
	}
	a, err := parseAddress(url)
	if err != nil {
		t.Fatal(err)
	}
	db, err := mysqlPool(a, s.log, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// numbers are the rows from 1 to n, as seq.
func (b backend) numbers(n int) string {
	if b.name == "sqlite" {
		return fmt.Sprintf("(WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < %d) SELECT seq FROM n)", n)
	}
	return fmt.Sprintf("(SELECT seq FROM seq_1_to_%d) n", n)
}

func mustExec(t *testing.T, db asker, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// expectRange wants a query to read one range of an index, in its order.
func expectRange(t *testing.T, b backend, conn *sql.Conn, what, index, query string, args []any) {
	t.Helper()
	if b.name == "sqlite" {
		plan := sqlitePlan(t, conn, query, args)
		if index == "PRIMARY" {
			index = "PRIMARY KEY"
		}
		if !strings.Contains(plan, index) || strings.Contains(plan, "TEMP B-TREE") || strings.Contains(plan, "SCAN") {
			t.Errorf("%s: the plan is %s", what, plan)
		}
		return
	}
	// Versions differ in what they call the way to the end of a range.
	kind, key, extra := mariadbPlan(t, conn, query, args)
	if kind != "range" && kind != "ref" || !strings.EqualFold(key, index) || strings.Contains(extra, "filesort") {
		t.Errorf("%s: the plan is %s by %s: %s", what, kind, key, extra)
	}
}

// countReads is how many rows MariaDB reads to do something, at most.
func countReads(t *testing.T, b backend, conn *sql.Conn, do func()) int {
	t.Helper()
	if b.name == "sqlite" {
		do()
		return 0
	}
	before := handlerReads(t, conn)
	do()
	return handlerReads(t, conn) - before
}

// many is how many accounts there are; SQLite takes longer, with the race detector, and
// its plans depend on no statistics.
func (b backend) many() int {
	if b.name == "sqlite" {
		return 10_000
	}
	return 200_000
}

// fillNames makes many accounts: those with the numbers 4321, 14321 and so on are called
// by a rare name.
func fillNames(t *testing.T, b backend, url string, s *Store) {
	t.Helper()
	db := patient(t, b, url, s)
	name := "CONCAT('Ann', seq, IF(seq % 10000 = 4321, 'zw', ''))"
	if b.name == "sqlite" {
		name = "CAST('Ann' || seq || IIF(seq % 10000 = 4321, 'zw', '') AS BLOB)"
	}
	mustExec(t, db, "INSERT INTO users (username, email, email_key, created) SELECT "+name+", "+name+", "+name+", 0 FROM "+b.numbers(b.many()))
	began := time.Now()
	if err := s.sweepOnce(t.Context(), settled); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d names took %v", b.many(), time.Since(began))
}

// A search reads few rows, however many accounts there are, and have the text.
func TestSearchAmongMany(t *testing.T) {
	const n = 20
	onBoth(t, func(t *testing.T, b backend) {
		url := b.url(t)
		s := open(t, url)
		fillNames(t, b, url, s)
		conn, err := s.read.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, c := range []struct {
			text string
			want int // on the first page; more than n: there are others
		}{
			{"ann", n + 1}, {"a", n + 1}, {"n", n + 1}, {"nn", n + 1}, {"n1", n + 1}, {"1", n + 1}, {"11", n + 1}, {"z", min(n+1, b.many()/10_000)},
			{"ann4321zw", 1}, {"321zw", min(n+1, b.many()/10_000)}, {"zwz", 0}, {"b", 0}, {"ann0", 0},
		} {
			var found []place
			from := place{stage: -1}
			for page := range 3 { // the first, one that goes on, and one far behind
				if page == 1 && len(found) == n+1 {
					from = found[n-1]
				} else if page == 2 {
					from = place{stage: 1, part: c.text + "~", user: 1}
				}
				for i, sc := range scans(c.text, from, len(c.text)) {
					expectRange(t, b, conn, fmt.Sprintf("%q, page %d, scan %d", c.text, page, i), "PRIMARY", sc.query, append(sc.args, n+1))
				}
				read := countReads(t, b, conn, func() {
					if found, err = places(t.Context(), conn, c.text, from, n+1); err != nil {
						t.Fatal(err)
					}
				})
				if most := n + 1 + 2*(len(c.text)+3) + statusRows; read > most {
					t.Errorf("%q, page %d: %d rows were read, %d are the most", c.text, page, read, most)
				}
				if page == 0 && len(found) != c.want {
					t.Errorf("%q: %d found, want %d", c.text, len(found), c.want)
				}
			}
		}
		// Page by page each is found once.
		seen := map[int64]bool{}
		var after []byte
		for {
			found, next, err := s.Directory().Find(t.Context(), "99", after, maxFound)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range found {
				if seen[u.ID] || !strings.Contains(u.Username, "99") {
					t.Fatalf("%+v is found", u)
				}
				seen[u.ID] = true
			}
			if after = next; next == nil {
				break
			}
		}
		var want int
		like := "username LIKE '%99%'"
		if b.name == "sqlite" {
			like = "CAST(username AS TEXT) LIKE '%99%'"
		}
		if err := s.read.QueryRow("SELECT COUNT(*) FROM users WHERE " + like).Scan(&want); err != nil || len(seen) != want {
			t.Errorf("%d were found, want %d (%v)", len(seen), want, err)
		}
	})
}

// A page, and a pull, cost the same wherever in a long conversation they are, and the
// outbox the same however much is in it.
func TestReadsOfALongConversation(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		url := b.url(t)
		s := open(t, url)
		users := fillUsers(t, s, 3)
		me, other := users[0], users[1]
		for _, pair := range [][2]int64{{other, me}, {users[2], me}, {other, users[2]}} {
			if _, _, err := s.Posts().WriteTo(t.Context(), pair[0], pair[1], "first", nil); err != nil {
				t.Fatal(err)
			}
		}
		c, err := s.between(t.Context(), s.read, me, other, "")
		if err != nil {
			t.Fatal(err)
		}
		db := patient(t, b, url, s)
		total := b.many()
		// Those from the middle on are mine, but for the last.
		mustExec(t, db, "INSERT INTO posts (conversation, seq, sender, sent, size, body) SELECT ?, seq, CASE WHEN seq > ? AND seq < ? THEN ? ELSE ? END, seq, 1, x'78' FROM "+
			b.numbers(total)+" WHERE seq > 1", c.id, total/2, total, me, other)
		mustExec(t, db, "UPDATE conversations SET newest = ? WHERE id = ?", total, c.id)
		mustExec(t, db, "INSERT INTO outbox (made, recipients, body) SELECT seq, x'0000000000000001', x'78' FROM "+b.numbers(total))
		if b.name == "mariadb" {
			mustExec(t, db, "ANALYZE TABLE posts, outbox, conversations")
		}
		conn, err := s.read.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		few := func(what string, read, rows int) {
			t.Helper()
			if most := rows + 2 + statusRows; read > most {
				t.Errorf("%s: %d rows were read, %d are the most", what, read, most)
			}
		}
		const n = 20
		for what, index := range map[string]int{"the newest": 0, "in the middle": total / n / 2, "the oldest": total/n - 1} {
			first, last := pageOf(int64(total), index, n)
			args := []any{c.id, first - 1, last}
			expectRange(t, b, conn, what, "PRIMARY", pagePosts, args)
			var posts []relay.Post
			few(what, countReads(t, b, conn, func() {
				if posts, err = readPosts(t.Context(), conn, c.id, pagePosts, args...); err != nil {
					t.Fatal(err)
				}
			}), n)
			if len(posts) != n || posts[0].ID != postID(c.id, last) || posts[n-1].ID != postID(c.id, first) {
				t.Errorf("%s: %d posts", what, len(posts))
			}
		}
		sender := "by_sender"
		if b.name == "sqlite" {
			sender = "COVERING INDEX posts_by_sender"
		}
		for what, after := range map[string]int{"from the beginning": 0, "past half a conversation of one's own": total / 2} {
			expectRange(t, b, conn, what, sender, s.dialect.pullSizes(), []any{c.id, other, after, n + 1})
			expectRange(t, b, conn, what, strings.TrimPrefix(sender, "COVERING INDEX "), s.dialect.pullPosts(), []any{c.id, other, after, after + n})
			mustExec(t, db, "UPDATE conversations SET low_read = ?, high_read = ? WHERE id = ?", after, after, c.id)
			var posts []relay.Post
			var more bool
			tx, err := conn.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			read := countReads(t, b, conn, func() {
				if posts, more, err = s.pull(t.Context(), tx, me, other, "", n, 1<<20); err != nil && b.name != "sqlite" {
					t.Fatal(err)
				}
			})
			// SQLite's connection only reads, and refuses in the end.
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			want := map[int]int{0: n, total / 2: 1}[after]
			if len(posts) != want || more != (want == n) {
				t.Errorf("%s: %d posts, more %v", what, len(posts), more)
			}
			few(what, read, 2*want+5) // their sizes, they themselves, and the conversation
		}
		made := "made"
		if b.name == "sqlite" {
			made = "outbox_made"
		}
		for what, until := range map[string]int{"all are old": total, "few are old": 3, "none is old": 0} {
			args := []any{until, n}
			expectRange(t, b, conn, what, made, pendingQuery, args)
			var found []int64
			few(what, countReads(t, b, conn, func() {
				err = each(t.Context(), conn, func(rows *sql.Rows) error {
					var id int64
					var ignored sql.RawBytes
					err := rows.Scan(&id, &ignored, &ignored)
					found = append(found, id)
					return err
				}, pendingQuery, args...)
			}), n)
			if err != nil || len(found) != min(until, n) || !slices.IsSorted(found) {
				t.Errorf("%s: %v, %v", what, found, err)
			}
		}
	})
}
