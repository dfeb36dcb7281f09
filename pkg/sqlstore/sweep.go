package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"parley/pkg/relay"
)

const (
	// sweepPause is the pause between two looks at what is to be done bit by bit, while
	// there is nothing; errors are logged at most as often.
	sweepPause = time.Minute
	// restPause is the pause between two bits, so that others get on.
	restPause = 5 * time.Millisecond

	// namesWork is the row of progress that tells up to which account all are known to
	// be found by their names.
	namesWork = "names"
	// nameRows is how many accounts are looked at at once.
	nameRows = 200
	// settled is the age at which an account lets the work go past it for good: by then
	// every one with a lower id is to be seen, or will never be. A call takes
	// QueryTimeout; the rest is for clocks that differ.
	settled = 5 * time.Minute

	// buryRows is how many posts of a deleted group are deleted at once.
	buryRows = 200
)

// sweep does what is done bit by bit, until ctx ends.
func (s *Store) sweep(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	t := time.NewTicker(sweepPause)
	defer t.Stop()
	for {
		if err := s.sweepOnce(ctx, settled); err != nil && ctx.Err() == nil {
			s.log.Warn("the database was not tidied; trying again later", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sweepOnce does all that is to be done now. Age is that of a settled account.
func (s *Store) sweepOnce(ctx context.Context, age time.Duration) error {
	return errors.Join(s.nameAll(ctx, age), s.repeat(ctx, s.buryMore))
}

// repeat does bit after bit, as long as there is more.
func (s *Store) repeat(ctx context.Context, bit func(context.Context) (more bool, err error)) error {
	for {
		more, err := bit(ctx)
		if err != nil || !more {
			return err
		}
		rest := time.NewTimer(restPause)
		select {
		case <-ctx.Done():
			rest.Stop()
			return ctx.Err()
		case <-rest.C:
		}
	}
}

// nameAll has accounts be found that were made by a node which knows nothing of
// name_parts: those that were there before it, and those that are made during a roll-out.
func (s *Store) nameAll(ctx context.Context, age time.Duration) error {
	var place int64
	err := s.do(ctx, "index names", func(ctx context.Context) error {
		err := s.read.QueryRowContext(ctx, "SELECT place FROM progress WHERE work = ?", []byte(namesWork)).Scan(&place)
		return noRows(err, nil)
	})
	if err != nil {
		return err
	}
	pass := true // nothing was seen that is not settled
	return s.repeat(ctx, func(ctx context.Context) (more bool, err error) {
		err = s.do(ctx, "index names", func(ctx context.Context) error {
			seen, err := s.look(ctx, place, time.Now().Add(-age))
			if err != nil {
				return err
			}
			if err := s.nameSome(ctx, seen.without); err != nil {
				return err
			}
			if pass && seen.settled > place {
				if err := s.goOn(ctx, namesWork, seen.settled); err != nil {
					return err
				}
			}
			more, pass, place = seen.more, pass && seen.settled == seen.last, seen.last
			return nil
		})
		return more, err
	})
}

// looked is what one look at some accounts has found.
type looked struct {
	without []int64 // those that have no parts of their names
	settled int64   // up to this one all are settled
	last    int64   // the last that was seen
	more    bool
}

// look looks at some accounts after one.
func (s *Store) look(ctx context.Context, after int64, settled time.Time) (l looked, err error) {
	l.settled, l.last = after, after
	n := 0
	err = each(ctx, s.read, func(rows *sql.Rows) error {
		var id, created int64
		var has bool
		if err := rows.Scan(&id, &created, &has); err != nil {
			return err
		}
		if !has {
			l.without = append(l.without, id)
		}
		if l.settled == l.last && created <= settled.UnixNano() {
			l.settled = id
		}
		l.last = id
		n++
		return nil
	}, "SELECT id, created, EXISTS (SELECT 1 FROM name_parts p WHERE p.user_id = users.id) FROM users WHERE id > ? ORDER BY id LIMIT ?",
		after, nameRows)
	l.more = n == nameRows
	return l, err
}

// nameSome has accounts be found, but for those that are meanwhile.
func (s *Store) nameSome(ctx context.Context, users []int64) error {
	if len(users) == 0 {
		return nil
	}
	in := list("?", len(users))
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		// Locked, nobody renames them.
		var all []relay.User
		err := each(ctx, tx, func(rows *sql.Rows) error {
			var u relay.User
			err := rows.Scan(&u.ID, &u.Username)
			all = append(all, u)
			return err
		}, "SELECT id, username FROM users WHERE id IN ("+in+") ORDER BY id"+s.dialect.lock, anys(users)...)
		if err != nil {
			return err
		}
		have, err := ids(ctx, tx, "SELECT DISTINCT user_id FROM name_parts WHERE user_id IN ("+in+") ORDER BY user_id", anys(users)...)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(u relay.User) bool {
			_, found := slices.BinarySearch(have, u.ID)
			return found
		})
		return s.addParts(ctx, tx, all...)
	})
}

// goOn notes how far a work has come; never back.
func (s *Store) goOn(ctx context.Context, work string, place int64) error {
	_, err := s.write.ExecContext(ctx, "INSERT INTO progress (work, place) VALUES (?, ?)"+s.dialect.forward, []byte(work), place)
	return err
}

// bury has the posts of a deleted conversation be deleted: now, or by and by if they are
// many.
func (s *Store) bury(ctx context.Context, tx *sql.Tx, c conversation) error {
	if c.newest <= buryRows {
		_, err := tx.ExecContext(ctx, "DELETE FROM posts WHERE conversation = ?", c.id)
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO graves (conversation) VALUES (?)", c.id)
	return err
}

// buryMore deletes some posts of a deleted conversation.
func (s *Store) buryMore(ctx context.Context) (more bool, err error) {
	err = s.do(ctx, "delete posts", func(ctx context.Context) error {
		more = false
		graves, err := ids(ctx, s.read, "SELECT conversation FROM graves ORDER BY conversation LIMIT 1")
		if err != nil || len(graves) == 0 {
			return err
		}
		more = true
		return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
			var first sql.NullInt64
			if err := tx.QueryRowContext(ctx, "SELECT MIN(seq) FROM posts WHERE conversation = ?", graves[0]).Scan(&first); err != nil {
				return err
			}
			if !first.Valid {
				_, err := tx.ExecContext(ctx, "DELETE FROM graves WHERE conversation = ?", graves[0])
				return err
			}
			_, err := tx.ExecContext(ctx, "DELETE FROM posts WHERE conversation = ? AND seq < ?", graves[0], first.Int64+buryRows)
			return err
		})
	})
	return more, err
}
