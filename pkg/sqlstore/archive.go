package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/pkg/relay"
)

const (
	// MaxBody is how long the body of an archived message may be, in bytes. The
	// databases set the bounds: a statement has to stay below 16 MiB
	// (max_allowed_packet), and a value below a tenth of InnoDB's redo log, which
	// has 96 MiB unless told otherwise.
	MaxBody = 8 << 20
	// maxTopic and maxSender are how long a message's Topic and From may be, in
	// bytes; the columns have room for so much.
	maxTopic  = 512
	maxSender = 512

	// chunkRows and chunkBytes are what one INSERT holds at most, but for a single
	// message that is longer.
	chunkRows  = 200
	chunkBytes = 4 << 20
	// rowBytes is what a message counts for besides its body: the columns' most.
	rowBytes = 2 << 10

	// maxPage is the most messages that one call returns, however many are asked for.
	maxPage = 10_000
)

// Archive implements relay.Archive.
type Archive struct{ s *Store }

var _ relay.Archive = (*Archive)(nil)

// Store implements relay.Archive, in one transaction. Each of its statements, and its
// end, may take QueryTimeout. Of two messages at one place the first counts. A message
// without a place, with a body of more than MaxBody bytes, or with a topic or sender
// of more than 512, is an error of its own, and nothing is stored.
func (a *Archive) Store(ctx context.Context, messages []relay.Message) error {
	for i := range messages {
		if err := fits(&messages[i]); err != nil {
			return fmt.Errorf("database: archive: %w", err)
		}
	}
	if len(messages) == 0 {
		return a.s.usable()
	}
	// In the order of the primary key two nodes that store the same do not block
	// each other crosswise, and InnoDB appends.
	sorted := slices.Clone(messages)
	slices.SortStableFunc(sorted, func(x, y relay.Message) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), x.ID.Compare(y.ID))
	})
	return a.s.attempt(ctx, "archive", func(ctx context.Context) error { return a.store(ctx, sorted) })
}

func fits(m *relay.Message) error {
	switch {
	case m.ID.IsZero():
		return errors.New("a message has no place in its topic")
	case len(m.Body) > MaxBody:
		return fmt.Errorf("a message of %d bytes, %d are the most", len(m.Body), MaxBody)
	case len(m.Topic) > maxTopic:
		return fmt.Errorf("a topic of %d bytes, %d are the most", len(m.Topic), maxTopic)
	case len(m.From) > maxSender:
		return fmt.Errorf("a sender of %d bytes, %d are the most", len(m.From), maxSender)
	}
	return nil
}

func (a *Archive) store(ctx context.Context, messages []relay.Message) error {
	// The transaction lives until this context ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(QueryTimeout, cancel)
	tx, err := a.s.write.BeginTx(ctx, nil)
	if !late.Stop() {
		err = context.DeadlineExceeded
	}
	if err != nil {
		return err
	}
	for len(messages) > 0 {
		n := chunk(messages)
		if err := a.insert(ctx, tx, messages[:n]); err != nil {
			// What is wrong is known; a transaction that cannot be undone now ends
			// with its connection.
			_ = tx.Rollback()
			return err
		}
		messages = messages[n:]
	}
	return tx.Commit() // bounded by the connection's time limit
}

// chunk is how many of the messages go into one statement.
func chunk(messages []relay.Message) int {
	bytes := 0
	for i := range messages[:min(len(messages), chunkRows)] {
		bytes += rowBytes + len(messages[i].Body)
		if i > 0 && bytes > chunkBytes {
			return i
		}
	}
	return min(len(messages), chunkRows)
}

func (a *Archive) insert(ctx context.Context, tx *sql.Tx, messages []relay.Message) error {
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	const row = "(?, ?, ?, ?, ?, ?)"
	var query strings.Builder
	query.WriteString("INSERT INTO archive (topic, millis, seq, sender, sent, body) VALUES ")
	args := make([]any, 0, strings.Count(row, "?")*len(messages))
	for i := range messages {
		if i > 0 {
			query.WriteString(", ")
		}
		query.WriteString(row)
		m := &messages[i]
		body := m.Body
		if body == nil {
			body = []byte{} // nil would be NULL
		}
		args = append(args, []byte(m.Topic), a.s.dialect.bind(m.ID.Millis), a.s.dialect.bind(m.ID.Seq),
			[]byte(m.From), nanos(m.Time), body)
	}
	query.WriteString(a.s.dialect.keep)
	_, err := tx.ExecContext(ctx, query.String(), args...)
	return err
}

// Newest implements relay.Records. Intact is zero: what was lost before it came here
// is the journal's concern. At most 10,000 messages are returned.
func (a *Archive) Newest(ctx context.Context, t relay.Topic, n int) (relay.Recent, error) {
	messages, more, err := a.Before(ctx, t, relay.ID{}, n)
	return relay.Recent{Messages: messages, More: more}, err
}

// Before implements relay.Records. At most 10,000 messages are returned. It takes as
// long for an old page as for a new one.
func (a *Archive) Before(ctx context.Context, t relay.Topic, before relay.ID, n int) (messages []relay.Message, more bool, err error) {
	n = min(max(n, 0), maxPage)
	err = a.s.do(ctx, "read the archive", func(ctx context.Context) (err error) {
		messages, err = a.page(ctx, t, before, n+1)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if len(messages) > n {
		return messages[:n], true, nil
	}
	return messages, false, nil
}

// pageQuery is how a page is read, with its arguments.
func (d *dialect) pageQuery(t relay.Topic, before relay.ID, n int) (query string, args []any) {
	query, args = "SELECT millis, seq, sender, sent, body FROM archive WHERE topic = ?", []any{[]byte(t)}
	if !before.IsZero() {
		query += d.before
		args = append(args, d.bindBefore(d.bind(before.Millis), d.bind(before.Seq))...)
	}
	return query + " ORDER BY millis DESC, seq DESC LIMIT ?", append(args, n)
}

// page reads up to n messages before a place, newest first.
func (a *Archive) page(ctx context.Context, t relay.Topic, before relay.ID, n int) ([]relay.Message, error) {
	query, args := a.s.dialect.pageQuery(t, before, n)
	rows, err := a.s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var messages []relay.Message
	for rows.Next() {
		m := relay.Message{Topic: t}
		var sent int64
		if err := rows.Scan(a.s.dialect.scan(&m.ID.Millis), a.s.dialect.scan(&m.ID.Seq), &m.From, &sent, &m.Body); err != nil {
			return nil, err
		}
		m.Time = moment(sent)
		messages = append(messages, m)
	}
	return messages, rows.Err()
}

// Has implements relay.Records.
func (a *Archive) Has(ctx context.Context, t relay.Topic, id relay.ID) (has bool, err error) {
	err = a.s.do(ctx, "look into the archive", func(ctx context.Context) error {
		return a.s.read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM archive WHERE topic = ? AND millis = ? AND seq = ?)",
			[]byte(t), a.s.dialect.bind(id.Millis), a.s.dialect.bind(id.Seq)).Scan(&has)
	})
	return has, err
}

// nanos and moment keep a time to the nanosecond, from 1678 to 2262, and the zero one.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
