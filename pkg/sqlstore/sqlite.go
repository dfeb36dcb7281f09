package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

const (
	// maxReaders is how many queries read a SQLite file at the same time. They do
	// not wait for the one writer, nor that for them.
	maxReaders = 4
	// occupiedTimeout is how long a file is waited for that another one has who must
	// not share it: he may be about to end.
	occupiedTimeout = 2 * time.Second
	// busyTimeout is how long a statement waits for another process.
	busyTimeout = QueryTimeout - time.Second
)

// openSQLite prepares the connections; nothing is opened yet.
func (s *Store) openSQLite(a address) error {
	s.dialect = &sqliteDialect
	pragmas := url.Values{"_pragma": {
		"busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")",
		"journal_mode(WAL)",
		"synchronous(FULL)", // what is archived is forgotten elsewhere
		"foreign_keys(ON)",
	}}
	name := func(more url.Values) string {
		all := url.Values{"_pragma": pragmas["_pragma"]}
		for k, v := range more {
			all[k] = v
		}
		return (&url.URL{Scheme: "file", Path: a.path, RawQuery: all.Encode()}).String()
	}
	var err error
	// A transaction that will write says so at its beginning, else two could block
	// each other.
	if s.write, err = sql.Open("sqlite", name(url.Values{"_txlock": {"immediate"}})); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", name(url.Values{"_query_only": {"1"}})); err != nil {
		return errors.Join(fmt.Errorf("database: %w", err), s.write.Close())
	}
	s.read.SetMaxOpenConns(maxReaders)
	s.read.SetMaxIdleConns(maxReaders)
	s.open = func(ctx context.Context) error { return s.migrateSQLite(ctx, a.path) }
	return nil
}

// occupy keeps those apart who must not share the file; see Options.Alone.
func (s *Store) occupy(ctx context.Context, path string) (err error) {
	if s.used != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, occupiedTimeout)
	defer cancel()
	s.used, err = lockFile(ctx, path+".used", !s.alone)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("database: %s: %w", path, ErrOccupied)
	}
	return fmt.Errorf("database: %w", err)
}

// migrateSQLite makes the file, which nobody else may read, and its directory, and
// brings the tables up to date, one process at a time.
func (s *Store) migrateSQLite(ctx context.Context, path string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if err := s.occupy(ctx, path); err != nil {
		return err
	}
	lock, err := lockFile(ctx, path+".lock", false)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	// Only a file that nobody has opened is opened here: closing it would end the
	// locks that SQLite has on it in this process.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		err = f.Close()
	case errors.Is(err, fs.ErrExist):
		err = nil
	}
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return migrate(ctx, s.write, s.dialect, s.log)
}
