package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"parley/pkg/relay"
)

// Pull implements relay.Posts. At most 10,000 posts are returned, and those that are more
// are not read. A key of more than 128 bytes is an error of its own.
func (ps *Posts) Pull(ctx context.Context, user, other int64, key string, n, bytes int) (posts []relay.Post, more bool, err error) {
	if len(key) > relay.MaxPullKey {
		return nil, false, fmt.Errorf("database: the key of a pull has %d bytes, %d are the most", len(key), relay.MaxPullKey)
	}
	n = min(max(n, 1), maxPage)
	err = ps.s.do(ctx, "pull posts", func(ctx context.Context) error {
		posts, more = nil, false
		// Most of those who ask find nothing, and need no transaction for that.
		c, err := ps.s.between(ctx, ps.s.read, user, other, "")
		if errors.Is(err, sql.ErrNoRows) || err == nil && c.read == c.newest && !c.pulledBy(key) {
			return nil
		}
		if err != nil {
			return err
		}
		return ps.s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
			posts, more, err = ps.s.pull(ctx, tx, user, other, key, n, bytes)
			return err
		})
	})
	if err != nil {
		return nil, false, err
	}
	return posts, more, nil
}

// pulledBy tells whether a key is that of the last pull.
func (c *conversation) pulledBy(key string) bool { return key != "" && key == c.key }

func (s *Store) pull(ctx context.Context, tx *sql.Tx, user, other int64, key string, n, bytes int) ([]relay.Post, bool, error) {
	c, err := s.between(ctx, tx, user, other, s.dialect.lock)
	if err != nil {
		return nil, false, err
	}
	if c.pulledBy(key) {
		posts, err := readPosts(ctx, tx, c.id, s.dialect.pullPosts(), c.id, other, c.from, c.read)
		if err != nil {
			return nil, false, err
		}
		var more bool
		err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM posts"+s.dialect.bySender+" WHERE conversation = ? AND sender = ? AND seq > ?)",
			c.id, other, c.read).Scan(&more)
		return posts, more, err
	}
	// First how many go together, by an index that has their sizes, then these.
	end, count, more := c.read, 0, false
	err = each(ctx, tx, func(rows *sql.Rows) error {
		var seq int64
		var size int
		if err := rows.Scan(&seq, &size); err != nil {
			return err
		}
		if more = more || count > 0 && (count == n || size > bytes); !more {
			end, count, bytes = seq, count+1, bytes-size
		}
		return nil
	}, s.dialect.pullSizes(), c.id, other, c.read, n+1)
	if err != nil {
		return nil, false, err
	}
	var posts []relay.Post
	if count > 0 {
		posts, err = readPosts(ctx, tx, c.id, s.dialect.pullPosts(), c.id, other, c.read, end)
	}
	if !more {
		end = c.newest // past one's own
	}
	side := sideOf(user, other)
	switch {
	case err != nil || end == c.read:
	case count == 0: // nothing but one's own: what was pulled last can still be asked for
		_, err = tx.ExecContext(ctx, "UPDATE conversations SET "+side+"_read = ? WHERE id = ?", end, c.id)
	default:
		_, err = tx.ExecContext(ctx, "UPDATE conversations SET "+side+"_read = ?, "+side+"_from = ?, "+side+"_key = ? WHERE id = ?",
			end, c.read, []byte(key), c.id)
	}
	return posts, more, err
}

// The queries of a pull: how long the next posts are, and they themselves up to one.
func (d *dialect) pullSizes() string {
	return "SELECT seq, size FROM posts" + d.bySender + " WHERE conversation = ? AND sender = ? AND seq > ? ORDER BY seq LIMIT ?"
}

func (d *dialect) pullPosts() string {
	return "SELECT seq, sender, sent, body FROM posts" + d.bySender +
		" WHERE conversation = ? AND sender = ? AND seq > ? AND seq <= ? ORDER BY seq"
}

const pagePosts = "SELECT seq, sender, sent, body FROM posts WHERE conversation = ? AND seq > ? AND seq <= ? ORDER BY seq DESC"

func readPosts(ctx context.Context, db asker, conversation int64, query string, args ...any) (posts []relay.Post, err error) {
	err = each(ctx, db, func(rows *sql.Rows) error {
		var seq, sent int64
		var p relay.Post
		if err := rows.Scan(&seq, &p.Sender, &sent, &p.Text); err != nil {
			return err
		}
		p.ID, p.Time = postID(conversation, seq), time.UnixMilli(sent)
		posts = append(posts, p)
		return nil
	}, query, args...)
	return posts, err
}

// Page implements relay.Posts. At most 10,000 posts are returned. It takes as long for an
// old page as for a new one.
func (ps *Posts) Page(ctx context.Context, user, other int64, index, n int) (posts []relay.Post, more bool, err error) {
	err = ps.s.do(ctx, "read a page", func(ctx context.Context) error {
		c, err := ps.s.between(ctx, ps.s.read, user, other, "")
		if errors.Is(err, sql.ErrNoRows) {
			posts, more = nil, false
			return nil
		}
		if err != nil {
			return err
		}
		posts, more, err = ps.s.page(ctx, c, index, n)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return posts, more, nil
}

// GroupPage implements relay.Posts; see Page.
func (ps *Posts) GroupPage(ctx context.Context, user int64, group string, index, n int) (posts []relay.Post, more bool, err error) {
	err = ps.s.do(ctx, "read a page", func(ctx context.Context) error {
		var c conversation
		var member bool
		err := ps.s.read.QueryRowContext(ctx, "SELECT id, newest, EXISTS (SELECT 1 FROM members WHERE conversation = id AND user_id = ?) "+
			"FROM conversations WHERE name = ?", user, []byte(group)).Scan(&c.id, &c.newest, &member)
		if err != nil {
			return noRows(err, relay.ErrNoGroup)
		}
		if !member {
			return relay.ErrNotMember
		}
		posts, more, err = ps.s.page(ctx, c, index, n)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return posts, more, nil
}

// page reads a page: since no number is left out, the numbers tell where it is.
func (s *Store) page(ctx context.Context, c conversation, index, n int) (posts []relay.Post, more bool, err error) {
	first, last := pageOf(c.newest, index, n)
	if last == 0 {
		return nil, false, nil
	}
	posts, err = readPosts(ctx, s.read, c.id, pagePosts, c.id, first-1, last)
	if err == nil && int64(len(posts)) != last-first+1 {
		err = errAgain // the group was deleted meanwhile
	}
	return posts, first > 1, err
}

// pageOf are the numbers of the first and the last post on a page, 1 and 0 when it is
// empty.
func pageOf(newest int64, index, n int) (first, last int64) {
	size := int64(min(max(n, 1), maxPage))
	if index < 0 || int64(index) > newest/size {
		return 1, 0
	}
	last = newest - int64(index)*size
	return max(last-size+1, 1), last
}
