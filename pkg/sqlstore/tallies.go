package sqlstore

import (
	"context"
	"database/sql"
	"slices"

	"parley/pkg/relay"
)

// distinct are the ids, each once, in ascending order: the one in which all lock rows.
func distinct(ids ...int64) []int64 {
	slices.Sort(ids)
	return slices.Compact(ids)
}

// allExist tells by relay.ErrNoUser that not all of these distinct accounts exist. Since
// no account is ever deleted, they need not be locked.
func allExist(ctx context.Context, db asker, users []int64) error {
	var n int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM users WHERE id IN ("+list("?", len(users))+")", anys(users)...).Scan(&n)
	if err == nil && n != len(users) {
		err = relay.ErrNoUser
	}
	return err
}

// addTallies adds to what is counted of users, whose ids are distinct and ascending, and
// keeps others from doing so until the transaction ends.
func (s *Store) addTallies(ctx context.Context, tx *sql.Tx, friends, memberships int, users ...int64) error {
	var args []any
	for _, u := range users {
		args = append(args, u, friends, memberships)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO tallies (user_id, friends, memberships) VALUES "+
		list("(?, ?, ?)", len(users))+s.dialect.addTally, args...)
	return err
}

// addMemberships makes users members of a conversation: relay.ErrTooMany.
func (s *Store) addMemberships(ctx context.Context, tx *sql.Tx, conversation int64, users []int64) error {
	if err := s.addTallies(ctx, tx, 0, 1, users...); err != nil {
		return err
	}
	found, err := has(ctx, tx, "SELECT 1 FROM tallies WHERE user_id IN ("+list("?", len(users))+") AND memberships > ?",
		append(anys(users), relay.MaxMemberships)...)
	if err == nil && found {
		err = relay.ErrTooMany
	}
	if err != nil {
		return err
	}
	var args []any
	for _, u := range users {
		args = append(args, conversation, u)
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO members (conversation, user_id) VALUES "+list("(?, ?)", len(users)), args...)
	return err
}

// dropMemberships ends the membership of users, all of whom are members.
func (s *Store) dropMemberships(ctx context.Context, tx *sql.Tx, conversation int64, users []int64) error {
	in := list("?", len(users))
	_, err := tx.ExecContext(ctx, "UPDATE tallies SET memberships = memberships - 1 WHERE user_id IN ("+in+")", anys(users)...)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM members WHERE conversation = ? AND user_id IN ("+in+")",
		append([]any{conversation}, anys(users)...)...)
	return err
}
