package redisbus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

const (
	// subscribeBatch is the most channels in one SUBSCRIBE or UNSUBSCRIBE.
	subscribeBatch = 256
	// unsubscribeDelay is how long a topic that nobody wants stays subscribed,
	// so that a client that comes back at once causes no churn.
	unsubscribeDelay = time.Second
)

// table holds which topics are wanted. One goroutine, run, is the only one that
// sends SUBSCRIBE and UNSUBSCRIBE; it brings Redis in line with the table.
type table struct {
	// Fixed.
	link    *link
	metrics *Metrics
	keeps   func(relay.Topic) bool
	hearing *gate // open when all topics of a connection's start are confirmed on it
	wake    chan struct{}
	closed  chan struct{} // closed when run has ended: nothing is confirmed any more

	mu        sync.Mutex
	topics    map[string]*subscription // by channel
	asks      []string                 // channels to subscribe to, maybe wanted no more
	idle      []idleChannel            // channels that nobody wants, in the order of their time
	conn      *redis.PubSub            // nil while there is none
	restoring int                      // topics of the connection's start that it has not confirmed
	lost      time.Time                // when the last connection broke
	leaving   map[string]int           // sharded channels whose UNSUBSCRIBE is not confirmed, how often
	epoch     uint32                   // changes whenever conn does; 0: never had one
}

// subscription is one wanted topic; guarded by table.mu.
type subscription struct {
	refs      int32
	asked     uint32   // the epoch in which SUBSCRIBE was sent; 0: not yet
	confirmed uint32   // the epoch in which Redis confirmed it last
	restoring bool     // counted in table.restoring
	placed    bool     // place is known
	place     relay.ID // of the last message that was dispatched, or that was there before the first
	history   uint64   // the epoch (see epoch.go) that place belongs to
	ahead     []stamp  // dispatched from the history, and maybe still to come through the connection
	healing   *healing // nil: messages are dispatched as they come
	waiters   []*waiter
	idleSince time.Time // when refs became 0 last; that of its entry in idle that counts
}

// position is where a subscriber stands that has got everything so far.
func (s *subscription) position() relay.Position {
	return relay.Position{Epoch: s.history, ID: s.place, At: time.Now()}
}

// waiter is a Subscribe that waits for left confirmations; guarded by table.mu.
type waiter struct {
	left int
	done chan struct{}
}

type idleChannel struct {
	channel string
	since   time.Time
}

func newTable(l *link) *table {
	return &table{link: l, metrics: l.metrics, hearing: l.hearing, wake: make(chan struct{}, 1), closed: make(chan struct{}), topics: map[string]*subscription{}, leaving: map[string]int{}}
}

func (t *table) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Subscribe implements relay.Subscriptions.
func (b *Bus) Subscribe(ctx context.Context, topics ...relay.Topic) ([]relay.Position, error) {
	if len(b.links) == 1 {
		return b.links[0].table.subscribe(ctx, topics, false)
	}
	positions := make([]relay.Position, len(topics))
	for i, t := range topics {
		p, err := b.link(t).table.subscribe(ctx, topics[i:i+1], false)
		if err != nil {
			b.Unsubscribe(topics[:i]...)
			return nil, err
		}
		positions[i] = p[0]
	}
	return positions, nil
}

// SubscribeNew implements relay.Subscriptions.
func (b *Bus) SubscribeNew(ctx context.Context, t relay.Topic) (relay.Position, error) {
	positions, err := b.link(t).table.subscribe(ctx, []relay.Topic{t}, true)
	if err != nil {
		return relay.Position{}, err
	}
	return positions[0], nil
}

// Unsubscribe implements relay.Subscriptions.
func (b *Bus) Unsubscribe(topics ...relay.Topic) {
	for _, t := range topics {
		b.link(t).table.unsubscribe(t)
	}
}

