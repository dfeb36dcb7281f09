package redisbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

// coverage is for how long after a position's moment the absence of any trace in
// Redis means that nothing was published: Redis knows the last message of a topic
// for headLife. The difference is for clocks that are wrong, by an hour even.
const coverage = 30 * time.Minute

// page is a relay.Page with what healing needs besides.
type page struct {
	relay.Page
	follows bool     // it does, if it is of the same history
	before  relay.ID // the place right before the first message, or where the page ends when it has none
}

// read asks for what a topic keeps after a place. p must be a client, a
// connection or a pipeline that greet has seen; the answer is for page.
func (l *link) read(ctx context.Context, p redis.Scripter, topic relay.Topic, after relay.ID, n int) *redis.Cmd {
	return p.EvalSha(ctx, readScript.hash, []string{l.keys.stream(topic), l.keys.head(topic), l.keys.epoch()}, placeText(after), strconv.Itoa(n))
}

var errHistory = errors.New("redis answers a read of history with something else")

// page makes a page of what read was answered with.
func (l *link) page(topic relay.Topic, after relay.Position, n int, cmd *redis.Cmd) (p page, err error) {
	reply, err := cmd.Slice()
	if err != nil {
		return p, err
	}
	if len(reply) != 4 {
		return p, errHistory
	}
	epochText, ok1 := reply[0].(string)
	headText, ok2 := reply[1].(string)
	found, ok3 := reply[2].(int64)
	entries, ok4 := reply[3].([]any)
	head, ok5 := parsePlace(headText)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return p, errHistory
	}
	p.Position = relay.Position{Epoch: parseHistory(epochText).epoch, ID: after.ID, At: time.Now()}
	unread := 0
	for i, e := range entries {
		m, prev, readable, err := parseEntry(topic, e)
		if err != nil {
			return p, err
		}
		if i == 0 {
			p.before = prev
		}
		p.Position.ID = m.ID
		if !readable {
			unread++
			continue
		}
		p.Messages = append(p.Messages, m)
	}
	if unread > 0 {
		l.metrics.undecodable.Add(float64(unread))
		l.log.Warn("unreadable messages in a topic's history", "topic", topic, "messages", unread)
	}
	if len(entries) == 0 {
		if !head.IsZero() || after.Epoch != p.Position.Epoch {
			p.Position.ID = head
		}
		p.before = p.Position.ID
	}
	p.More = len(entries) == n
	p.follows = unread == 0 && (found == 1 || followsOn(after, p, len(entries) == 0, head))
	p.Complete = p.follows && after.Epoch != 0 && after.Epoch == p.Position.Epoch
	if p.Position.Epoch == 0 { // flushed just now: what comes next has another epoch
		p.Position.Epoch = l.epoch.Load()
	}
	return p, nil
}

// followsOn tells whether a page follows a position that is not in the stream any
// more, or that is before everything.
func followsOn(after relay.Position, p page, empty bool, head relay.ID) bool {
	before, known := head, !head.IsZero()
	if !empty {
		before, known = p.before, !p.before.IsZero()
	}
	if known {
		return before == after.ID
	}
	if traceless(after.ID, p, empty) {
		return false
	}
	// Redis knows of nothing before the page, and would for headLife.
	return time.Since(after.At) < coverage
}

// traceless tells whether Redis should still know of a place and does not: then keys
// were deleted or evicted, and what came after the place with them.
func traceless(place relay.ID, p page, empty bool) bool {
	switch {
	case place.IsZero():
		return false
	case empty: // by this node's clock, which may be wrong by an hour
		return time.Since(time.UnixMilli(int64(place.Millis))) < headLife/2
	}
	return p.Messages[0].ID.Millis < place.Millis+uint64(headLife.Milliseconds())
}

// parseEntry reads an entry of a stream. One that is not readable (it is from a
// newer version, or from somebody else) has an id all the same.
func parseEntry(topic relay.Topic, entry any) (m relay.Message, prev relay.ID, readable bool, err error) {
	e, ok := entry.([]any)
	if !ok || len(e) != 2 {
		return m, prev, false, errHistory
	}
	idText, _ := e[0].(string)
	id, ok := parsePlace(idText)
	if !ok || id.IsZero() {
		return m, prev, false, errHistory
	}
	m = relay.Message{ID: id, Topic: topic}
	fields, _ := e[1].([]any)
	if len(fields) < 4 {
		return m, prev, false, nil
	}
	prevText, ok1 := fields[1].(string)
	envelope, ok2 := fields[3].(string)
	prev, ok3 := parsePlace(prevText)
	if _, err := parseEnvelope(envelope, &m); err != nil || !ok1 || !ok2 || !ok3 {
		return m, prev, false, nil
	}
	m.ID = id // whatever the envelope says
	return m, prev, true, nil
}

// Since implements relay.History.
func (b *Bus) Since(ctx context.Context, t relay.Topic, after relay.Position, n int) (relay.Page, error) {
	l := b.link(t)
	var p page
	err := l.steadily(ctx, func() error {
		cmd := l.read(ctx, l.ask, t, after.ID, n)
		var err error
		p, err = l.page(t, after, n, cmd)
		return err
	})
	return p.Page, err
}

// Before implements relay.History.
func (b *Bus) Before(ctx context.Context, t relay.Topic, before relay.ID, n int) (messages []relay.Message, more bool, err error) {
	l := b.link(t)
	for {
		err = l.steadily(ctx, func() error {
			to := "+"
			if !before.IsZero() {
				to = "(" + before.String()
			}
			cmd := redis.NewSliceCmd(ctx, "xrevrange", l.keys.stream(t), to, "-", "count", n+1)
			if err := l.ask.Process(ctx, cmd); err != nil {
				return err
			}
			messages, more = nil, len(cmd.Val()) > n
			for _, e := range cmd.Val()[:min(n, len(cmd.Val()))] {
				m, _, readable, err := parseEntry(t, e)
				if err != nil {
					return err
				}
				if before = m.ID; readable {
					messages = append(messages, m)
				}
			}
			return nil
		})
		if err != nil || len(messages) > 0 || !more {
			return messages, more, err
		}
		// Nothing that can be read; who pages could not go on from there.
	}
}

// steadily asks Redis something once this node hears it, and again for as long as
// Redis refuses for the moment and ctx allows.
func (l *link) steadily(ctx context.Context, ask func() error) error {
	return l.insist(ctx, func() error {
		if err := l.hearing.wait(ctx); err != nil {
			return err
		}
		return ask()
	})
}

// insist asks Redis something, and again for as long as Redis refuses for the moment
// and ctx allows.
func (l *link) insist(ctx context.Context, ask func() error) error {
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		err := ask()
		if err == nil {
			return nil
		}
		if !refused(err) || !sleep(ctx, pause) {
			return fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
		}
		l.seeTo(ctx, err)
	}
}

// seeTo does what helps against an error with which Redis has refused something.
func (l *link) seeTo(ctx context.Context, err error) {
	switch {
	case err == nil || !refused(err):
	case noScript(err):
		_ = l.loadScripts(ctx, l.ask) // if it fails, so does what comes next
	default:
		_, _ = l.master.follow(ctx) // the same
	}
}
