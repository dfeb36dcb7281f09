package redisbus

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

const (
	// maxReaders is how many readers of one topic are remembered; of more, the one that
	// was used longest ago is forgotten.
	maxReaders = 64
	// maxReader bounds the name of a reader, in bytes; see relay.Reading.
	maxReader = 128
	// maxCollected bounds how many messages one call collects.
	maxCollected = 1000
)

// errInbox means that the script about inboxes answered what it should not.
var errInbox = errors.New("redis answers a question about an inbox with something else")

//go:embed inbox.lua
var inboxSource string

// inboxScript is loaded when Redis does not know it.
var inboxScript = newScript(inboxSource)

// Inbox is a relay.Inbox on the bus's Redis. Each call is one script, beside the topic's
// stream, and costs no connection of its own. A reader that was forgotten, since it has not
// come for longer than messages are kept or since there are more than 64 of the topic, is
// one that the inbox does not know. For as long as messages are kept after Redis has lost
// something, readers that the inbox does not know are told that messages may be missing:
// it may be that Redis has lost the reader together with them. After a failover, those that
// are told in the first four seconds are told once more after them. Nodes that were all
// started after a loss do not know of it: only readers that Redis has kept are told.
//
// What has no answer from Redis is asked again, within the time of a call. Nothing is lost
// by that, nor does a call wait for itself: Collect bears a number, by which its own offer is
// recognised. A name or a number out of its bounds is an error that is no
// relay.ErrUnavailable. All methods may be called from any goroutine, before Bus.Run and
// during it.
type Inbox struct {
	keep   time.Duration
	stores []*inboxStore // one a link of the bus
}

var _ relay.Inbox = (*Inbox)(nil)

// inboxStore is the part of the inboxes that is on one link's master.
type inboxStore struct {
	store
	mu    sync.Mutex
	epoch uint64    // in which a loss was noticed
	since time.Time // when
}

// Inbox returns the inboxes on the bus's Redis. The topics' messages are published with a
// retention of age keep, which is a second at least. Call it once.
func (b *Bus) Inbox(keep time.Duration) *Inbox {
	i := &Inbox{keep: max(keep, time.Second)}
	for _, l := range b.links {
		i.stores = append(i.stores, &inboxStore{store: store{link: l, client: l.ask.WithTimeout(publishTimeout),
			detours: make(chan struct{}, valueDetours)}})
	}
	return i
}

func (i *Inbox) of(t relay.Topic) *inboxStore {
	if len(i.stores) == 1 {
		return i.stores[0]
	}
	return i.stores[partitionOf(t)]
}

// Collect implements relay.Inbox, for up to 1000 messages.
func (i *Inbox) Collect(ctx context.Context, t relay.Topic, r relay.Reading, n int) (relay.Collected, error) {
	if err := checkReader(r.Reader); err != nil {
		return relay.Collected{}, err
	}
	if n < 1 || n > maxCollected {
		return relay.Collected{}, fmt.Errorf("collecting %d messages: want 1 to %d", n, maxCollected)
	}
	s, after := i.of(t), ""
	if r.After != nil {
		after = r.After.String()
	}
	l, number := s.link, strconv.FormatUint(rand.Uint64(), 36)
	keys := []string{l.keys.inbox(t), l.keys.stream(t), l.keys.head(t), l.keys.epoch()}
	cmd := i.command(ctx, keys, "collect", r.Reader, after, n, flag(r.Insist), number,
		strconv.FormatUint(l.epoch.Load(), 10), flag(s.lostWithin(i.keep)), flag(l.moves), flag(l.late()))
	began := time.Now()
	if err := s.ask(ctx, []redis.Cmder{cmd}, question{repeats: true}); err != nil {
		return relay.Collected{}, err
	}
	c, err := l.collected(t, n, began, cmd.Cmd)
	if err != nil {
		return relay.Collected{}, fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
	}
	return c, nil
}

// Offer implements relay.Inbox. Of several that are open of one reader, the one that ends
// last counts.
func (i *Inbox) Offer(ctx context.Context, t relay.Topic, reader string, p relay.Position) error {
	return i.note(ctx, t, "offer", reader, p)
}

