package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"parley/pkg/relay"
)

// Friends implements relay.Friends.
type Friends struct{ s *Store }

var _ relay.Friends = (*Friends)(nil)

// errFriends means that somebody has put the same user on the same list meanwhile.
var errFriends = errors.New("they are friends already")

// Befriend implements relay.Friends.
func (fs *Friends) Befriend(ctx context.Context, user, friend int64) error {
	err := fs.s.do(ctx, "befriend", func(ctx context.Context) error {
		const one = "SELECT 1 FROM friends WHERE user_id = ? AND friend_id = ?"
		if found, err := has(ctx, fs.s.read, one, user, friend); err != nil || found {
			return err
		}
		err := fs.s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
			if err := allExist(ctx, tx, distinct(user, friend)); err != nil {
				return err
			}
			if err := fs.s.addTallies(ctx, tx, 1, 0, user); err != nil {
				return err
			}
			// Behind the lock on the tally.
			if found, err := has(ctx, tx, one, user, friend); err != nil {
				return err
			} else if found {
				return errFriends
			}
			if found, err := has(ctx, tx, "SELECT 1 FROM tallies WHERE user_id = ? AND friends > ?", user, relay.MaxFriends); err != nil {
				return err
			} else if found {
				return relay.ErrTooMany
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO friends (user_id, friend_id) VALUES (?, ?)", user, friend)
			return err
		})
		if errors.Is(err, errFriends) {
			return nil
		}
		return err
	})
	return err
}

// Unfriend implements relay.Friends.
func (fs *Friends) Unfriend(ctx context.Context, user, friend int64) error {
	return fs.s.change(ctx, "unfriend", func(ctx context.Context, tx *sql.Tx) error {
		// The tally first, as Befriend does.
		_, err := ids(ctx, tx, "SELECT user_id FROM tallies WHERE user_id = ?"+fs.s.dialect.lock, user)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, "DELETE FROM friends WHERE user_id = ? AND friend_id = ?", user, friend)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE tallies SET friends = friends - 1 WHERE user_id = ?", user)
		return err
	})
}

// Friends implements relay.Friends.
func (fs *Friends) Friends(ctx context.Context, user int64) (all []relay.User, err error) {
	err = fs.s.do(ctx, "list friends", func(ctx context.Context) error {
		all = nil
		return each(ctx, fs.s.read, func(rows *sql.Rows) error {
			var u relay.User
			err := rows.Scan(&u.ID, &u.Username)
			all = append(all, u)
			return err
		}, "SELECT u.id, u.username FROM friends f JOIN users u ON u.id = f.friend_id WHERE f.user_id = ? ORDER BY u.username", user)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
