package texto

import (
	"context"
	"slices"
	"sync"

	"parley/pkg/relay"
)

// broker is a bus within one process. It publishes in the order of the calls and
// answers each message before it delivers it.
type broker struct {
	receiver relay.Receiver // set before use
	reading  func(n int)    // called before the n-th reading of a history, from 1; nil: nothing is

	mu       sync.Mutex
	more     sync.Cond
	state    brokerState
	topics   map[relay.Topic]int
	kept     map[relay.Topic]*history
	epoch    uint64
	queue    []publication
	reads    int // of histories
	closed   bool
	finished chan struct{}
}

type brokerState int

const (
	brokerWorks  brokerState = iota
	brokerFails              // refuses messages and sessions
	brokerHangs              // answers nobody who asks for a session
	brokerLoses              // takes messages and delivers none
	brokerStalls             // takes messages and answers none until it works again
)

type publication struct {
	message relay.Message
	keep    relay.Retention
	acker   relay.Acker
	token   relay.Token
	failed  bool
}

// newBroker starts a broker, to be ended with close.
func newBroker() *broker {
	b := &broker{topics: map[relay.Topic]int{}, kept: map[relay.Topic]*history{}, epoch: 1, finished: make(chan struct{})}
	b.more.L = &b.mu
	go b.run()
	return b
}

func (b *broker) set(s brokerState) {
	b.mu.Lock()
	b.state = s
	b.mu.Unlock()
	b.more.Signal()
}

// Enqueue implements relay.Publisher.
func (b *broker) Enqueue(m relay.Message, r relay.Retention, a relay.Acker, t relay.Token) {
	m.Body = slices.Clone(m.Body)
	b.mu.Lock()
	b.queue = append(b.queue, publication{m, r, a, t, b.state == brokerFails})
	b.mu.Unlock()
	b.more.Signal()
}

func (b *broker) Subscribe(ctx context.Context, topics ...relay.Topic) ([]relay.Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case brokerFails:
		return nil, relay.ErrUnavailable
	case brokerHangs:
		b.mu.Unlock()
		<-ctx.Done()
		b.mu.Lock()
		return nil, relay.ErrUnavailable
	}
	for _, t := range topics {
		b.topics[t]++
	}
	positions := make([]relay.Position, len(topics))
	for i, t := range topics {
		positions[i] = b.historyOf(t).position(b.epoch)
	}
	return positions, nil
}

func (b *broker) SubscribeNew(ctx context.Context, t relay.Topic) (relay.Position, error) {
	positions, err := b.Subscribe(ctx, t)
	if err != nil {
		return relay.Position{}, err
	}
	return positions[0], nil
}

func (b *broker) Unsubscribe(topics ...relay.Topic) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range topics {
		if b.topics[t]--; b.topics[t] == 0 {
			delete(b.topics, t)
		}
	}
}

// subscribed is the number of topics that somebody wants.
func (b *broker) subscribed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.topics)
}

// run answers and delivers, a batch at a time.
func (b *broker) run() {
	defer close(b.finished)
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for !b.closed && (len(b.queue) == 0 || b.state == brokerStalls) {
			b.more.Wait()
		}
		if b.closed {
			return
		}
		batch := b.queue
		b.queue = nil
		for _, p := range batch {
			wanted := b.topics[p.message.Topic] > 0 && b.state != brokerLoses
			if p.keep.Kept() && !p.failed {
				b.historyOf(p.message.Topic).append(&p.message, p.keep)
			}
			b.mu.Unlock()
			if p.failed {
				p.acker.Published(p.token, relay.ID{}, relay.ErrUnavailable)
			} else {
				p.acker.Published(p.token, p.message.ID, nil)
				if wanted {
					b.receiver.Dispatch(p.message)
				}
			}
			b.mu.Lock()
		}
		b.mu.Unlock()
		b.receiver.Flush()
		b.mu.Lock()
	}
}

func (b *broker) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.more.Signal()
	<-b.finished
}
