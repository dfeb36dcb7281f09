package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"

	"parley/pkg/relay"
)

const room relay.Topic = "chat/beast"

// fault is what happens to a call.
type fault int

const (
	noFault    fault = iota
	refused          // it is not executed
	answerLost       // it is executed, and nobody hears of it
)

var errBroken = fmt.Errorf("%w: the test has broken it", relay.ErrUnavailable)

// store is a journal and an archive in memory, as may be needed. A fault befalls calls
// before they look at any message.
type store struct {
	mu sync.Mutex
	// before is called before each call, without mu, with its name: "oldest", "store",
	// "forget", "before", "newest" or "has".
	before func(ctx context.Context, call string) fault
	topics map[relay.Topic][]relay.Message // oldest first
	first  map[relay.Topic]relay.ID        // appended, ever
	last   map[relay.Topic]relay.ID        // the same
	intact relay.ID
	calls  map[string]int
	asked  int // messages that were asked for, in all
}

func newStore() *store {
	return &store{topics: map[relay.Topic][]relay.Message{}, first: map[relay.Topic]relay.ID{}, last: map[relay.Topic]relay.ID{}, calls: map[string]int{}}
}

// inject has a function called before each call, and decide about it; nil: none.
func (s *store) inject(before func(ctx context.Context, call string) fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// call runs f with mu held, unless a fault befalls it.
func (s *store) call(ctx context.Context, name string, f func()) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	var what fault
	if before != nil {
		what = before(ctx, name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
	}
	if what != refused {
		f()
	}
	if what != noFault {
		return errBroken
	}
	return nil
}

// appendTo adds messages whose bodies are numbers, the next ones of the topic. Places
// are not dense.
func (s *store) appendTo(t relay.Topic, n int) []relay.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var added []relay.Message
	for range n {
		id := s.last[t]
		if id.Seq++; id.IsZero() || id.Seq > 3 {
			id = relay.ID{Millis: id.Millis + 7}
		}
		if s.last[t].IsZero() {
			s.first[t] = id
		}
		s.last[t] = id
		added = append(added, relay.Message{ID: id, Topic: t, From: "1", Body: []byte(id.String())})
	}
	s.topics[t] = append(s.topics[t], added...)
	return added
}

func place(m relay.Message, id relay.ID) int { return m.ID.Compare(id) }

func (s *store) page(t relay.Topic, before relay.ID, n int) (page []relay.Message, more bool) {
	all := s.topics[t]
	end := len(all)
	if !before.IsZero() {
		end, _ = slices.BinarySearchFunc(all, before, place)
	}
	begin := max(end-max(n, 0), 0)
	page = slices.Clone(all[begin:end])
	slices.Reverse(page)
	s.asked += n
	return page, begin > 0
}

func (s *store) Before(ctx context.Context, t relay.Topic, before relay.ID, n int) (page []relay.Message, more bool, err error) {
	err = s.call(ctx, "before", func() { page, more = s.page(t, before, n) })
	if err != nil {
		return nil, false, err
	}
	return page, more, nil
}

func (s *store) Newest(ctx context.Context, t relay.Topic, n int) (r relay.Recent, err error) {
	err = s.call(ctx, "newest", func() {
		r.Messages, r.More = s.page(t, relay.ID{}, n)
		r.Intact = s.intact
		if n := len(r.Messages); n == 0 {
			r.Begins = s.last[t].IsZero()
		} else {
			r.Begins = !r.More && r.Messages[n-1].ID == s.first[t]
		}
	})
	if err != nil {
		return relay.Recent{}, err
	}
	return r, nil
}

func (s *store) Has(ctx context.Context, t relay.Topic, id relay.ID) (has bool, err error) {
	err = s.call(ctx, "has", func() { _, has = slices.BinarySearchFunc(s.topics[t], id, place) })
	return has && err == nil, err
}

func (s *store) Oldest(ctx context.Context, t relay.Topic, n int) (messages []relay.Message, total int64, err error) {
	err = s.call(ctx, "oldest", func() {
		all := s.topics[t]
		messages, total = slices.Clone(all[:min(n, len(all))]), int64(len(all))
		s.asked += n
	})
	if err != nil {
		return nil, 0, err
	}
	return messages, total, nil
}

