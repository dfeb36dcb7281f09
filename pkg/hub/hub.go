// Package hub knows which local connections want which topics, and hands each
// message of a topic to them.
package hub

import (
	"context"
	"slices"
	"sync"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// Subscriber is a local connection's interest in a topic. Deliver is called on
// its loop.
type Subscriber interface {
	conn.Deliverer
	Loop() *conn.Loop
}

// GapTaker is a Subscriber that wants to know where messages may be missing.
type GapTaker interface {
	// Gap is called on the loop, between the messages where the gap is. From p on
	// nothing is missing; the zero Position: that is not known.
	Gap(p relay.Position)
}

// Flusher has what was posted to the loops go out.
type Flusher interface{ Flush() }

// Hub is a relay.Receiver. All methods may be called from any goroutine, but
// Dispatch, Gap and Flush only from the bus.
type Hub struct {
	subscriptions relay.Subscriptions
	loops         Flusher

	mu     sync.RWMutex
	topics map[relay.Topic]*entry
}

var _ relay.Receiver = (*Hub)(nil)

// entry is a topic with at least one subscriber; guarded by Hub.mu, but for the
// recipients' slices: a reader may keep one, since elements that it covers are
// never changed.
type entry struct {
	groups []group
}

// group is the subscribers of one loop.
type group struct {
	loop       *conn.Loop
	recipients []conn.Deliverer
}

// New makes a hub that subscribes on the given bus.
func New(s relay.Subscriptions, loops Flusher) *Hub {
	return &Hub{subscriptions: s, loops: loops, topics: map[relay.Topic]*entry{}}
}

// Subscribe has s get the topic's messages. It returns once Redis has confirmed
// the subscription: from then on nothing is missed; see relay.Subscriptions for
// the position. On an error s is not subscribed. It must be paired with one
// Unsubscribe.
func (h *Hub) Subscribe(ctx context.Context, t relay.Topic, s Subscriber) (relay.Position, error) {
	h.add(t, s)
	positions, err := h.subscriptions.Subscribe(ctx, t)
	if err != nil {
		h.remove(t, s)
		return relay.Position{}, err
	}
	return positions[0], nil
}

// SubscribeNew is Subscribe for a topic whose name was made up just now; see
// relay.Subscriptions.
func (h *Hub) SubscribeNew(ctx context.Context, t relay.Topic, s Subscriber) (relay.Position, error) {
	h.add(t, s)
	position, err := h.subscriptions.SubscribeNew(ctx, t)
	if err != nil {
		h.remove(t, s)
		return relay.Position{}, err
	}
	return position, nil
}

// Unsubscribe ends a subscription. It never blocks; messages that were
// dispatched before may still be delivered.
func (h *Hub) Unsubscribe(t relay.Topic, s Subscriber) {
	h.remove(t, s)
	h.subscriptions.Unsubscribe(t)
}

func (h *Hub) add(t relay.Topic, s Subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.topics[t]
	if e == nil {
		e = &entry{groups: make([]group, 0, 1)}
		h.topics[t] = e
	}
	loop := s.Loop()
	for i := range e.groups {
		if g := &e.groups[i]; g.loop == loop {
			g.recipients = append(g.recipients, s) // beyond what any reader covers
			return
		}
	}
	e.groups = append(e.groups, group{loop, []conn.Deliverer{s}})
}

func (h *Hub) remove(t relay.Topic, s Subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.topics[t]
	if e == nil {
		return
	}
	loop := s.Loop()
	for i := range e.groups {
		g := &e.groups[i]
		if g.loop != loop {
			continue
		}
		at := slices.Index(g.recipients, conn.Deliverer(s))
		if at < 0 {
			return
		}
		if len(g.recipients) > 1 {
			rest := make([]conn.Deliverer, 0, len(g.recipients))
			rest = append(rest, g.recipients[:at]...)
			g.recipients = append(rest, g.recipients[at+1:]...)
			return
		}
		e.groups = slices.Delete(e.groups, i, i+1)
		if len(e.groups) == 0 {
			delete(h.topics, t)
		}
		return
	}
}

// Dispatch implements relay.Receiver: every loop with subscribers of the topic
// gets the message, and it waits while one of them is far behind. It allocates
// nothing once the loops' queues have grown.
func (h *Hub) Dispatch(m relay.Message) {
	h.mu.RLock()
	if e := h.topics[m.Topic]; e != nil {
		for i := range e.groups {
			e.groups[i].loop.Post(e.groups[i].recipients, m)
		}
	}
	h.mu.RUnlock()
}

// Gap implements relay.Receiver: every subscriber of the topic that is a GapTaker
// is told, in its order of messages. It waits like Dispatch.
func (h *Hub) Gap(t relay.Topic, p relay.Position) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	e := h.topics[t]
	if e == nil {
		return
	}
	for _, g := range e.groups {
		recipients := g.recipients // as they are now
		g.loop.Do(func() {
			for _, r := range recipients {
				if r, ok := r.(GapTaker); ok {
					r.Gap(p)
				}
			}
		})
	}
}

// Flush implements relay.Receiver.
func (h *Hub) Flush() { h.loops.Flush() }

// Len is the number of topics that have subscribers.
func (h *Hub) Len() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.topics)
}
