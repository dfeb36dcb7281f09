package chat

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"time"

	"parley/pkg/account"
	"parley/pkg/relay"
)

// bus is journal, archive, publisher, roster and accounts in memory, with one node.
type bus struct {
	receiver relay.Receiver // the hub

	mu       sync.Mutex
	topics   map[relay.Topic]int // subscriptions
	history  map[relay.Topic][]relay.Message
	intact   map[relay.Topic]relay.ID
	last     relay.ID
	epoch    uint64
	appends  error         // what an Append is answered with
	reads    error         // the same of a reading of the history
	held     chan struct{} // not nil: readings wait until it is closed
	reading  int           // readings that have begun
	standing chan struct{} // not nil: answers of Standing wait until it is closed
	mute     bool          // subscribers hear nothing
	present  []string
	changes  uint64
	sessions map[string]account.Session // by token
}

func newBus() *bus {
	return &bus{topics: map[relay.Topic]int{}, history: map[relay.Topic][]relay.Message{}, intact: map[relay.Topic]relay.ID{},
		epoch: 1, last: relay.ID{Millis: 1_700_000_000_000}, sessions: map[string]account.Session{}}
}

// with calls f with the bus to itself.
func (b *bus) with(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *bus) subscribed() (n int) {
	b.with(func() {
		for _, k := range b.topics {
			n += k
		}
	})
	return n
}

func (b *bus) Subscribe(_ context.Context, topics ...relay.Topic) ([]relay.Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range topics {
		b.topics[t]++
	}
	positions := make([]relay.Position, len(topics))
	for i := range positions {
		positions[i].Epoch = b.epoch
	}
	return positions, nil
}

func (b *bus) SubscribeNew(ctx context.Context, t relay.Topic) (relay.Position, error) {
	_, err := b.Subscribe(ctx, t)
	return relay.Position{}, err
}

func (b *bus) Unsubscribe(topics ...relay.Topic) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range topics {
		b.topics[t]--
	}
}

// dispatch is called with mu held.
func (b *bus) dispatch(m relay.Message) {
	if b.topics[m.Topic] > 0 && !b.mute {
		b.receiver.Dispatch(m)
	}
}

func (b *bus) Append(ms []relay.Message, most int64, a relay.Acker, t relay.Token) {
	var last relay.ID
	var err error
	b.with(func() {
		topic := ms[0].Topic
		switch {
		case b.appends != nil:
			err = b.appends
			return
		case int64(len(b.history[topic])) > most:
			err = relay.ErrFull
			return
		}
		for _, m := range ms {
			b.last.Seq++
			m.ID, m.Body = b.last, slices.Clone(m.Body)
			b.history[topic] = append(b.history[topic], m)
			b.dispatch(m)
		}
		last = b.last
	})
	a.Published(t, last, err)
	b.receiver.Flush()
}

func (b *bus) Enqueue(m relay.Message, _ relay.Retention, _ relay.Acker, _ relay.Token) {
	b.with(func() { b.dispatch(m) })
	b.receiver.Flush()
}

func (b *bus) Publish(_ context.Context, m relay.Message, r relay.Retention) (relay.ID, error) {
	b.Enqueue(m, r, nil, relay.Token{})
	return relay.ID{}, nil
}

// read waits for its turn and returns what is there of a topic.
func (b *bus) read(ctx context.Context, t relay.Topic) ([]relay.Message, error) {
	b.mu.Lock()
	held := b.held
	b.reading++
	b.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.history[t]), b.reads
}

func (b *bus) Newest(ctx context.Context, t relay.Topic, n int) (relay.Recent, error) {
	messages, more, err := b.Before(ctx, t, relay.ID{}, n)
	r := relay.Recent{Messages: messages, More: more}
	b.with(func() { r.Intact = b.intact[t] })
	return r, err
}

func (b *bus) Before(ctx context.Context, t relay.Topic, before relay.ID, n int) (messages []relay.Message, more bool, err error) {
	all, err := b.read(ctx, t)
	if err != nil {
		return nil, false, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if !before.IsZero() && all[i].ID.Compare(before) >= 0 {
			continue
		}
		if len(messages) == n {
			return messages, true, nil
		}
		messages = append(messages, all[i])
	}
	return messages, false, nil
}

func (b *bus) Has(ctx context.Context, t relay.Topic, id relay.ID) (bool, error) {
	all, err := b.read(ctx, t)
	return slices.ContainsFunc(all, func(m relay.Message) bool { return m.ID == id }), err
}

func (b *bus) change(sign, member string) {
	b.changes++
	b.dispatch(relay.Message{Topic: liveTopic, From: member, Time: time.Now(), Body: fmt.Appendf(nil, "%s%d", sign, b.changes)})
}

func (b *bus) Enter(_ relay.Topic, member string) {
	b.with(func() {
		if !slices.Contains(b.present, member) {
			b.present = append(b.present, member)
			b.change("+", member)
		}
	})
	b.receiver.Flush()
}

func (b *bus) Leave(_ relay.Topic, member string) {
	b.with(func() {
		if i := slices.Index(b.present, member); i >= 0 {
			b.present = slices.Delete(b.present, i, i+1)
			b.change("-", member)
		}
	})
	b.receiver.Flush()
}

func (b *bus) Members(context.Context, relay.Topic) ([]string, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.present), b.changes, b.reads
}

func (b *bus) Session(_ context.Context, token string) (account.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.sessions[token]
	if !ok {
		return s, account.ErrNoSession
	}
	return s, nil
}

func (b *bus) Standing(_ context.Context, keys ...string) ([]bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	standing := make([]bool, len(keys))
	for i, key := range keys {
		for _, s := range b.sessions {
			standing[i] = standing[i] || s.Key == key
		}
	}
	if held := b.standing; held != nil {
		b.mu.Unlock()
		<-held
		b.mu.Lock()
	}
	return standing, nil
}

// tokenOf is the token of a user's session.
func tokenOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// signIn makes a session for a user.
func (b *bus) signIn(id int64, name string) {
	b.with(func() {
		b.sessions[tokenOf(name)] = account.Session{Key: "key of " + name, User: relay.User{ID: id, Username: name}, Expires: time.Now().Add(time.Hour)}
	})
}

// gap tells the hub of a gap in a topic.
func (b *bus) gap(t relay.Topic) {
	b.mu.Lock()
	p := relay.Position{Epoch: b.epoch}
	b.mu.Unlock()
	b.receiver.Gap(t, p)
	b.receiver.Flush()
}

// say puts messages of a user into a room, one after the other.
func (b *bus) say(r RoomConfig, id int64, name string, contents ...string) {
	for _, c := range contents {
		u := appendUser(nil, id, quote(name))
		b.Append([]relay.Message{{Topic: r.Topic(), Body: appendBody(nil, true, quote(c), u)}}, 1<<40, deaf{}, relay.Token{})
	}
}

type deaf struct{}

func (deaf) Published(relay.Token, relay.ID, error) {}