// Settle implements relay.Inbox. One that comes when the reader has come further, since it
// was late, changes nothing.
func (i *Inbox) Settle(ctx context.Context, t relay.Topic, reader string, p relay.Position, written bool) error {
	l := i.of(t).link
	known := l.epoch.Load()
	early := l.late() || l.moves && known != 0 && known != p.Epoch
	return i.note(ctx, t, "settle", reader, p, flag(written), flag(early))
}

func (i *Inbox) note(ctx context.Context, t relay.Topic, what, reader string, p relay.Position, args ...any) error {
	if err := checkReader(reader); err != nil {
		return err
	}
	s := i.of(t)
	// Of one key, so that a slot on its way to another master is no hindrance.
	cmd := i.command(ctx, []string{s.link.keys.inbox(t)}, what, reader,
		append([]any{p.ID.String(), strconv.FormatUint(p.Epoch, 10)}, args...)...)
	return s.ask(ctx, []redis.Cmder{cmd}, question{repeats: true})
}

// command has the script do something.
func (i *Inbox) command(ctx context.Context, keys []string, what, reader string, args ...any) *scriptCmd {
	all := make([]any, 0, 3+len(keys)+4+len(args))
	all = append(all, "evalsha", inboxScript.hash, len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	all = append(all, what, reader, maxReaders, i.keep.Milliseconds())
	return &scriptCmd{redis.NewCmd(ctx, append(all, args...)...), inboxScript.source}
}

func checkReader(name string) error {
	if name == "" || len(name) > maxReader {
		return fmt.Errorf("reader %.64q: %d bytes, want 1 to %d", name, len(name), maxReader)
	}
	return nil
}

// late tells whether other nodes may still hold the old master for the master.
func (l *link) late() bool { return l.moves && l.renewed.Load() != 0 }

// lostWithin tells whether Redis has lost something as long ago, or since.
func (s *inboxStore) lostWithin(d time.Duration) bool {
	if s.link.former.Load() == 0 {
		return false
	}
	epoch := s.link.epoch.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		s.epoch, s.since = epoch, time.Now()
	}
	return time.Since(s.since) < d
}

// collected reads the answer to a question that was put at a time, for n messages.
func (l *link) collected(t relay.Topic, n int, asked time.Time, cmd *redis.Cmd) (c relay.Collected, err error) {
	reply, err := cmd.Slice()
	if err != nil {
		return c, err
	}
	if len(reply) == 1 && reply[0] == int64(1) {
		return relay.Collected{Unsettled: true}, nil
	}
	if len(reply) != 6 {
		return c, errInbox
	}
	epochText, ok1 := reply[1].(string)
	startText, ok2 := reply[2].(string)
	endText, ok3 := reply[3].(string)
	complete, ok4 := reply[4].(int64)
	entries, ok5 := reply[5].([]any)
	epoch, err := strconv.ParseUint(epochText, 10, 64)
	start, err1 := relay.ParseID(startText) // it may be any that a reader has made up
	end, err2 := relay.ParseID(endText)
	if errors.Join(err, err1, err2) != nil || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return c, errInbox
	}
	if epoch == 0 { // flushed just now: what comes next has another one
		epoch = l.epoch.Load()
	}
	c.Start = relay.Position{Epoch: epoch, ID: start}
	c.End = relay.Position{Epoch: epoch, ID: end}
	if len(entries) < n {
		c.End.At = asked
	}
	if len(entries) == 0 {
		c.Start.At = asked
	}
	unread := 0
	for _, e := range entries {
		m, prev, readable, err := parseEntry(t, e)
		if err != nil {
			return relay.Collected{}, err
		}
		if !readable {
			unread++
			continue
		}
		if len(c.Messages) == 0 {
			c.Before = prev
		}
		c.Messages = append(c.Messages, m)
	}
	if unread > 0 {
		l.metrics.undecodable.Add(float64(unread))
		l.log.Warn("unreadable messages in an inbox", "topic", t, "messages", unread)
	}
	c.Complete = complete == 1 && unread == 0
	return c, nil
}
