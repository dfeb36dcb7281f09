package relaytest

import (
	"context"
	"testing"

	"parley/pkg/sqlproc"
)

// MariaDB is a real server on a free loopback port, with a data directory of its
// own.
type MariaDB struct {
	*sqlproc.MariaDB
}

// StartMariaDB runs a MariaDB until the test ends. It returns when the server
// answers; the test fails when there is none or it does not start. That takes a
// second or two: let the parts of a test share one, and give each a database.
func StartMariaDB(tb testing.TB) *MariaDB {
	tb.Helper()
	return StartMariaDBWith(tb, sqlproc.Options{})
}

// StartMariaDBWith is StartMariaDB with settings: certificates, for one.
func StartMariaDBWith(tb testing.TB, o sqlproc.Options) *MariaDB {
	tb.Helper()
	s, err := sqlproc.Start(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("ending mariadbd: %v", err)
		}
		if tb.Failed() {
			tb.Logf("mariadbd's log:\n%s", s.Log())
		}
	})
	return &MariaDB{s}
}

// Database makes an empty database and returns its name; URL(name) is what a node
// is given.
func (m *MariaDB) Database(tb testing.TB) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), Patience)
	defer cancel()
	name, err := m.CreateDatabase(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return name
}

// NewURL makes an empty database and returns what a node is given to use it.
func (m *MariaDB) NewURL(tb testing.TB) string {
	tb.Helper()
	return m.URL(m.Database(tb))
}

// Restart starts the server on the same port with the same data, after killing the
// one that runs, and returns when it answers.
func (m *MariaDB) Restart(tb testing.TB) {
	tb.Helper()
	if err := m.MariaDB.Restart(); err != nil {
		tb.Fatal(err)
	}
}

// Stop suspends the server by SIGSTOP: connections to it stand, and new ones can
// be made, but nothing is answered until Cont.
func (m *MariaDB) Stop(tb testing.TB) {
	tb.Helper()
	if err := m.MariaDB.Stop(); err != nil {
		tb.Fatal(err)
	}
}

// Cont has a stopped server go on.
func (m *MariaDB) Cont(tb testing.TB) {
	tb.Helper()
	if err := m.MariaDB.Cont(); err != nil {
		tb.Fatal(err)
	}
}
