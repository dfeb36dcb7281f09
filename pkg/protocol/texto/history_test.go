package texto

import (
	"context"
	"slices"
	"time"

	"parley/pkg/relay"
)

// history is what the broker keeps of a topic.
type history struct {
	messages []relay.Message
	last     relay.ID
	dropped  relay.ID // the newest one that is not kept any more
}

// historyOf is called with mu held.
func (b *broker) historyOf(t relay.Topic) *history {
	h := b.kept[t]
	if h == nil {
		h = &history{}
		b.kept[t] = h
	}
	return h
}

func (h *history) position(epoch uint64) relay.Position {
	return relay.Position{Epoch: epoch, ID: h.last, At: time.Now()}
}

// append gives m its place.
func (h *history) append(m *relay.Message, keep relay.Retention) {
	m.ID = relay.ID{Millis: uint64(time.Now().UnixMilli())}
	if m.ID.Compare(h.last) <= 0 {
		m.ID = relay.ID{Millis: h.last.Millis, Seq: h.last.Seq + 1}
	}
	h.last = m.ID
	h.messages = append(h.messages, *m)
	for int64(len(h.messages)) > keep.Length || time.Since(h.messages[0].Time) > keep.Age {
		h.dropped = h.messages[0].ID
		h.messages = h.messages[1:]
	}
}

// Publish implements relay.Publisher.
func (b *broker) Publish(ctx context.Context, m relay.Message, r relay.Retention) (relay.ID, error) {
	answer := make(answered, 1)
	b.Enqueue(m, r, answer, relay.Token{})
	select {
	case a := <-answer:
		return a.id, a.err
	case <-ctx.Done():
		return relay.ID{}, relay.ErrUnavailable
	}
}

// answered is an acker for one message.
type answered chan struct {
	id  relay.ID
	err error
}

func (a answered) Published(_ relay.Token, id relay.ID, err error) {
	a <- struct {
		id  relay.ID
		err error
	}{id, err}
}

// Since implements History.
func (b *broker) Since(ctx context.Context, t relay.Topic, after relay.Position, n int) (relay.Page, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reads++; b.reading != nil {
		reads := b.reads
		b.mu.Unlock()
		b.reading(reads)
		b.mu.Lock()
	}
	switch b.state {
	case brokerFails:
		return relay.Page{}, relay.ErrUnavailable
	case brokerHangs:
		b.mu.Unlock()
		<-ctx.Done()
		b.mu.Lock()
		return relay.Page{}, relay.ErrUnavailable
	}
	h := b.historyOf(t)
	page := relay.Page{Complete: after.Epoch == b.epoch && after.ID.Compare(h.dropped) >= 0, Position: h.position(b.epoch)}
	rest := h.messages
	if after.Epoch == b.epoch {
		i := slices.IndexFunc(rest, func(m relay.Message) bool { return m.ID.Compare(after.ID) > 0 })
		if i < 0 {
			i = len(rest)
		}
		rest = rest[i:]
	}
	if page.More = len(rest) > n; page.More {
		rest = rest[:n]
		page.Position.ID = rest[n-1].ID
	}
	page.Messages = slices.Clone(rest)
	return page, nil
}

// flush forgets all histories, as a Redis that loses its data does.
func (b *broker) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = map[relay.Topic]*history{}
	b.epoch++
}

// gap tells the receiver that messages of a topic may be missing.
func (b *broker) gap(t relay.Topic) {
	b.mu.Lock()
	p := b.historyOf(t).position(b.epoch)
	b.mu.Unlock()
	b.receiver.Gap(t, p)
	b.receiver.Flush()
}
