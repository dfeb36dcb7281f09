package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// expectAway has every kind of call be made several times at once, which must fail as
// not available, in time.
func expectAway(t *testing.T, s *Store) {
	t.Helper()
	const each = 4 // together more than there are connections
	var wg sync.WaitGroup
	for name, call := range calls(s) {
		for range each {
			wg.Go(func() {
				began := time.Now()
				if err := call(context.Background()); !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("%s: error = %v, want %v", name, err, relay.ErrUnavailable)
				}
				if took := time.Since(began); took > 2*QueryTimeout {
					t.Errorf("%s took %v, %v is the most", name, took, QueryTimeout)
				}
			})
		}
	}
	wg.Wait()
}

// expectBack waits until the database answers, and then has every kind of call
// succeed.
func expectBack(t *testing.T, s *Store) {
	t.Helper()
	relaytest.Eventually(t, "the database is back", func() bool { return s.Ping(t.Context()) == nil })
	for name, call := range calls(s) {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDatabaseIsKilledAndBack(t *testing.T) {
	relaytest.NoLeaks(t)
	server := relaytest.StartMariaDB(t)
	s := open(t, server.NewURL(t))
	use(t, s, "kept")
	expectBack(t, s)
	server.Kill()
	expectAway(t, s)
	server.Restart(t)
	expectBack(t, s)
	server.Restart(t) // too fast for any call to notice
	expectBack(t, s)
}

func TestDatabaseIsSuspendedAndBack(t *testing.T) {
	relaytest.NoLeaks(t)
	server := relaytest.StartMariaDB(t)
	s := open(t, server.NewURL(t))
	use(t, s, "kept")
	server.Stop(t)
	expectAway(t, s)
	server.Cont(t)
	expectBack(t, s)
}

// The server ends every connection of the node.
func TestConnectionsAreCut(t *testing.T) {
	server := relaytest.StartMariaDB(t)
	s := open(t, server.NewURL(t))
	use(t, s, "kept")
	for range 3 {
		var before, after int
		if err := s.read.QueryRow("SELECT CONNECTION_ID()").Scan(&before); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Admin().Exec("KILL USER 'parley'@'127.0.0.1'"); err != nil {
			t.Fatal(err)
		}
		expectBack(t, s)
		if err := s.read.QueryRow("SELECT CONNECTION_ID()").Scan(&after); err != nil || after == before {
			t.Errorf("connection %d was not cut (%v)", after, err)
		}
	}
}

// A node comes up without its database, and has it as soon as that is there.
func TestDatabaseComesLater(t *testing.T) {
	relaytest.NoLeaks(t)
	for name, c := range map[string]struct {
		away, back func(*testing.T, *relaytest.MariaDB)
	}{
		"killed": {func(_ *testing.T, m *relaytest.MariaDB) { m.Kill() }, func(t *testing.T, m *relaytest.MariaDB) { m.Restart(t) }},
		"suspended": {func(t *testing.T, m *relaytest.MariaDB) { m.Stop(t) }, func(t *testing.T, m *relaytest.MariaDB) {
			m.Cont(t)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := relaytest.StartMariaDB(t)
			url := server.NewURL(t)
			var log strings.Builder
			c.away(t, server)
			s, err := Open(t.Context(), Options{URL: url, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), "cannot be reached") || strings.Contains(log.String(), server.Password()) {
				t.Errorf("the log says:\n%s", log.String())
			}
			expectAway(t, s)
			c.back(t, server)
			relaytest.Eventually(t, "the database is there", func() bool { return s.Ping(t.Context()) == nil })
			use(t, s, "kept")
			expectBack(t, s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What does not pass by itself is an error at once, without the password.
func TestDatabaseRefuses(t *testing.T) {
	relaytest.NoLeaks(t)
	server := relaytest.StartMariaDB(t)
	url := server.NewURL(t)
	for what, wrong := range map[string]string{
		"a wrong password":       strings.Replace(url, server.Password(), "wr0ng", 1),
		"a database that is not": server.URL("nothing"),
		"no TLS":                 url + "?tls=true",
	} {
		s, err := Open(t.Context(), Options{URL: wrong})
		if err == nil {
			t.Errorf("%s: no error", what)
			_ = s.Close()
			continue
		}
		if text := err.Error(); strings.Contains(text, server.Password()) || strings.Contains(text, "wr0ng") {
			t.Errorf("%s: the error shows the password: %v", what, err)
		}
	}
	if _, err := Open(t.Context(), Options{URL: "mysql://h7x9q@"}); err == nil || strings.Contains(err.Error(), "h7x9q") {
		t.Errorf("a wrong URL: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{URL: url}); !errors.Is(err, context.Canceled) {
		t.Errorf("without patience: %v", err)
	}
}

func TestCallsAfterClose(t *testing.T) {
	relaytest.NoLeaks(t)
	onBoth(t, func(t *testing.T, b backend) {
		s := open(t, b.url(t))
		use(t, s, "kept")
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		for name, call := range calls(s) {
			if err := call(t.Context()); !errors.Is(err, relay.ErrClosed) {
				t.Errorf("%s: error = %v, want %v", name, err, relay.ErrClosed)
			}
		}
	})
}

// A Store that is closed before its database was there leaves nothing behind.
func TestCloseWhileTheDatabaseIsAway(t *testing.T) {
	relaytest.NoLeaks(t)
	server := relaytest.StartMariaDB(t)
	url := server.NewURL(t)
	server.Stop(t)
	s, err := Open(t.Context(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Whoever waits for another's lock gets it when that one is done, and is told in
// time when that one is not.
func TestLocksAreWaitedFor(t *testing.T) {
	s := open(t, relaytest.StartMariaDB(t).NewURL(t))
	use(t, s, "kept")
	other, err := s.write.Begin()
	if err != nil {
		t.Fatal(err)
	}
	const insert = "INSERT INTO archive (topic, millis, seq, sender, sent, body) VALUES ('chat/kept', ?, 0, '', 0, 'other')"
	if _, err := other.Exec(insert, 7); err != nil {
		t.Fatal(err)
	}
	wanted := []relay.Message{{ID: relay.ID{Millis: 7}, Topic: "chat/kept", Body: []byte("mine")}}
	began := time.Now()
	err = s.Archive().Store(t.Context(), wanted)
	var code *mysql.MySQLError
	if !errors.Is(err, relay.ErrUnavailable) || !errors.As(err, &code) || code.Number != 1205 {
		t.Errorf("the row is locked: %v", err)
	}
	if took := time.Since(began); took < maxAttempts*lockWait*time.Second || took > 2*maxAttempts*lockWait*time.Second {
		t.Errorf("that took %v, %d times %ds are right", took, maxAttempts, lockWait)
	}
	done := make(chan error, 1)
	go func() { done <- s.Archive().Store(t.Context(), wanted) }()
	relaytest.Eventually(t, "Store waits", func() bool {
		var name, waits string
		err := s.read.QueryRow("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'").Scan(&name, &waits)
		return err == nil && waits == "1"
	})
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the row is free: %v", err)
	}
	ms, _, err := s.Archive().Before(t.Context(), "chat/kept", relay.ID{}, 1)
	if err != nil || len(ms) != 1 || string(ms[0].Body) != "mine" {
		t.Errorf("stored is %+v (%v)", ms, err)
	}
}

// What the database has undone because of others is tried again, a few times; other
// errors are not.
func TestAttempts(t *testing.T) {
	s := open(t, "sqlite:"+t.TempDir()+"/parley.db")
	deadlock := fmt.Errorf("while inserting: %w", &mysql.MySQLError{Number: 1213, Message: "Deadlock found"})
	for _, c := range []struct {
		name  string
		fails int
		err   error
		calls int
		want  error // nil: none
	}{
		{"no error", 0, nil, 1, nil},
		{"a deadlock", 1, deadlock, 2, nil},
		{"as many as may be", maxAttempts - 1, deadlock, maxAttempts, nil},
		{"one more", maxAttempts, deadlock, maxAttempts, relay.ErrUnavailable},
		{"another error", 1, &mysql.MySQLError{Number: 1406, Message: "Data too long"}, 1, &mysql.MySQLError{Number: 1406}},
		{"a broken connection", 1, mysql.ErrInvalidConn, 1, relay.ErrUnavailable},
		{"an answer", 1, relay.ErrNoUser, 1, relay.ErrNoUser},
	} {
		made := 0
		err := s.do(t.Context(), "try", func(context.Context) error {
			if made++; made <= c.fails {
				return c.err
			}
			return nil
		})
		if made != c.calls || !errors.Is(err, c.want) {
			t.Errorf("%s: %d calls, error %v; want %d, %v", c.name, made, err, c.calls, c.want)
		}
		if errors.Is(err, relay.ErrUnavailable) != errors.Is(c.want, relay.ErrUnavailable) {
			t.Errorf("%s: whether this passes by itself is told wrongly: %v", c.name, err)
		}
	}
}
