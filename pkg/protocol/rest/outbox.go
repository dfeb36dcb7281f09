package rest

import (
	"context"
	"sync"
	"time"

	"parley/pkg/relay"
)

const (
	// sentQueue is how many notices that Redis has may wait to be dropped from the
	// database; those beyond it are sent again later, and dropped then.
	sentQueue = 10_000
	// dropEvery is how often they are dropped, and dropAtOnce how many at a time.
	dropEvery  = 200 * time.Millisecond
	dropAtOnce = 500
	// sweepEvery is how often one node of the fleet looks for notices that nobody has
	// passed on, sweepAge how old they are, and sweepAtOnce how many it takes at a time.
	sweepEvery  = 5 * time.Second
	sweepAge    = 10 * time.Second
	sweepAtOnce = 5000
	// lastWords is how long a server that ends waits for Redis to have what is on its way.
	lastWords = 2 * time.Second
	// retryFor is for how long a node tries again by itself, less than sweepAge: a try
	// takes two seconds at most, and there is one each tidyEvery.
	retryFor = 6 * time.Second
	// sweepKey is the key of the count by which nodes agree on who sweeps.
	sweepKey = "rest/sweep"
	// sweepPatience bounds what a sweep waits for the database, and for Redis.
	sweepPatience = 5 * time.Second
)

// passing is a notice on its way to those whom it is for.
type passing struct {
	s      *Server
	notice relay.Notice
	since  time.Time

	mu     sync.Mutex
	open   int     // receivers of whom it is not known whether their topic has it
	failed []int64 // of whose topic it is not known
}

// receiver is one of those whom a notice is for.
type receiver struct {
	*passing
	user int64
}

var _ relay.Acker = receiver{}

// Published implements relay.Acker. When all have the notice the database needs it no
// longer.
func (r receiver) Published(_ relay.Token, _ relay.ID, err error) {
	result := resultSent
	if err != nil {
		result = resultFailed
	}
	r.s.metrics.notices.WithLabelValues(result).Inc()
	defer r.s.passing.Add(-1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed = append(r.failed, r.user)
	}
	if r.open--; r.open == 0 {
		r.passed()
	}
}

// passed is when all has been tried. It is called with mu held, or by the only one who
// knows it.
func (p *passing) passed() {
	if len(p.failed) > 0 {
		p.s.again(p)
		return
	}
	select {
	case p.s.sent <- p.notice.ID:
	default: // it is passed on once more, and dropped then
	}
}

// publish passes a notice to the topics of users.
func (p *passing) publish(users []int64) {
	p.mu.Lock()
	p.open, p.failed = len(users), nil
	p.mu.Unlock()
	if len(users) == 0 { // all have left meanwhile
		p.passed()
		return
	}
	p.s.passing.Add(int64(len(users)))
	for _, user := range users {
		p.s.deps.Publisher.Enqueue(relay.Message{Topic: relay.UserTopic(user), Time: p.since, Body: p.notice.Body}, NoticeRetention, receiver{p, user}, relay.Token{})
	}
}

// tell passes notices on. It does not wait. Those whose topic cannot be reached are tried
// again, by this node for a while, and then by whichever sweeps.
func (s *Server) tell(notices ...relay.Notice) {
	now := time.Now()
	for _, n := range notices {
		if n.ID != 0 {
			p := &passing{s: s, notice: n, since: now}
			p.publish(n.To)
		}
	}
}

// tellFor is tell for what a user has done, who is charged for those who are told.
func (s *Server) tellFor(c *call, notices ...relay.Notice) {
	told := 0
	for _, n := range notices {
		told += len(n.To)
	}
	s.pace.charge(paceOfUser(c.id), told*costTold, time.Now())
	s.tell(notices...)
}

// again has a notice tried again for those whom it did not reach, unless others may be
// about to do so.
func (s *Server) again(p *passing) {
	if time.Since(p.since) > retryFor {
		return
	}
	s.retryMu.Lock()
	defer s.retryMu.Unlock()
	if len(s.retries) < sentQueue {
		s.retries = append(s.retries, p)
	}
}

// retry tries again what has gathered.
func (s *Server) retry() {
	s.retryMu.Lock()
	all := s.retries
	s.retries = nil
	s.retryMu.Unlock()
	for _, p := range all {
		p.mu.Lock()
		failed := p.failed
		p.mu.Unlock()
		p.publish(failed)
	}
}

// dropSent drops from the database what Redis has, until the server is closed.
func (s *Server) dropSent() {
	tick := time.NewTicker(dropEvery)
	defer tick.Stop()
	var left []int64
	for {
		select {
		case <-s.ctx.Done():
			if len(s.drop(left)) > 0 {
				s.log.Warn("notices that were passed on stay in the database, and are passed on once more")
			}
			return
		case <-tick.C:
			left = s.drop(left)
		}
	}
}

// drop drops what has gathered, and returns what it could not, for the next time.
func (s *Server) drop(left []int64) []int64 {
	for {
		for len(left) < dropAtOnce {
			select {
			case id := <-s.sent:
				left = append(left, id)
				continue
			default:
			}
			break
		}
		if len(left) == 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), sweepPatience)
		err := s.deps.Outbox.Done(ctx, left...)
		cancel()
		if err != nil {
			s.log.Debug("notices that were passed on stay in the database", "notices", len(left), "error", err)
			return left
		}
		left = left[:0]
	}
}

// sweep passes on what other nodes, or this one, could not, until the server is closed.
func (s *Server) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.sweepOnce()
		}
	}
}

// sweepOnce passes on what has stood in the database for long, if it is this node's turn.
// Two nodes that do it at once tell users twice, and do no other harm.
func (s *Server) sweepOnce() {
	ctx, cancel := context.WithTimeout(s.ctx, sweepPatience)
	defer cancel()
	if wait, err := s.deps.Meter.Take(ctx, sweepKey, 1, sweepEvery-time.Second); err != nil || wait > 0 {
		return // without Redis there is nobody to pass them to
	}
	notices, err := s.deps.Outbox.Pending(ctx, sweepAge, sweepAtOnce)
	if err != nil {
		s.log.Debug("notices that nobody has passed on cannot be read", "error", err)
		return
	}
	if len(notices) > 0 {
		s.log.Info("passing on notices that a node could not", "notices", len(notices))
		s.tell(notices...)
	}
}
