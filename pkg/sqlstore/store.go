package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"parley/pkg/relay"
)

const (
	// QueryTimeout bounds a call, whatever the database does.
	QueryTimeout = 5 * time.Second
	// maxAttempts is how often a call is tried that the database undid because of
	// others; between two attempts passes a random part of retryPause.
	maxAttempts = 5
	retryPause  = 50 * time.Millisecond

	// reopenPause is how often a database is tried that was away when the node
	// started.
	reopenPause = time.Second
)

// Options configure a Store.
type Options struct {
	URL string       // see CheckURL
	Log *slog.Logger // nil: nothing is logged
	// Alone tells that nobody else may have the file open: a node that shares no Redis
	// with others, whose messages could get ids that theirs have. ErrOccupied else,
	// whichever comes first. It is of no effect with MySQL.
	Alone bool
}

// ErrOccupied means that somebody else has the file open, and one of both wants to be
// alone with it.
var ErrOccupied = errors.New("another node uses this file, and they share no Redis: give each a file of its own, or one Redis to all (--redis-url)")

// Store is a node's access to the database. Its methods may be called from any
// goroutine.
type Store struct {
	// Fixed after Open.
	dialect *dialect
	log     *slog.Logger
	alone   bool
	open    func(context.Context) error // creates the tables; does nothing when they are there
	read    *sql.DB
	write   *sql.DB // the same as read, but for SQLite, where it is one connection

	ready atomic.Bool // the tables are there
	used  *os.File    // keeps others from a SQLite file, or them from being alone with it; fixed when ready

	end    context.CancelFunc // ends the work in the background
	work   sync.WaitGroup     // opens the database later, and tidies it
	closed atomic.Bool
}

// Open connects to the database and creates or completes its tables. A MySQL that
// cannot be reached is no error: it is logged, the Store tries again each second,
// and until it has succeeded all calls fail with relay.ErrUnavailable. A wrong
// password, a database or a file that cannot be used, and the end of ctx are errors.
// Open returns within QueryTimeout when the database does not answer; while other
// nodes create the tables, or this one does, it waits for up to migrateTimeout. End
// the Store with Close.
func Open(ctx context.Context, o Options) (*Store, error) {
	a, err := parseAddress(o.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{log: o.Log, alone: o.Alone}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if a.path != "" {
		err = s.openSQLite(a)
	} else {
		err = s.openMySQL(a)
	}
	if err != nil {
		return nil, err
	}
	background, end := context.WithCancel(context.Background())
	s.end = end
	switch err := s.open(ctx); {
	case err == nil:
		s.ready.Store(true)
		s.work.Go(func() { s.sweep(background) })
	case a.path == "" && ctx.Err() == nil && passes(err):
		s.log.Warn("the database cannot be reached; trying on", "error", err)
		s.work.Go(func() {
			s.openLater(background)
			s.sweep(background)
		})
	default:
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openLater tries until the tables are there or ctx ends. What cannot pass by itself
// is logged, and tried on too: somebody may see to it.
func (s *Store) openLater(ctx context.Context) {
	t := time.NewTicker(reopenPause)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := s.open(ctx)
		if err == nil {
			s.ready.Store(true)
			s.log.Info("the database was reached")
			return
		}
		if text := err.Error(); ctx.Err() == nil && !passes(err) && text != said {
			s.log.Error("the database cannot be used; trying on", "error", err)
			said = text
		}
	}
}

// Users are the accounts.
func (s *Store) Users() *Users { return &Users{s} }

// Directory finds accounts and changes them.
func (s *Store) Directory() *Directory { return &Directory{s} }

// Friends are the users that users have put on their lists.
func (s *Store) Friends() *Friends { return &Friends{s} }

// Identities tell which account somebody has that an issuer knows.
func (s *Store) Identities() *Identities { return &Identities{s} }

// Groups are all groups.
func (s *Store) Groups() *Groups { return &Groups{s} }

// Posts are what users write to each other.
func (s *Store) Posts() *Posts { return &Posts{s} }

// Outbox holds the notices that are not known to have been passed on.
func (s *Store) Outbox() *Outbox { return &Outbox{s} }

// Archive is the archive of all topics.
func (s *Store) Archive() *Archive { return &Archive{s} }

// Ping asks the database for a sign of life; nil also means that its tables are
// there.
func (s *Store) Ping(ctx context.Context) error {
	return s.do(ctx, "ping", func(ctx context.Context) error {
		var one int
		return s.read.QueryRowContext(ctx, "SELECT 1").Scan(&one)
	})
}

// Close ends all connections. Calls that are under way may fail, later ones fail
// with relay.ErrClosed. Only the first call does something.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	if s.end != nil {
		s.end()
	}
	s.work.Wait()
	var errs []error
	if s.write != nil {
		errs = append(errs, s.write.Close())
	}
	if s.read != nil && s.read != s.write {
		errs = append(errs, s.read.Close())
	}
	if s.used != nil {
		errs = append(errs, s.used.Close())
	}
	return errors.Join(errs...)
}

// usable tells whether the database can be asked.
func (s *Store) usable() error {
	switch {
	case s.closed.Load():
		return relay.ErrClosed
	case !s.ready.Load():
		return fmt.Errorf("database: %w: it has not been reached yet", relay.ErrUnavailable)
	}
	return nil
}

// do makes one call, all attempts of which together take QueryTimeout at most.
func (s *Store) do(ctx context.Context, what string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	return s.attempt(ctx, what, call)
}

// attempt repeats a call as long as the database has undone it because of others.
// Errors of package relay are returned as they are.
func (s *Store) attempt(ctx context.Context, what string, call func(context.Context) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	for n := 1; ; n++ {
		err := call(ctx)
		switch {
		case err == nil:
			return nil
		case isAnswer(err):
			return err
		case s.closed.Load():
			return fmt.Errorf("database: %s: %w", what, relay.ErrClosed)
		case faultOf(err) != again || n == maxAttempts:
			return wrap(what, err)
		}
		pause := time.NewTimer(rand.N(retryPause))
		select {
		case <-ctx.Done():
			pause.Stop()
			return wrap(what, err)
		case <-pause.C:
		}
	}
}
