package crowd

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/texto"
)

// Watch tells when the service is back after a fault: when a message that was
// sent after it has been both acknowledged and delivered.
type Watch struct {
	crowd *Crowd
	since int64 // messages sent from then on count

	pending []atomic.Bool // by sender
	left    atomic.Int64
	first   atomic.Int64 // when the first pair was back, 0: not yet
	last    atomic.Int64 // when the last one was
	done    chan struct{}
}

// Watch begins to watch, in place of the watch before. Messages count that are
// sent from now on, of the senders that want tells (nil: all).
func (c *Crowd) Watch(want func(sender *Client) bool) *Watch {
	w := &Watch{crowd: c, since: c.now(), pending: make([]atomic.Bool, len(c.clients)), done: make(chan struct{})}
	for i, client := range c.clients {
		if want == nil || want(client) {
			w.pending[i].Store(true)
			w.left.Add(1)
		}
	}
	if w.left.Load() == 0 {
		close(w.done)
	}
	c.watch.Store(w)
	return w
}

// settled notes that a message is both acknowledged and delivered.
func (c *Crowd) settled(sender *Client, due int64) {
	w := c.watch.Load()
	if w == nil || due < w.since || !w.pending[sender.number].CompareAndSwap(true, false) {
		return
	}
	now := c.now()
	w.first.CompareAndSwap(0, now)
	if w.left.Add(-1) == 0 {
		w.last.Store(now)
		close(w.done)
	}
}

// Done is closed when every sender that is watched is back.
func (w *Watch) Done() <-chan struct{} { return w.done }

// Left tells how many senders are not back yet.
func (w *Watch) Left() int { return int(w.left.Load()) }

// First returns the time from the given moment until the first sender was back;
// false when none is.
func (w *Watch) First(from time.Time) (time.Duration, bool) { return w.took(from, w.first.Load()) }

// All returns the time from the given moment until the last sender was back;
// false when not all are.
func (w *Watch) All(from time.Time) (time.Duration, bool) { return w.took(from, w.last.Load()) }

func (w *Watch) took(from time.Time, at int64) (time.Duration, bool) {
	if at == 0 {
		return 0, false
	}
	return w.crowd.start.Add(time.Duration(at)).Sub(from), true
}

// End is the end of a connection.
type End struct {
	At     time.Time
	Client *Client
	Node   string
	Code   int // of the server's close frame, 0 without one
	Cause  string
}

// maxEnds bounds the ends that are kept; more are counted by cause alone.
const maxEnds = 100_000

// events counts what happened to connections.
type events struct {
	fresh, recovered, notRecovered, gaps atomic.Uint64

	mu       sync.Mutex
	ends     []End
	causes   map[string]int
	failures map[string]int
}

func (e *events) ended(end End) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ends) < maxEnds {
		e.ends = append(e.ends, end)
	}
	if e.causes == nil {
		e.causes = map[string]int{}
	}
	e.causes[end.Cause]++
}

func (e *events) refused(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failures == nil {
		e.failures = map[string]int{}
	}
	e.failures[texto.Cause(err)]++
}

// Events is what happened to a crowd's connections so far.
type Events struct {
	Recovered    uint64         `json:"resumed_and_recovered"`
	NotRecovered uint64         `json:"resumed_with_a_gap"`
	Fresh        uint64         `json:"came_back_under_a_new_address"`
	Gaps         uint64         `json:"gaps_told_while_connected"`
	Ended        map[string]int `json:"connections_ended,omitempty"`
	Refused      map[string]int `json:"attempts_refused,omitempty"`
}

// Add adds up what happened to several crowds.
func (e *Events) Add(other Events) {
	e.Recovered += other.Recovered
	e.NotRecovered += other.NotRecovered
	e.Fresh += other.Fresh
	e.Gaps += other.Gaps
	add := func(to *map[string]int, from map[string]int) {
		for cause, n := range from {
			if *to == nil {
				*to = map[string]int{}
			}
			(*to)[cause] += n
		}
	}
	add(&e.Ended, other.Ended)
	add(&e.Refused, other.Refused)
}

// Events returns what happened so far.
func (c *Crowd) Events() Events {
	e := &c.events
	e.mu.Lock()
	defer e.mu.Unlock()
	return Events{Recovered: e.recovered.Load(), NotRecovered: e.notRecovered.Load(), Fresh: e.fresh.Load(), Gaps: e.gaps.Load(),
		Ended: maps.Clone(e.causes), Refused: maps.Clone(e.failures)}
}

// Ends returns the ends of connections since a moment, in order.
func (c *Crowd) Ends(since time.Time) (ends []End) {
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	for _, e := range c.events.ends {
		if !e.At.Before(since) {
			ends = append(ends, e)
		}
	}
	return ends
}
