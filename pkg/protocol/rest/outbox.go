package rest

import (
	"context"
	"sync/atomic"
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
	sweepAtOnce = 500
	// sweepKey is the key of the count by which nodes agree on who sweeps.
	sweepKey = "rest/sweep"
	// sweepPatience bounds what a sweep waits for the database, and for Redis.
	sweepPatience = 5 * time.Second
)

// passing is a notice on its way to those whom it is for.
type passing struct {
	s      *Server
	id     int64
	open   atomic.Int64 // receivers whose topic does not have it yet
	failed atomic.Bool
}

var _ relay.Acker = (*passing)(nil)

// Published implements relay.Acker. When all have it the database needs it no longer; else
// somebody will sweep it up.
func (p *passing) Published(_ relay.Token, _ relay.ID, err error) {
	if err != nil {
		p.failed.Store(true)
		p.s.metrics.notices.WithLabelValues(resultFailed).Inc()
	} else {
		p.s.metrics.notices.WithLabelValues(resultSent).Inc()
	}
	if p.open.Add(-1) > 0 || p.failed.Load() {
		return
	}
	select {
	case p.s.sent <- p.id:
	default:
	}
}

// tell passes notices on. It does not wait; what fails is tried again by whichever node
// sweeps next.
func (s *Server) tell(notices ...relay.Notice) {
	now := time.Now()
	for _, n := range notices {
		if n.ID == 0 {
			continue
		}
		p := &passing{s: s, id: n.ID}
		p.open.Store(int64(max(1, len(n.To))))
		if len(n.To) == 0 { // all have left meanwhile
			p.Published(relay.Token{}, relay.ID{}, nil)
		}
		for _, user := range n.To {
			s.deps.Publisher.Enqueue(relay.Message{Topic: relay.UserTopic(user), Time: now, Body: n.Body}, NoticeRetention, p, relay.Token{})
		}
	}
}

// dropSent drops from the database what Redis has, until the server is closed.
func (s *Server) dropSent() {
	tick := time.NewTicker(dropEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			s.drop()
			return
		case <-tick.C:
			s.drop()
		}
	}
}

// drop drops what has gathered. What cannot be dropped is swept up later.
func (s *Server) drop() {
	for {
		var ids []int64
		for len(ids) < dropAtOnce {
			select {
			case id := <-s.sent:
				ids = append(ids, id)
				continue
			default:
			}
			break
		}
		if len(ids) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), sweepPatience)
		err := s.deps.Outbox.Done(ctx, ids...)
		cancel()
		if err != nil {
			s.log.Debug("notices stay in the database, and are passed on once more", "notices", len(ids), "error", err)
			return
		}
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
