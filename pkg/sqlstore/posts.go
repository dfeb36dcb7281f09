package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"parley/pkg/relay"
)

// Posts implements relay.Posts.
//
// A conversation's row has the number of its newest post. Whoever writes locks the row,
// takes the next number, and lets go when the post is there: so the order of numbers is
// the one in which posts come to be seen, and no number is left out.
type Posts struct{ s *Store }

var _ relay.Posts = (*Posts)(nil)

// conversation is what a row of conversations says.
type conversation struct {
	id      int64
	newest  int64
	creator int64  // of a group
	read    int64  // up to which the one who asks has pulled
	from    int64  // where his last pull began
	key     string // that of it
}

// errOneself means that sender and receiver are one.
var errOneself = errors.New("database: nobody writes to himself")

// fitsPost tells whether a text and the bodies of its notices can be kept.
func fitsPost(text string, notices ...[]byte) error {
	if len(text) > MaxBody {
		return fmt.Errorf("database: a post of %d bytes, %d are the most", len(text), MaxBody)
	}
	return fitsNotice(notices...)
}

// WriteTo implements relay.Posts. After an error that wraps relay.ErrUnavailable the post
// may be there. A text of more than MaxBody bytes and a notice of more than 64 KiB are
// errors of their own.
func (ps *Posts) WriteTo(ctx context.Context, sender, receiver int64, text string, body []byte) (post relay.Post, notice relay.Notice, err error) {
	if err := fitsPost(text, body); err != nil {
		return relay.Post{}, relay.Notice{}, err
	}
	if sender == receiver {
		return relay.Post{}, relay.Notice{}, errOneself
	}
	err = ps.s.change(ctx, "keep a post", func(ctx context.Context, tx *sql.Tx) error {
		c, err := ps.s.between(ctx, tx, sender, receiver, ps.s.dialect.lock)
		if errors.Is(err, sql.ErrNoRows) {
			c, err = ps.s.converse(ctx, tx, sender, receiver)
		}
		if err != nil {
			return err
		}
		if post, err = ps.s.append(ctx, tx, c, sender, text); err != nil {
			return err
		}
		notice, err = ps.s.notify(ctx, tx, []int64{receiver}, body)
		return err
	})
	if err != nil {
		return relay.Post{}, relay.Notice{}, err
	}
	return post, notice, nil
}

// between finds the conversation of two users, as one of them has it.
func (s *Store) between(ctx context.Context, db asker, user, other int64, lock string) (c conversation, err error) {
	side := sideOf(user, other)
	err = db.QueryRowContext(ctx, "SELECT id, newest, "+side+"_read, "+side+"_from, "+side+"_key FROM conversations WHERE low = ? AND high = ?"+lock,
		min(user, other), max(user, other)).Scan(&c.id, &c.newest, &c.read, &c.from, &c.key)
	return c, err
}

// sideOf is how the columns begin that say how far a user has pulled.
func sideOf(user, other int64) string {
	if user < other {
		return "low"
	}
	return "high"
}

// converse begins the conversation of two users.
func (s *Store) converse(ctx context.Context, tx *sql.Tx, user, other int64) (c conversation, err error) {
	if err := allExist(ctx, tx, distinct(user, other)); err != nil {
		return c, err
	}
	result, err := tx.ExecContext(ctx, "INSERT INTO conversations (low, high) VALUES (?, ?)", min(user, other), max(user, other))
	if faultOf(err) == taken {
		return c, errAgain // somebody else has begun it
	}
	if err != nil {
		return c, err
	}
	c.id, err = result.LastInsertId()
	return c, err
}

// append adds a post to a conversation, which the transaction has locked, or made.
func (s *Store) append(ctx context.Context, tx *sql.Tx, c conversation, sender int64, text string) (relay.Post, error) {
	var sent int64
	if err := tx.QueryRowContext(ctx, "SELECT "+s.dialect.clock).Scan(&sent); err != nil {
		return relay.Post{}, err
	}
	seq := c.newest + 1
	_, err := tx.ExecContext(ctx, "INSERT INTO posts (conversation, seq, sender, sent, size, body) VALUES (?, ?, ?, ?, ?, ?)",
		c.id, seq, sender, sent, len(text), []byte(text))
	if err != nil {
		return relay.Post{}, err
	}
	_, err = tx.ExecContext(ctx, "UPDATE conversations SET newest = ? WHERE id = ?", seq, c.id)
	return relay.Post{ID: postID(c.id, seq), Sender: sender, Text: text, Time: time.UnixMilli(sent)}, err
}

// postID names a post: no conversation has the id of one that was deleted.
func postID(conversation, seq int64) string {
	return strconv.FormatInt(conversation, 10) + "-" + strconv.FormatInt(seq, 10)
}

// WriteToGroup implements relay.Posts; see WriteTo.
func (ps *Posts) WriteToGroup(ctx context.Context, sender int64, group, text string, body []byte) (post relay.Post, notice relay.Notice, err error) {
	if err := fitsPost(text, body); err != nil {
		return relay.Post{}, relay.Notice{}, err
	}
	err = ps.s.change(ctx, "keep a post", func(ctx context.Context, tx *sql.Tx) error {
		c, members, err := ps.s.lockGroup(ctx, tx, group)
		if err != nil {
			return err
		}
		if !slices.Contains(members, sender) {
			return relay.ErrNotMember
		}
		if post, err = ps.s.append(ctx, tx, c, sender, text); err != nil {
			return err
		}
		notice, err = ps.s.notify(ctx, tx, others(members, sender), body)
		return err
	})
	if err != nil {
		return relay.Post{}, relay.Notice{}, err
	}
	return post, notice, nil
}