// subscribe wants topics of the table's keyspace. Of new ones it is known that
// nothing has been published to them.
func (t *table) subscribe(ctx context.Context, topics []relay.Topic, isNew bool) ([]relay.Position, error) {
	w := &waiter{done: make(chan struct{})}
	t.mu.Lock()
	for _, topic := range topics {
		channel := t.link.keys.channel(topic)
		s := t.topics[channel]
		if s == nil {
			s = &subscription{placed: isNew}
			t.topics[channel] = s
			t.metrics.subscriptions.Inc()
		}
		s.refs++
		if t.epoch == 0 || s.confirmed != t.epoch {
			w.left++
			s.waiters = append(s.waiters, w)
			if t.conn != nil && s.asked != t.epoch { // without one, attach asks for all
				t.asks = append(t.asks, channel)
			}
		}
	}
	left := w.left
	t.mu.Unlock()
	if left > 0 {
		t.poke()
		select {
		case <-w.done:
		case <-t.closed:
			t.abandon(w, topics)
			return nil, relay.ErrClosed
		case <-ctx.Done():
			t.abandon(w, topics)
			return nil, fmt.Errorf("%w: subscription not confirmed: %w", relay.ErrUnavailable, ctx.Err())
		}
	}
	positions := make([]relay.Position, len(topics))
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, topic := range topics {
		if s := t.topics[t.link.keys.channel(topic)]; s != nil { // else its caller has unsubscribed too often
			positions[i] = s.position()
		}
	}
	return positions, nil
}

// abandon takes back a Subscribe whose caller has stopped waiting.
func (t *table) abandon(w *waiter, topics []relay.Topic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, topic := range topics {
		channel := t.link.keys.channel(topic)
		s := t.topics[channel]
		for i, x := range s.waiters {
			if x == w {
				s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
				break
			}
		}
		t.release(channel, s)
	}
}

// unsubscribe wants a topic no more.
func (t *table) unsubscribe(topic relay.Topic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	channel := t.link.keys.channel(topic)
	if s := t.topics[channel]; s != nil {
		t.release(channel, s)
	}
}

// release is called with mu held.
func (t *table) release(channel string, s *subscription) {
	if s.refs--; s.refs == 0 {
		s.idleSince = time.Now()
		t.idle = append(t.idle, idleChannel{channel, s.idleSince})
	}
}

// attach makes conn the one to subscribe on. Every topic is asked for anew.
func (t *table) attach(conn *redis.PubSub) {
	t.mu.Lock()
	t.conn = conn
	t.epoch++
	clear(t.leaving)
	t.asks = t.asks[:0]
	for channel, s := range t.topics {
		t.asks = append(t.asks, channel)
		s.restoring = true
	}
	t.restoring = len(t.topics)
	if t.restoring == 0 {
		t.hearing.open()
	}
	t.mu.Unlock()
	t.poke()
}

// detach forgets the connection, which is about to be closed.
func (t *table) detach() {
	t.mu.Lock()
	t.conn = nil
	t.epoch++
	t.lost = time.Now()
	t.hearing.close()
	t.mu.Unlock()
}

// restored counts a topic as confirmed on the connection, or as given up; mu is
// held.
func (t *table) restored(s *subscription) {
	if !s.restoring {
		return
	}
	s.restoring = false
	if t.restoring--; t.restoring == 0 && t.conn != nil {
		t.hearing.open()
	}
}

// confirm notes Redis's answer to a SUBSCRIBE; true when the topic had been
// subscribed before on an earlier connection, so that something may be missing.
func (t *table) confirm(channel string) (again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.topics[channel]
	if s == nil {
		return false
	}
	again = s.confirmed != 0 && s.confirmed != t.epoch
	s.confirmed = t.epoch
	if s.history == 0 {
		s.history = t.link.settled()
	}
	t.restored(s)
	for _, w := range s.waiters {
		if w.left--; w.left == 0 {
			close(w.done)
		}
	}
	s.waiters = nil
	return again
}

// run sends what the table asks for, until ctx ends.
func (t *table) run(ctx context.Context) {
	defer close(t.closed)
	tick := time.NewTicker(unsubscribeDelay / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
			runtime.Gosched() // clients that come together share a SUBSCRIBE
			t.subscribeWanted(ctx)
		case now := <-tick.C:
			t.unsubscribeIdle(ctx, now.Add(-unsubscribeDelay))
		}
	}
}

