package redisbus

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

var _ relay.Journal = (*Bus)(nil)

// appending is what a publication has besides that is for a journal: messages that
// belong together.
type appending struct {
	note      string   // key
	most      string   // messages that the topic may hold before
	envelopes []string // which together are the payload
	cmd       *redis.StringCmd
}

// Append implements relay.Journal. Options.Keeps must name the topic. Zero times
// become now, and bodies are copied. All bodies together count as one message of that
// size against what may wait for Redis. An error that is no relay.ErrFull does not
// tell whether the messages went out. Nothing must be published to the topic with a
// relay.Retention besides: all of it would expire.
func (b *Bus) Append(ms []relay.Message, most int64, a relay.Acker, token relay.Token) {
	t, now := ms[0].Topic, time.Now()
	l := b.link(t)
	name, size := len(l.keys.prefix)+len(channelKind)+len(t), 0
	for i := range ms {
		size += envelopeSize(&ms[i])
	}
	// One allocation holds the names and the envelopes.
	buf := make([]byte, 0, 4*name+size)
	for _, kind := range []string{channelKind, streamKind, headKind, noteKind} {
		buf = l.keys.append(buf, kind, t)
	}
	ends := make([]int, len(ms))
	for i := range ms {
		m := ms[i]
		if m.Time.IsZero() {
			m.Time = now
		}
		buf = appendEnvelope(buf, &m)
		ends[i] = len(buf)
	}
	all := unsafe.String(unsafe.SliceData(buf), len(buf)) // not changed any more
	p := publication{channel: all[:name], stream: all[name : 2*name], head: all[2*name : 3*name], payload: all[4*name:],
		at: now, acker: a, token: token}
	p.journal = &appending{note: all[3*name : 4*name], most: strconv.FormatInt(most, 10), envelopes: make([]string, len(ms))}
	begin := 4 * name
	for i, end := range ends {
		p.journal.envelopes[i] = all[begin:end]
		begin = end
	}
	l.laneOf(t).enqueue(p)
}

// appendCmd returns the command for a publication of a journal. The epoch is what this
// node knows, not what Redis has at that moment: then its key would have to be on the
// same master, and while a slot is being moved it may not be. A node that is behind
// only has Intact told too late.
func (l *lane) appendCmd(p *publication) redis.Cmder {
	args := make([]any, 0, 9+len(p.journal.envelopes))
	args = append(args, "evalsha", l.append.hash, 3, p.stream, p.head, p.journal.note,
		p.channel, p.journal.most, strconv.FormatUint(l.epoch(), 10))
	for _, e := range p.journal.envelopes {
		args = append(args, e)
	}
	p.journal.cmd = redis.NewStringCmd(context.Background(), args...)
	return p.journal.cmd
}

// Newest implements relay.Journal. Like all reads of a journal it waits while this
// node does not hear Redis, as long as ctx allows. Of a topic of which Redis has no
// trace, Intact is the present time if Redis has lost what it held since this node
// started: nobody can know what there was.
func (b *Bus) Newest(ctx context.Context, t relay.Topic, n int) (recent relay.Recent, err error) {
	l := b.link(t)
	keys := []string{l.keys.stream(t), l.keys.head(t), l.keys.note(t), l.keys.epoch()}
	err = l.steadily(ctx, func() error {
		reply, err := l.ask.EvalSha(ctx, journalScript.hash, keys, "newest", n+1).Slice()
		if err != nil {
			return err
		}
		recent, err = l.recent(t, n, reply)
		return err
	})
	if err == nil && len(recent.Messages) == 0 && recent.More { // none that can be read
		recent.Messages, recent.More, err = b.Before(ctx, t, relay.ID{}, n)
	}
	return recent, err
}

// recent reads the answer to a question for the newest n messages.
func (l *link) recent(t relay.Topic, n int, reply []any) (recent relay.Recent, err error) {
	if len(reply) != 5 {
		return recent, errHistory
	}
	entries, ok := reply[0].([]any)
	texts := texts(reply[1:])
	head, ok1 := parsePlace(texts[0])
	millis, err := strconv.ParseUint(texts[3], 10, 64)
	if !ok || !ok1 || err != nil {
		return recent, errHistory
	}
	recent.More = len(entries) > n
	recent.Messages, err = messagesOf(t, entries[:min(n, len(entries))])
	if err != nil {
		return recent, err
	}
	if recent.Begins = len(entries) == 0 && head.IsZero(); len(entries) > 0 && !recent.More {
		_, prev, _, err := parseEntry(t, entries[len(entries)-1])
		recent.Begins = err == nil && prev.IsZero()
	}
	noted, first, _ := strings.Cut(texts[1], " ")
	broken, _ := parsePlace(first)
	epoch, _, _ := strings.Cut(texts[2], " ")
	switch {
	case texts[1] != "" && noted == epoch:
		recent.Intact = broken
	case !head.IsZero():
		recent.Intact = next(head)
	case !broken.IsZero() || l.former.Load() != 0 || epoch != strconv.FormatUint(l.epoch.Load(), 10):
		recent.Intact = relay.ID{Millis: millis}
	}
	return recent, nil
}

// next is the first place after another.
func next(id relay.ID) relay.ID {
	if id.Seq == math.MaxUint64 {
		return relay.ID{Millis: id.Millis + 1}
	}
	return relay.ID{Millis: id.Millis, Seq: id.Seq + 1}
}

// messagesOf are the readable ones of a stream's entries.
func messagesOf(t relay.Topic, entries []any) (messages []relay.Message, err error) {
	for _, e := range entries {
		m, _, readable, err := parseEntry(t, e)
		if err != nil {
			return nil, err
		}
		if readable {
			messages = append(messages, m)
		}
	}
	return messages, nil
}

// Has implements relay.Journal.
func (b *Bus) Has(ctx context.Context, t relay.Topic, id relay.ID) (has bool, err error) {
	l := b.link(t)
	err = l.steadily(ctx, func() error {
		cmd := redis.NewSliceCmd(ctx, "xrange", l.keys.stream(t), id.String(), id.String())
		if err := l.ask.Process(ctx, cmd); err != nil {
			return err
		}
		has = len(cmd.Val()) > 0
		return nil
	})
	return has, err
}

// Oldest implements relay.Journal.
func (b *Bus) Oldest(ctx context.Context, t relay.Topic, n int) (messages []relay.Message, total int64, err error) {
	l := b.link(t)
	err = l.steadily(ctx, func() error {
		reply, err := l.ask.EvalSha(ctx, journalScript.hash, []string{l.keys.stream(t)}, "oldest", n).Slice()
		if err != nil {
			return err
		}
		if len(reply) != 2 {
			return errHistory
		}
		entries, ok1 := reply[0].([]any)
		count, ok2 := reply[1].(int64)
		if !ok1 || !ok2 {
			return errHistory
		}
		total = count
		messages, err = messagesOf(t, entries)
		return err
	})
	return messages, total, err
}

// Forget implements relay.Journal. The stream stays, if empty, so that places do not
// go back.
func (b *Bus) Forget(ctx context.Context, t relay.Topic, upTo relay.ID) error {
	l := b.link(t)
	err := l.steadily(ctx, func() error {
		return l.ask.Do(ctx, "xtrim", l.keys.stream(t), "minid", "=", next(upTo).String()).Err()
	})
	if err != nil {
		return fmt.Errorf("forgetting what is archived: %w", err)
	}
	return nil
}
