package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"parley/pkg/relay"
)

// answers are the errors that a call may have when the database has done what it was
// asked to.
var answers = []error{
	relay.ErrUsernameTaken, relay.ErrEmailTaken, relay.ErrIdentityTaken, relay.ErrNoUser,
	relay.ErrNoGroup, relay.ErrGroupTaken, relay.ErrNotMember, relay.ErrTooMany, relay.ErrBadPlace,
}

// isAnswer tells whether an error is one of them.
func isAnswer(err error) bool {
	return slices.ContainsFunc(answers, func(a error) bool { return errors.Is(err, a) })
}

// asker is the database, or a transaction.
type asker interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// change makes one call that changes several rows, or none when it fails. A statement
// of it sees what others have committed before the statement began: so what comes after
// a lock sees all that was done under it.
func (s *Store) change(ctx context.Context, what string, call func(ctx context.Context, tx *sql.Tx) error) error {
	return s.do(ctx, what, func(ctx context.Context) error { return s.inTx(ctx, call) })
}

func (s *Store) inTx(ctx context.Context, call func(ctx context.Context, tx *sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	if err := call(ctx, tx); err != nil {
		// What is wrong is known; a transaction that cannot be undone now ends with
		// its connection.
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// each runs a query and has row read each of its rows.
func each(ctx context.Context, db asker, row func(*sql.Rows) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ids reads the one column of a query.
func ids(ctx context.Context, db asker, query string, args ...any) (all []int64, err error) {
	err = each(ctx, db, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		all = append(all, id)
		return err
	}, query, args...)
	return all, err
}

// has tells whether a query finds something.
func has(ctx context.Context, db asker, query string, args ...any) (found bool, err error) {
	err = db.QueryRowContext(ctx, "SELECT EXISTS ("+query+")", args...).Scan(&found)
	return found, err
}

// list is so many question marks, or other things, with commas.
func list(thing string, n int) string {
	return strings.TrimSuffix(strings.Repeat(thing+", ", n), ", ")
}

// anys are the arguments of a list.
func anys(ids []int64) (args []any) {
	for _, id := range ids {
		args = append(args, id)
	}
	return args
}

// noRows turns the lack of a row into an error that the contract knows.
func noRows(err, answer error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return answer
	}
	return err
}
