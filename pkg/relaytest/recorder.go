package relaytest

import (
	"encoding/binary"
	"slices"
	"sync"

	"parley/pkg/relay"
)

// Recorder is a relay.Receiver that keeps all that it is given. Its other
// methods may be called from any goroutine.
type Recorder struct {
	mu       sync.Mutex
	calls    map[relay.Topic]*int // the numbers are not guarded on purpose, see call
	events   map[relay.Topic][]Event
	received int
	gaps     int
	flushed  int // received, when Flush was called last
}

// Event is one call of a receiver for a topic.
type Event struct {
	Gap      bool           // something may be missing here
	Position relay.Position // after the gap, if it is one
	Message  relay.Message  // if it is not a gap
}

var _ relay.Receiver = (*Recorder)(nil)

// NewRecorder makes one.
func NewRecorder() *Recorder {
	return &Recorder{calls: map[relay.Topic]*int{}, events: map[relay.Topic][]Event{}}
}

// call has the race detector tell when a broker calls Dispatch or Gap for a topic
// from two goroutines at the same time.
func (r *Recorder) call(t relay.Topic) {
	r.mu.Lock()
	n := r.calls[t]
	if n == nil {
		n = new(int)
		r.calls[t] = n
	}
	r.mu.Unlock()
	*n++
}

// Dispatch implements relay.Receiver.
func (r *Recorder) Dispatch(m relay.Message) {
	r.call(m.Topic)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received++
	r.events[m.Topic] = append(r.events[m.Topic], Event{Message: m})
}

// Gap implements relay.Receiver.
func (r *Recorder) Gap(t relay.Topic, p relay.Position) {
	r.call(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps++
	r.events[t] = append(r.events[t], Event{Gap: true, Position: p})
}

// Flush implements relay.Receiver.
func (r *Recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushed = r.received
}

// Flushed tells whether everything that was dispatched has been flushed.
func (r *Recorder) Flushed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flushed == r.received
}

// Received is the number of messages so far, and Gaps that of gaps.
func (r *Recorder) Received() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received
}

// Gaps is the number of gaps so far.
func (r *Recorder) Gaps() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gaps
}

// Events are the messages and gaps of a topic, in order.
func (r *Recorder) Events(t relay.Topic) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events[t])
}

// Messages are the messages of a topic, in order.
func (r *Recorder) Messages(t relay.Topic) []relay.Message {
	var ms []relay.Message
	for _, e := range r.Events(t) {
		if !e.Gap {
			ms = append(ms, e.Message)
		}
	}
	return ms
}

// Count is the number of messages of a topic.
func (r *Recorder) Count(t relay.Topic) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events[t] {
		if !e.Gap {
			n++
		}
	}
	return n
}

// Bodies are the bodies of a topic's messages, in order.
func (r *Recorder) Bodies(t relay.Topic) []string {
	var all []string
	for _, m := range r.Messages(t) {
		all = append(all, string(m.Body))
	}
	return all
}

// Ledger is a relay.Acker that keeps every answer. Its methods may be called
// from any goroutine.
type Ledger struct {
	// Window, if it is not nil, bounds what waits for an answer: whoever
	// enqueues puts an element in first, and each answer takes one out.
	Window chan struct{}

	mu      sync.Mutex
	answers []Answer
}

// Answer is what an acker was told.
type Answer struct {
	Token relay.Token
	Err   error
}

var _ relay.Acker = (*Ledger)(nil)

// Published implements relay.Acker.
func (l *Ledger) Published(t relay.Token, _ relay.ID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, Answer{t, err})
	select {
	case <-l.Window:
	default:
	}
}

// Len is the number of answers so far.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answers)
}

// Answers are all answers so far, in order.
func (l *Ledger) Answers() []Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.answers)
}

// Numbered is the token with the given numbers, such as a topic's and that of a
// message in it.
func Numbered(topic, message int) (t relay.Token) {
	binary.BigEndian.PutUint64(t[:8], uint64(topic))
	binary.BigEndian.PutUint64(t[8:], uint64(message))
	return t
}

// Numbers are those that Numbered was given.
func (a Answer) Numbers() (topic, message int) {
	return int(binary.BigEndian.Uint64(a.Token[:8])), int(binary.BigEndian.Uint64(a.Token[8:]))
}
