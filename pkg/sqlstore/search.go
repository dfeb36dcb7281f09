package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"strings"

	"parley/pkg/relay"
)

// maxFound is the most accounts that one call returns.
const maxFound = 1000

// place is where a page of a search ended, at a row of name_parts.
type place struct {
	stage int
	part  string
	user  int64
}

// pack makes of a place what is given out; unpack reads it again.
func (p *place) pack() []byte {
	packed := binary.AppendUvarint(nil, uint64(p.stage))
	packed = binary.AppendUvarint(packed, uint64(p.user))
	return append(packed, p.part...)
}

// unpack reads a place of the search for a text, or says relay.ErrBadPlace.
func unpack(packed []byte, text string) (p place, err error) {
	stage, n := binary.Uvarint(packed)
	if n <= 0 || stage > uint64(len(text)) {
		return p, relay.ErrBadPlace
	}
	user, m := binary.Uvarint(packed[n:])
	if m <= 0 {
		return p, relay.ErrBadPlace
	}
	p = place{stage: int(stage), part: string(packed[n+m:]), user: int64(user)}
	if p.user <= 0 || len(p.part) > maxPart || !strings.HasPrefix(p.part, text) || !bytes.Equal(p.pack(), packed) {
		return p, relay.ErrBadPlace
	}
	return p, nil
}

// maxPart is the length of the longest part of a name, in bytes: the change of case may
// make three of one.
const maxPart = 3 * maxNameBytes

// Find implements relay.Directory: relay.ErrBadPlace when after is not a place of the
// search for this text. At most 1,000 accounts are returned. Upper and lower case are
// those of Unicode, character by character.
func (d *Directory) Find(ctx context.Context, text string, after []byte, n int) (found []relay.User, next []byte, err error) {
	text = fold(text)
	n = min(max(n, 1), maxFound)
	from := place{stage: -1}
	if after != nil {
		if from, err = unpack(after, text); err != nil {
			return nil, nil, err
		}
	}
	if text == "" || len(text) > maxPart {
		return nil, nil, d.s.usable()
	}
	err = d.s.do(ctx, "search", func(ctx context.Context) error {
		found, next = nil, nil
		at, err := places(ctx, d.s.read, text, from, n+1)
		if err != nil {
			return err
		}
		if len(at) > n {
			at = at[:n]
			next = at[n-1].pack()
		}
		found, err = d.s.named(ctx, text, at)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return found, next, nil
}

// scan is one query of a search, with its arguments.
type scan struct {
	query string
	args  []any
}

// scans are the queries that together give the rows in which a text is found after a
// place, in order, if no row has a later stage than the last; each reads one range of the
// primary key, and no row twice.
func scans(text string, from place, last int) (all []scan) {
	const head, tail = "SELECT stage, part, user_id FROM name_parts WHERE stage = ? AND ", " ORDER BY part, user_id LIMIT ?"
	const same = " ORDER BY user_id LIMIT ?"
	low, high := []byte(text), append([]byte(text), 0xff) // no text in UTF-8 has this byte
	if from.stage >= 0 {
		all = append(all,
			scan{head + "part = ? AND user_id > ?" + same, []any{from.stage, []byte(from.part), from.user}},
			scan{head + "part > ? AND part < ?" + tail, []any{from.stage, []byte(from.part), high}})
	}
	for stage := from.stage + 1; stage <= min(last, len(text)); stage++ {
		all = append(all, scan{head + "part >= ? AND part < ?" + tail, []any{stage, low, high}})
	}
	return all
}

// places finds up to n places after one.
func places(ctx context.Context, db asker, text string, from place, n int) (found []place, err error) {
	// Names in which much is repeated are rare, and so are late stages.
	var last sql.NullInt64
	if err := db.QueryRowContext(ctx, "SELECT MAX(stage) FROM name_parts").Scan(&last); err != nil {
		return nil, err
	}
	for _, sc := range scans(text, from, int(last.Int64)) {
		if len(found) == n {
			break
		}
		err := each(ctx, db, func(rows *sql.Rows) error {
			var p place
			err := rows.Scan(&p.stage, &p.part, &p.user)
			found = append(found, p)
			return err
		}, sc.query, append(sc.args, n-len(found))...)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// named are the accounts at the places, but for those that were renamed meanwhile.
func (s *Store) named(ctx context.Context, text string, places []place) (found []relay.User, err error) {
	if len(places) == 0 {
		return nil, nil
	}
	var users []int64
	for _, p := range places {
		users = append(users, p.user)
	}
	names := map[int64]string{}
	err = each(ctx, s.read, func(rows *sql.Rows) error {
		var id int64
		var name string
		err := rows.Scan(&id, &name)
		names[id] = name
		return err
	}, "SELECT id, username FROM users WHERE id IN ("+list("?", len(users))+")", anys(users)...)
	for _, p := range places {
		if name := names[p.user]; strings.Contains(fold(name), text) {
			found = append(found, relay.User{ID: p.user, Username: name})
		}
	}
	return found, err
}
