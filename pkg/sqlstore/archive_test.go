package sqlstore

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"parley/pkg/relay"
)

// What is as long as may be is kept; one byte more is refused, not cut off.
func TestLimits(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		s := open(t, b.url(t))
		text := func(n int) string { return strings.Repeat("x", n) }
		for what, user := range map[string]func(n int) (u relay.User, password string){
			"username": func(n int) (relay.User, string) { return relay.User{Username: text(n), Email: "1"}, "" },
			"email":    func(n int) (relay.User, string) { return relay.User{Username: "2", Email: text(n)}, "" },
			"password": func(n int) (relay.User, string) { return relay.User{Username: "3", Email: "3"}, text(n) },
		} {
			u, password := user(maxNameBytes + 1)
			if _, err := s.Users().Create(t.Context(), u, password); err == nil || errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("a longer %s: %v", what, err)
			}
			u, password = user(maxNameBytes)
			made, err := s.Users().Create(t.Context(), u, password)
			if err != nil {
				t.Errorf("the longest %s: %v", what, err)
			}
			got, gotPassword, err := s.Users().ByEmail(t.Context(), u.Email)
			if err != nil || got != made || gotPassword != password {
				t.Errorf("the longest %s came back otherwise (%v)", what, err)
			}
		}
		// An email that is longer in lower case.
		long := relay.User{Username: "4", Email: strings.Repeat("\u023a", maxNameBytes/2)}
		if _, err := s.Users().Create(t.Context(), long, ""); err != nil {
			t.Errorf("an email that grows: %v", err)
		}

		for what, message := range map[string]func(more int) relay.Message{
			"topic":  func(more int) relay.Message { return relay.Message{Topic: relay.Topic(text(maxTopic + more))} },
			"sender": func(more int) relay.Message { return relay.Message{Topic: "a", From: text(maxSender + more)} },
			"body":   func(more int) relay.Message { return relay.Message{Topic: "b", Body: make([]byte, MaxBody+more)} },
		} {
			m := message(1)
			m.ID.Millis = 1
			if err := s.Archive().Store(t.Context(), []relay.Message{m}); err == nil || errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("a longer %s: %v", what, err)
			}
			m = message(0)
			m.ID.Millis = 1
			if err := s.Archive().Store(t.Context(), []relay.Message{m}); err != nil {
				t.Errorf("the longest %s: %v", what, err)
			}
			got, _, err := s.Archive().Before(t.Context(), m.Topic, relay.ID{}, 1)
			if err != nil || len(got) != 1 || got[0].From != m.From || !bytes.Equal(got[0].Body, m.Body) {
				t.Errorf("the longest %s came back otherwise (%v)", what, err)
			}
		}
	})
}

func TestPageIsBounded(t *testing.T) {
	s := open(t, "sqlite:"+t.TempDir()+"/parley.db")
	all := make([]relay.Message, maxPage+1)
	for i := range all {
		all[i] = relay.Message{ID: relay.ID{Millis: 1, Seq: uint64(i)}, Topic: "chat/a"}
	}
	if err := s.Archive().Store(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[int]int{maxPage - 1: maxPage - 1, maxPage: maxPage, maxPage + 1: maxPage} {
		if got, more, err := s.Archive().Before(t.Context(), "chat/a", relay.ID{}, asked); err != nil || len(got) != want || !more {
			t.Errorf("asked for %d, got %d, more %v, %v; want %d", asked, len(got), more, err, want)
		}
	}
}

func TestChunk(t *testing.T) {
	sized := func(sizes ...int) (ms []relay.Message) {
		for _, n := range sizes {
			ms = append(ms, relay.Message{Body: make([]byte, n)})
		}
		return ms
	}
	for _, c := range []struct {
		name     string
		messages []relay.Message
		want     int
	}{
		{"one", sized(0), 1},
		{"as many rows as may be", make([]relay.Message, chunkRows), chunkRows},
		{"one more", make([]relay.Message, chunkRows+1), chunkRows},
		{"as many bytes as may be", sized(chunkBytes/2-rowBytes, chunkBytes/2-rowBytes), 2},
		{"one more byte", sized(chunkBytes/2-rowBytes, chunkBytes/2-rowBytes+1), 1},
		{"one alone that is longer", sized(MaxBody, 0), 1},
		{"and after another one", sized(0, MaxBody), 1},
	} {
		if got := chunk(c.messages); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// An error in the middle of a batch, of a kind that the database alone finds, is not
// hidden, and leaves nothing of the batch, nor what the statements before it did.
func TestErrorsAreNotSwallowed(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		s := open(t, b.url(t))
		first := make([]relay.Message, chunkRows)
		for i := range first {
			first[i] = relay.Message{ID: relay.ID{Millis: 1, Seq: uint64(i)}, Topic: "chat/a"}
		}
		refused := relay.Message{ID: relay.ID{Millis: 2}, Topic: "chat/a", Body: []byte("refused")}
		trigger := "CREATE TRIGGER refuse BEFORE INSERT ON archive FOR EACH ROW IF NEW.body = 'refused' THEN SIGNAL SQLSTATE '22001' SET MYSQL_ERRNO = 1406; END IF"
		if b.name == "sqlite" {
			trigger = "CREATE TRIGGER refuse BEFORE INSERT ON archive WHEN NEW.body = CAST('refused' AS BLOB) BEGIN SELECT RAISE(ABORT, 'refused'); END"
		}
		if _, err := s.write.Exec(trigger); err != nil {
			t.Fatal(err)
		}
		err := s.Archive().Store(t.Context(), append(first, refused))
		if err == nil || errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("error = %v, want one that does not pass by itself", err)
		}
		if ms, more, err := s.Archive().Before(t.Context(), "chat/a", relay.ID{}, 1); err != nil || len(ms) != 0 || more {
			t.Errorf("%d messages are left, more %v (%v)", len(ms), more, err)
		}
		if err := s.Archive().Store(t.Context(), first); err != nil {
			t.Errorf("the others alone: %v", err)
		}
	})
}

