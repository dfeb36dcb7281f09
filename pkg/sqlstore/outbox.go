package sqlstore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"parley/pkg/relay"
)

const (
	// maxNotice is how long the body of a notice may be, in bytes; the column has room
	// for so much.
	maxNotice = 1<<16 - 1
	// maxPending is the most notices that one call returns, or drops in one statement.
	maxPending = 1000
	// idBytes is the length of one recipient's id.
	idBytes = 8
)

// Outbox implements relay.Outbox.
type Outbox struct{ s *Store }

var _ relay.Outbox = (*Outbox)(nil)

const pendingQuery = "SELECT id, recipients, body FROM outbox WHERE made <= ? ORDER BY made, id LIMIT ?"

// Pending implements relay.Outbox. The age is measured by the clock of the database. At
// most 1,000 notices are returned.
func (o *Outbox) Pending(ctx context.Context, age time.Duration, n int) (all []relay.Notice, err error) {
	n = min(max(n, 0), maxPending)
	err = o.s.do(ctx, "look into the outbox", func(ctx context.Context) error {
		all = nil
		var now int64
		if err := o.s.read.QueryRowContext(ctx, "SELECT "+o.s.dialect.clock).Scan(&now); err != nil {
			return err
		}
		return each(ctx, o.s.read, func(rows *sql.Rows) error {
			var notice relay.Notice
			var to []byte
			if err := rows.Scan(&notice.ID, &to, &notice.Body); err != nil {
				return err
			}
			notice.To = recipients(to)
			all = append(all, notice)
			return nil
		}, pendingQuery, now-age.Milliseconds(), n)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Done implements relay.Outbox.
func (o *Outbox) Done(ctx context.Context, ids ...int64) error {
	for some := range slices.Chunk(distinct(slices.Clone(ids)...), maxPending) {
		err := o.s.do(ctx, "empty the outbox", func(ctx context.Context) error {
			_, err := o.s.write.ExecContext(ctx, "DELETE FROM outbox WHERE id IN ("+list("?", len(some))+")", anys(some)...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return o.s.usable()
}

// notify keeps a notice; without anybody to tell it is nothing.
func (s *Store) notify(ctx context.Context, tx *sql.Tx, to []int64, body []byte) (relay.Notice, error) {
	if len(to) == 0 {
		return relay.Notice{}, nil
	}
	var packed []byte
	for _, id := range to {
		packed = binary.BigEndian.AppendUint64(packed, uint64(id))
	}
	if body == nil {
		body = []byte{} // nil would be NULL
	}
	result, err := tx.ExecContext(ctx, "INSERT INTO outbox (made, recipients, body) VALUES ("+s.dialect.clock+", ?, ?)", packed, body)
	if err != nil {
		return relay.Notice{}, err
	}
	id, err := result.LastInsertId()
	return relay.Notice{ID: id, To: to, Body: body}, err
}

// recipients unpacks what notify has packed.
func recipients(packed []byte) (to []int64) {
	for ; len(packed) >= idBytes; packed = packed[idBytes:] {
		to = append(to, int64(binary.BigEndian.Uint64(packed)))
	}
	return to
}

// fitsNotice tells whether bodies of notices can be kept.
func fitsNotice(bodies ...[]byte) error {
	for _, body := range bodies {
		if len(body) > maxNotice {
			return fmt.Errorf("database: a notice of %d bytes, %d are the most", len(body), maxNotice)
		}
	}
	return nil
}

// others are all ids but one.
func others(all []int64, but int64) (some []int64) {
	for _, id := range all {
		if id != but {
			some = append(some, id)
		}
	}
	return some
}