func (s *store) Forget(ctx context.Context, t relay.Topic, upTo relay.ID) error {
	return s.call(ctx, "forget", func() {
		all := s.topics[t]
		i, found := slices.BinarySearchFunc(all, upTo, place)
		if found {
			i++
		}
		s.topics[t] = slices.Clone(all[i:])
	})
}

func (s *store) Store(ctx context.Context, messages []relay.Message) error {
	return s.call(ctx, "store", func() {
		for _, m := range messages {
			if i, found := slices.BinarySearchFunc(s.topics[m.Topic], m.ID, place); !found {
				s.topics[m.Topic] = slices.Insert(s.topics[m.Topic], i, m)
			}
		}
	})
}

// all is what the store has of a topic, oldest first.
func (s *store) all(t relay.Topic) []relay.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.topics[t])
}

func (s *store) len(t relay.Topic) int { return len(s.all(t)) }

func (s *store) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

// claims are one map for all nodes.
type claims struct {
	mu   sync.Mutex
	held map[string]string
	err  error
}

func newClaims() *claims { return &claims{held: map[string]string{}} }

func (c *claims) Claim(_ context.Context, name, holder string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false, c.err
	}
	if c.held[name] == "" {
		c.held[name] = holder
	}
	return c.held[name] == holder, nil
}

func (c *claims) Release(_ context.Context, name, holder string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.held[name] == holder {
		delete(c.held, name)
	}
	return nil
}

func (c *claims) holder(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[name]
}

// set makes every call fail, or none, and gives names to holders.
func (c *claims) set(err error, namesAndHolders ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for pair := range slices.Chunk(namesAndHolders, 2) {
		c.held[pair[0]] = pair[1]
	}
}

// pages reads a topic from its newest message to its first one, n at a time, and
// returns it newest first. What fails for want of the database is read again.
func pages(tb testing.TB, h relay.Records, t relay.Topic, n int) []relay.Message {
	tb.Helper()
	var all []relay.Message
	var r relay.Recent
	retry(tb, func() (err error) {
		r, err = h.Newest(tb.Context(), t, n)
		return err
	})
	all, more := r.Messages, r.More
	for more {
		if len(all) == 0 {
			tb.Fatal("no messages, and yet more")
		}
		var page []relay.Message
		retry(tb, func() (err error) {
			page, more, err = h.Before(tb.Context(), t, all[len(all)-1].ID, n)
			return err
		})
		if len(page) == 0 {
			tb.Fatal("there were more messages, and none came")
		}
		if more && len(page) != n {
			tb.Fatalf("a page of %d messages with more to come, want %d", len(page), n)
		}
		all = append(all, page...)
	}
	return all
}

func retry(tb testing.TB, call func() error) {
	tb.Helper()
	for {
		err := call()
		if err == nil {
			return
		}
		if !errors.Is(err, relay.ErrUnavailable) {
			tb.Fatalf("the error %v does not say that something is not available", err)
		}
	}
}

// same tells whether newest-first messages are exactly the oldest-first ones.
func same(newestFirst, oldestFirst []relay.Message) error {
	if len(newestFirst) != len(oldestFirst) {
		return errors.New("got " + strconv.Itoa(len(newestFirst)) + " messages, want " + strconv.Itoa(len(oldestFirst)))
	}
	for i, m := range newestFirst {
		want := oldestFirst[len(oldestFirst)-1-i]
		if m.ID != want.ID || string(m.Body) != string(want.Body) {
			return fmt.Errorf("message %d is %v (%q), want %v (%q)", i, m.ID, m.Body, want.ID, want.Body)
		}
	}
	return nil
}

// value is what a counter or a gauge shows.
func value(tb testing.TB, c prometheus.Metric) float64 {
	tb.Helper()
	var out dto.Metric
	if err := c.Write(&out); err != nil {
		tb.Fatal(err)
	}
	if out.Counter != nil {
		return out.Counter.GetValue()
	}
	return out.Gauge.GetValue()
}
