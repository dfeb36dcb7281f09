package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"parley/pkg/relay"
)

// maxGroupName is how long a group's name may be, in bytes; the column has room for so
// much. Who lets people choose them has narrower limits.
const maxGroupName = 512

// Groups implements relay.Groups.
//
// All that changes a group locks its conversation first and then the tallies of users in
// ascending order: so no two wait for each other.
type Groups struct{ s *Store }

var _ relay.Groups = (*Groups)(nil)

// CreateGroup implements relay.Groups. It returns two notices always. After an error that
// wraps relay.ErrUnavailable the group may exist. A name of more than 512 bytes, a text
// of more than MaxBody and a notice of more than 64 KiB are errors of their own.
func (gs *Groups) CreateGroup(ctx context.Context, g relay.Group, first string, created, posted []byte) (relay.Group, []relay.Notice, error) {
	if err := fitsPost(first, created, posted); err != nil {
		return relay.Group{}, nil, err
	}
	if len(g.Name) > maxGroupName {
		return relay.Group{}, nil, fmt.Errorf("database: a group's name of %d bytes, %d are the most", len(g.Name), maxGroupName)
	}
	g.Members = distinct(append(slices.Clone(g.Members), g.Creator)...)
	if len(g.Members) > relay.MaxGroupMembers {
		return relay.Group{}, nil, relay.ErrTooMany
	}
	notices := make([]relay.Notice, 2)
	err := gs.s.change(ctx, "create a group", func(ctx context.Context, tx *sql.Tx) error {
		clear(notices)
		if err := allExist(ctx, tx, g.Members); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, "INSERT INTO conversations (name, creator) VALUES (?, ?)", []byte(g.Name), g.Creator)
		if faultOf(err) == taken {
			return relay.ErrGroupTaken
		}
		if err != nil {
			return err
		}
		id, err := result.LastInsertId()
		if err != nil {
			return err
		}
		if err := gs.s.addMemberships(ctx, tx, id, g.Members); err != nil {
			return err
		}
		to := others(g.Members, g.Creator)
		if notices[0], err = gs.s.notify(ctx, tx, to, created); err != nil || first == "" {
			return err
		}
		if _, err = gs.s.append(ctx, tx, conversation{id: id}, g.Creator, first); err != nil {
			return err
		}
		notices[1], err = gs.s.notify(ctx, tx, to, posted)
		return err
	})
	if err != nil {
		return relay.Group{}, nil, err
	}
	return g, notices, nil
}

// Group implements relay.Groups.
func (gs *Groups) Group(ctx context.Context, name string) (g relay.Group, err error) {
	err = gs.s.do(ctx, "find a group", func(ctx context.Context) error {
		g = relay.Group{Name: name}
		err := each(ctx, gs.s.read, func(rows *sql.Rows) error {
			var member int64
			err := rows.Scan(&g.Creator, &member)
			g.Members = append(g.Members, member)
			return err
		}, "SELECT c.creator, m.user_id FROM conversations c JOIN members m ON m.conversation = c.id WHERE c.name = ? ORDER BY m.user_id",
			[]byte(name))
		if err == nil && len(g.Members) == 0 {
			err = relay.ErrNoGroup
		}
		return err
	})
	if err != nil {
		return relay.Group{}, err
	}
	return g, nil
}

// GroupsOf implements relay.Groups.
func (gs *Groups) GroupsOf(ctx context.Context, user int64) (names []string, err error) {
	err = gs.s.do(ctx, "list groups", func(ctx context.Context) error {
		names = nil
		return each(ctx, gs.s.read, func(rows *sql.Rows) error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		}, "SELECT c.name FROM members m JOIN conversations c ON c.id = m.conversation WHERE m.user_id = ? ORDER BY c.name", user)
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

// lockGroup keeps others from a group until the transaction ends, and returns its
// members.
func (s *Store) lockGroup(ctx context.Context, tx *sql.Tx, name string) (c conversation, members []int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT id, newest, creator FROM conversations WHERE name = ?"+s.dialect.lock, []byte(name)).
		Scan(&c.id, &c.newest, &c.creator)
	if err != nil {
		return c, nil, noRows(err, relay.ErrNoGroup)
	}
	members, err = ids(ctx, tx, "SELECT user_id FROM members WHERE conversation = ? ORDER BY user_id", c.id)
	return c, members, err
}

// AddMember implements relay.Groups. After an error that wraps relay.ErrUnavailable it
// may have been done.
func (gs *Groups) AddMember(ctx context.Context, name string, by, user int64, body []byte) (g relay.Group, notice relay.Notice, err error) {
	if err := fitsNotice(body); err != nil {
		return relay.Group{}, relay.Notice{}, err
	}
	err = gs.s.change(ctx, "add a member", func(ctx context.Context, tx *sql.Tx) error {
		notice = relay.Notice{}
		c, members, err := gs.s.lockGroup(ctx, tx, name)
		if err != nil {
			return err
		}
		g = relay.Group{Name: name, Creator: c.creator, Members: members}
		if !slices.Contains(members, by) {
			return relay.ErrNotMember
		}
		if slices.Contains(members, user) {
			return nil
		}
		if err := allExist(ctx, tx, []int64{user}); err != nil {
			return err
		}
		if len(members) >= relay.MaxGroupMembers {
			return relay.ErrTooMany
		}
		if err := gs.s.addMemberships(ctx, tx, c.id, []int64{user}); err != nil {
			return err
		}
		g.Members = distinct(append(members, user)...)
		notice, err = gs.s.notify(ctx, tx, others(g.Members, by), body)
		return err
	})
	if err != nil {
		return relay.Group{}, relay.Notice{}, err
	}
	return g, notice, nil
}

// Leave implements relay.Groups. After an error that wraps relay.ErrUnavailable it may
// have been done. The posts of a deleted group that had many are deleted from the
// database later on; nobody finds them.
func (gs *Groups) Leave(ctx context.Context, name string, user int64) (deleted bool, err error) {
	err = gs.s.change(ctx, "leave a group", func(ctx context.Context, tx *sql.Tx) error {
		deleted = false
		c, members, err := gs.s.lockGroup(ctx, tx, name)
		if err != nil {
			return err
		}
		if !slices.Contains(members, user) {
			return relay.ErrNotMember
		}
		if user != c.creator {
			return gs.s.dropMemberships(ctx, tx, c.id, []int64{user})
		}
		deleted = true
		if err := gs.s.dropMemberships(ctx, tx, c.id, members); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM conversations WHERE id = ?", c.id); err != nil {
			return err
		}
		return gs.s.bury(ctx, tx, c)
	})
	if err != nil {
		return false, err
	}
	return deleted, nil
}
