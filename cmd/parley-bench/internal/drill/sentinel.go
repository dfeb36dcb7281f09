package drill

import (
	"context"
	"fmt"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/pkg/redisproc"
)

// What the drills of Sentinel are held to.
const (
	downAfter     = time.Second     // of silence until a Sentinel calls a server down
	failoverBound = 3 * time.Second // beyond that, until the service is back
	demoteBound   = 3 * time.Second // until a master that was demoted is found out
	// strictTime is how long every acknowledged message must be delivered once
	// the demoted master was found, and strictMargin what is left behind that
	// until the next fault, so that none is on its way then.
	strictTime   = 4 * time.Second
	strictMargin = 2500 * time.Millisecond
	// demotePatience is how long is watched for the nodes to leave it.
	demotePatience = 15 * time.Second
)

// onSentinel starts Redis with Sentinels.
func (s *stage) onSentinel(ctx context.Context) (*redisproc.Sentinel, error) {
	s.say("starting a master, two replicas, three Sentinels")
	r, err := redisproc.StartSentinel(ctx, redisproc.SentinelOptions{DownAfter: downAfter})
	if err != nil {
		return nil, err
	}
	s.closeRedis(r)
	return r, nil
}

var redisFailover = &Drill{
	Name:    "redis-failover",
	Summary: "SIGKILL for the master under Sentinel, again and again: first with --redis-wait-replicas 1, then without",
	Passes: "the service is back within down-after + 3 s each time; 0 acknowledged lost with wait-replicas 1; " +
		"without it all losses are told as gaps; 20 rounds each",
	Target: true,
	rounds: 20, quickRounds: 1,
	play: playRedisFailover,
}

func playRedisFailover(ctx context.Context, s *stage) error {
	if s.opt.Targets != nil {
		if _, err := s.gather(ctx, crowd.Config{}); err != nil {
			return err
		}
		if err := s.rounds(ctx, "", s.opt.Rounds, func(int) error { return s.breakOther(ctx) }); err != nil {
			return err
		}
		return s.finish(ctx)
	}
	r, err := s.onSentinel(ctx)
	if err != nil {
		return err
	}
	for _, phase := range []struct {
		name string
		env  []string
		safe bool
	}{
		{"with wait-replicas 1, ", []string{"PARLEY_REDIS_WAIT_REPLICAS=1"}, true},
		{"without, ", nil, false},
	} {
		if err := s.failoverPhase(ctx, r, phase.name, phase.env, phase.safe); err != nil {
			return err
		}
	}
	s.report.none("lost with wait-replicas 1, told or not", s.ledger.Totals().LostStrict)
	var worst time.Duration
	for _, d := range s.report.back {
		worst = max(worst, d)
	}
	s.report.within("slowest return of the service", worst, downAfter+failoverBound)
	return nil
}

func (s *stage) failoverPhase(ctx context.Context, r *redisproc.Sentinel, name string, env []string, safe bool) error {
	s.ledger.Strict(safe)
	if err := s.fleetOf(ctx, r.URL(), false, env); err != nil {
		return err
	}
	c, err := s.gather(ctx, crowd.Config{})
	if err != nil {
		return err
	}
	err = s.rounds(ctx, name, s.opt.Rounds, func(int) error {
		from := time.Now()
		killed, err := r.KillMaster(ctx)
		if err != nil {
			return err
		}
		if err := s.back(ctx, c.Watch(nil), from); err != nil {
			return err
		}
		if _, err := r.WaitMoved(ctx, killed); err != nil {
			return err
		}
		if err := r.Rejoin(ctx, killed); err != nil {
			return err
		}
		return r.WaitReady(ctx)
	})
	if err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	if err := s.retire(ctx, c); err != nil {
		return err
	}
	s.fleet.close()
	return nil
}

var redisDemote = &Drill{
	Name: "redis-demote",
	Summary: "the master is demoted and stays alive: once by SENTINEL FAILOVER, once cut off from Sentinels and replicas " +
		"while the nodes reach it as before",
	Passes: "found within 3 s of the switch: from then on every acknowledged message is delivered, and no node " +
		"subscribes at the old master; what that has acknowledged before is delivered or told",
	rounds: 2, quickRounds: 1,
	play: playRedisDemote,
}

func playRedisDemote(ctx context.Context, s *stage) error {
	r, err := s.onSentinel(ctx)
	if err != nil {
		return err
	}
	if err := s.fleetOf(ctx, r.URL(), false, nil); err != nil {
		return err
	}
	if _, err := s.gather(ctx, crowd.Config{}); err != nil {
		return err
	}
	err = s.rounds(ctx, "SENTINEL FAILOVER, ", s.opt.Rounds, func(int) error {
		old, _, err := r.Failover(ctx)
		if err != nil {
			return err
		}
		if err := s.demoted(ctx, old); err != nil {
			return err
		}
		return r.WaitReady(ctx)
	})
	if err != nil {
		return err
	}
	err = s.rounds(ctx, "cut off, ", s.opt.Rounds, func(int) error {
		old, err := r.Master(ctx)
		if err != nil {
			return err
		}
		if err := r.Isolate(ctx, old); err != nil {
			return err
		}
		if _, err := r.WaitMoved(ctx, old); err != nil {
			return err
		}
		if err := s.demoted(ctx, old); err != nil {
			return err
		}
		if err := r.Heal(ctx, old); err != nil {
			return err
		}
		return r.WaitReady(ctx)
	})
	if err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	s.report.none("acknowledged into the void once 3 s were over, told or not", s.ledger.Totals().LostStrict)
	return nil
}

// demoted looks at what the nodes do after a switch to another master that has
// just happened. The caller has ended the strict time before the fault; demoted
// begins it again when the old master must have been found, and ends it before it
// returns.
func (s *stage) demoted(ctx context.Context, old *redisproc.Server) error {
	switched := time.Now()
	var left time.Duration // until no node was at the old master any more
	var w *crowd.Watch
	for left == 0 || w == nil {
		since := time.Since(switched)
		if since >= demoteBound && w == nil {
			s.ledger.Strict(true)
			w = s.crowd.Watch(nil)
		}
		if since > demotePatience {
			break
		}
		// A server in the midst of a change may not answer: it is asked again.
		if n, err := nodeSubscribers(ctx, old); err == nil && n == 0 && left == 0 {
			left = since
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	if left == 0 {
		s.report.check(false, "subscribers at the old master", fmt.Sprintf("still there after %v", demotePatience), "none after "+round(demoteBound))
	} else {
		s.report.within("the old master was left after", left, demoteBound)
	}
	if !sleep(ctx, strictTime) {
		return ctx.Err()
	}
	s.ledger.Strict(false)
	if err := s.back(ctx, w, switched); err != nil {
		return err
	}
	if !sleep(ctx, strictMargin) {
		return ctx.Err()
	}
	return nil
}

// nodeSubscribers counts the subscriber connections of nodes at a server. Those
// of Sentinels, which subscribe too, are named after them.
func nodeSubscribers(ctx context.Context, server *redisproc.Server) (n int, err error) {
	list, err := server.Client().Do(ctx, "CLIENT", "LIST", "TYPE", "pubsub").Text()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(list) {
		if !strings.HasPrefix(fields(strings.TrimSpace(line), "=", " ")["name"], "sentinel-") {
			n++
		}
	}
	return n, nil
}