// subscribeWanted sends SUBSCRIBE for the topics that were asked for. An error
// is left to the receiver, which sees the connection break.
func (t *table) subscribeWanted(ctx context.Context) {
	for {
		var batch, unplaced []string
		t.mu.Lock()
		conn := t.conn
		for conn != nil && len(t.asks) > 0 && len(batch) < subscribeBatch {
			channel := t.asks[len(t.asks)-1]
			t.asks = t.asks[:len(t.asks)-1]
			if s := t.topics[channel]; s != nil && s.asked != t.epoch {
				s.asked = t.epoch
				batch = append(batch, channel)
				if !s.placed {
					unplaced = append(unplaced, channel)
				}
			}
		}
		if len(t.asks) == 0 && cap(t.asks) > 16*subscribeBatch {
			t.asks = nil
		}
		t.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		if err := t.findPlaces(ctx, unplaced); err != nil {
			if ctx.Err() == nil {
				t.link.log.Debug("redis does not tell where topics are, connecting again", "error", err)
			}
			t.link.dials.hangUp() // which the receiver sees
			return
		}
		if t.send(ctx, conn, "subscribe", batch) != nil {
			return
		}
	}
}

// send sends SUBSCRIBE or UNSUBSCRIBE.
func (t *table) send(ctx context.Context, conn *redis.PubSub, command string, channels []string) error {
	switch {
	case command == "subscribe" && t.link.sharded:
		return conn.SSubscribe(ctx, channels...)
	case command == "subscribe":
		return conn.Subscribe(ctx, channels...)
	case t.link.sharded:
		return conn.SUnsubscribe(ctx, channels...)
	}
	return conn.Unsubscribe(ctx, channels...)
}

// findPlaces asks what the last messages of topics are that will be subscribed
// to: what comes later comes through the connection, or leaves a hole that shows.
func (t *table) findPlaces(ctx context.Context, channels []string) error {
	if len(channels) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	heads := make([]*redis.StringCmd, len(channels))
	err := spread(t.link.ask.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, channel := range channels {
			topic, _ := t.link.keys.topic(channel)
			heads[i] = p.Get(ctx, t.link.keys.head(topic))
		}
		return nil
	}))
	// What Redis refuses (a slot is being moved, a key is of a wrong type) concerns one
	// topic: it is not placed, and its first message is taken as it comes.
	var refusal redis.Error
	if err != nil && !errors.As(err, &refusal) {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, channel := range channels {
		s := t.topics[channel]
		if s == nil || s.placed {
			continue
		}
		text, err := heads[i].Result()
		if id, ok := parsePlace(text); ok && (err == nil || errors.Is(err, redis.Nil)) {
			s.placed, s.place, s.history = true, id, t.link.settled()
		}
	}
	return nil
}

// unsubscribeIdle drops the topics that nobody has wanted since before. One
// that Redis has not confirmed yet waits for the next time, lest its late
// confirmation be taken for that of a later SUBSCRIBE.
func (t *table) unsubscribeIdle(ctx context.Context, before time.Time) {
	for {
		var batch []string
		t.mu.Lock()
		conn := t.conn
		var later []idleChannel
		for len(t.idle) > 0 && len(batch) < subscribeBatch && t.idle[0].since.Before(before) {
			next := t.idle[0]
			t.idle = t.idle[1:]
			s := t.topics[next.channel]
			switch {
			case s == nil || s.refs > 0 || !s.idleSince.Equal(next.since):
			case conn != nil && s.asked == t.epoch && s.confirmed != t.epoch:
				s.idleSince = time.Now()
				later = append(later, idleChannel{next.channel, s.idleSince})
			default:
				delete(t.topics, next.channel)
				t.restored(s)
				t.metrics.subscriptions.Dec()
				if s.asked == t.epoch {
					batch = append(batch, next.channel)
					if t.link.sharded {
						t.leaving[next.channel]++
					}
				}
			}
		}
		t.idle = append(t.idle, later...)
		if len(t.idle) == 0 {
			t.idle = nil
		}
		t.mu.Unlock()
		if conn == nil || len(batch) == 0 || t.send(ctx, conn, "unsubscribe", batch) != nil {
			return
		}
	}
}