// handlerReads is how many rows a connection to MariaDB has read so far.
func handlerReads(t *testing.T, conn *sql.Conn) (n int) {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), "SHOW SESSION STATUS LIKE 'Handler_read%'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var count int
		if err := rows.Scan(&name, &count); err != nil {
			t.Fatal(err)
		}
		n += count
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// fill gives a topic its many messages, 20 in each millisecond.
func fill(t *testing.T, b backend, url string, s *Store) {
	t.Helper()
	const other = 1000
	insert := "INSERT INTO archive SELECT ?, seq DIV 20, seq MOD 20, '7', 0, 'body' FROM seq_1_to_%d"
	if b.name == "sqlite" {
		insert = "WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < %d) " +
			"INSERT INTO archive SELECT ?, -9223372036854775808 + seq / 20, -9223372036854775808 + seq %% 20, x'37', 0, x'30' FROM n"
	}
	db := s.write
	if b.name != "sqlite" {
		// On a connection that waits for as long as it takes.
		a, err := parseAddress(url)
		if err != nil {
			t.Fatal(err)
		}
		if db, err = mysqlPool(a, s.log, 0); err != nil {
			t.Fatal(err)
		}
		defer db.Close()
	}
	for topic, n := range map[string]int{"chat/a": other, "chat/b": b.longTopic(), "chat/c": other} {
		if _, err := db.ExecContext(t.Context(), fmt.Sprintf(insert, n), []byte(topic)); err != nil {
			t.Fatal(err)
		}
	}
}

const million = 1_000_000

// longTopic is how many messages a topic has on either database. SQLite takes long to
// write them, with the race detector, and its plan depends on no statistics.
func (b backend) longTopic() int {
	if b.name == "sqlite" {
		return million / 20
	}
	return million
}

// A page costs the same wherever in a topic of a million messages it is.
func TestPagesOfALongTopic(t *testing.T) {
	const n = 100
	places := map[string]relay.ID{
		"the newest": {}, "far from both ends": {Millis: 1250, Seq: 7}, "near the beginning": {Millis: 10, Seq: 3},
		"the beginning of a millisecond": {Millis: 1000, Seq: 0}, "the end of one": {Millis: 1000, Seq: 19},
	}
	onBoth(t, func(t *testing.T, b backend) {
		url := b.url(t)
		s := open(t, url)
		fill(t, b, url, s)
		conn, err := s.read.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for name, place := range places {
			query, args := s.dialect.pageQuery("chat/b", place, n+1)
			if b.name == "sqlite" {
				plan := sqlitePlan(t, conn, query, args)
				if !strings.Contains(plan, "USING PRIMARY KEY (topic=?") || strings.Contains(plan, "TEMP B-TREE") || strings.Contains(plan, "SCAN") ||
					!place.IsZero() && !strings.Contains(plan, "(millis,seq)<") {
					t.Errorf("%s: the plan is %s", name, plan)
				}
			} else {
				kind, key, extra := mariadbPlan(t, conn, query, args)
				// Versions differ in what they call the way to the end of a topic.
				if kind != "range" && !(kind == "ref" && place.IsZero()) || key != "PRIMARY" || strings.Contains(extra, "filesort") {
					t.Errorf("%s: the plan is %s by %s: %s", name, kind, key, extra)
				}
				before := handlerReads(t, conn)
				rows, err := conn.QueryContext(t.Context(), query, args...)
				if err != nil {
					t.Fatal(err)
				}
				got := 0
				for rows.Next() {
					got++
				}
				if err := errors.Join(rows.Err(), rows.Close()); err != nil {
					t.Fatal(err)
				}
				if read := handlerReads(t, conn) - before; got != n+1 || read > got+2+statusRows {
					t.Errorf("%s: %d rows were read for a page of %d", name, read, got)
				}
			}
			page, more, err := s.Archive().Before(t.Context(), "chat/b", place, n)
			if err != nil || len(page) != n || !more {
				t.Errorf("%s: %d messages, more %v, %v", name, len(page), more, err)
			}
			for i := range page {
				if i > 0 && page[i].ID.Compare(page[i-1].ID) >= 0 || !place.IsZero() && page[i].ID.Compare(place) >= 0 {
					t.Errorf("%s: %v is out of order", name, page[i].ID)
				}
			}
		}
	})
}

// statusRows is what one look at the counters adds to them, at most.
const statusRows = 30

func sqlitePlan(t *testing.T, conn *sql.Conn, query string, args []any) string {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "; ")
}

func mariadbPlan(t *testing.T, conn *sql.Conn, query string, args []any) (kind, key, extra string) {
	t.Helper()
	var ignored any
	var length, ref, keyName sql.NullString
	err := conn.QueryRowContext(t.Context(), "EXPLAIN "+query, args...).Scan(&ignored, &ignored, &ignored, &kind, &ignored, &keyName, &length, &ref, &ignored, &extra)
	if err != nil {
		t.Fatal(err)
	}
	return kind, keyName.String, extra
}
