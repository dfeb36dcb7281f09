package rest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/relay"
)

const (
	// maxPolls is how many polls of one user may be under way on one node.
	maxPolls = 16
	// linger is how long a node hears a user's topic after the last poll, since the next
	// one usually comes at once.
	linger = 30 * time.Second
	// subscribeTimeout bounds the wait for Redis to confirm that. It is long enough for ten
	// thousand users who come at once, from a node that went.
	subscribeTimeout = 5 * time.Second
)

// center is one user's notification centre on this node: it hears the user's topic for
// all polls of the user.
type center struct {
	// Fixed.
	user  int64
	topic relay.Topic
	loop  *conn.Loop
	ready chan struct{} // closed when err is known

	err error // of the subscription; fixed once ready is closed

	// Guarded by Server.mu.
	uses int       // polls that have it
	idle time.Time // since when there are none

	mu    sync.Mutex
	polls []*poll
}

var (
	_ hub.Subscriber = (*center)(nil)
	_ hub.GapTaker   = (*center)(nil)
)

// Loop implements hub.Subscriber.
func (c *center) Loop() *conn.Loop { return c.loop }

// Deliver hands a notification to all polls that wait for it.
func (c *center) Deliver(m *relay.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.polls {
		p.take(m)
	}
}

// Gap has all polls ask anew: what is missing is told in the answer.
func (c *center) Gap(relay.Position) { c.wake((*poll).askAnew) }

// wake changes all polls.
func (c *center) wake(change func(*poll)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.polls {
		change(p)
	}
}

// enter has a poll hear of its user's notifications from now on. Each success needs one
// leave.
func (s *Server) enter(ctx context.Context, p *poll) (*center, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, relay.ErrClosed
	}
	c, known := s.centers[p.user]
	if !known {
		c = &center{user: p.user, topic: relay.UserTopic(p.user), loop: s.deps.Loops.LoopFor(uint64(p.user)), ready: make(chan struct{})}
		s.centers[p.user] = c
	}
	if c.uses >= maxPolls {
		s.mu.Unlock()
		return nil, tooMany(fmt.Sprintf("%d polls of this user are under way here already", maxPolls), time.Second)
	}
	c.uses++
	s.mu.Unlock()
	if !known {
		s.subscribe(c)
	}
	select {
	case <-c.ready:
	case <-ctx.Done():
		s.leave(c, nil)
		return nil, fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
	}
	if c.err != nil {
		s.leave(c, nil)
		return nil, c.err
	}
	c.mu.Lock()
	c.polls = append(c.polls, p)
	c.mu.Unlock()
	return c, nil
}

// subscribe is for whoever has made a center. It does not end with the request: others may
// wait for it.
func (s *Server) subscribe(c *center) {
	ctx, cancel := context.WithTimeout(s.ctx, subscribeTimeout)
	defer cancel()
	_, err := s.deps.Hub.Subscribe(ctx, c.topic, c)
	if err != nil {
		s.mu.Lock()
		delete(s.centers, c.user) // the next poll tries again
		s.mu.Unlock()
	}
	c.err = err
	close(c.ready)
}

// leave takes a poll out, nil if it never was in.
func (s *Server) leave(c *center, p *poll) {
	if p != nil {
		c.mu.Lock()
		if at := slices.Index(c.polls, p); at >= 0 {
			c.polls = slices.Delete(c.polls, at, at+1)
		}
		c.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.uses--; c.uses == 0 {
		c.idle = time.Now()
	}
}

// tidyCenters stops hearing users for whom nobody has polled for a while.
func (s *Server) tidyCenters(now time.Time) {
	s.mu.Lock()
	var left []*center
	for user, c := range s.centers {
		if c.uses == 0 && now.Sub(c.idle) >= linger {
			delete(s.centers, user)
			left = append(left, c)
		}
	}
	s.mu.Unlock()
	for _, c := range left {
		s.forget(c)
	}
}

// forget ends the subscription of a center that nobody uses.
func (s *Server) forget(c *center) {
	<-c.ready
	if c.err == nil {
		s.deps.Hub.Unsubscribe(c.topic, c)
	}
}
