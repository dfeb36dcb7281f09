package drill

import (
	"context"
	"fmt"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/pkg/redisproc"
)

// What the drills of one Redis are held to.
const (
	// answerBound is the longest that a sender waits for its answer: the two
	// seconds that are promised, and what a busy machine adds to them.
	answerBound = 2*time.Second + 500*time.Millisecond
	// recoveryBound is the time from the moment when Redis answers again until
	// every pair of clients is served.
	recoveryBound = 2 * time.Second
	// stopTime is how long redis-stop stops it.
	stopTime = 5 * time.Second
	// awayShare: one of so many pairs has its first client away while the fault
	// happens, so that somebody resumes after it.
	awayShare = 4
	// awayTime is how long they are away before the fault, and miss messages.
	awayTime = time.Second
)

// onOneRedis starts nodes over one Redis, which ends with the drill. With a
// target it starts nothing.
func (s *stage) onOneRedis(ctx context.Context, behindNginx bool, args ...string) error {
	if s.opt.Targets != nil {
		return nil
	}
	server, err := redisproc.Start(redisproc.Options{})
	if err != nil {
		return err
	}
	s.redis = server
	s.closeRedis(server)
	return s.fleetOf(ctx, server.URL(), behindNginx, nil, args...)
}

// closeRedis has servers ended with the drill, after their log was kept.
func (s *stage) closeRedis(servers interface {
	Log() string
	Close() error
}) {
	s.later(func() {
		s.keepLog("redis", servers.Log())
		if err := servers.Close(); err != nil {
			s.report.tell("closing Redis", "%v", err)
		}
	})
}

var redisStop = &Drill{
	Name:    "redis-stop",
	Summary: "SIGSTOP for Redis, and SIGCONT 5 s later",
	Passes:  `publishes fail within their timeout; recovery within 2 s; 0 false "recovered"; 0 silent loss`,
	rounds:  3, quickRounds: 1,
	play: func(ctx context.Context, s *stage) error {
		err := s.redisFaults(ctx, func() error {
			if err := s.redis.Stop(); err != nil {
				return err
			}
			slept := sleep(ctx, stopTime)
			if err := s.redis.Cont(); err != nil {
				return err
			}
			if !slept {
				return ctx.Err()
			}
			return nil
		})
		if err != nil {
			return err
		}
		refused := s.ledger.Totals().Refused
		s.report.check(refused > 0, "messages refused while Redis stood still", fmt.Sprint(refused), "some")
		return nil
	},
}

var redisRestart = &Drill{
	Name:    "redis-restart",
	Summary: "SIGKILL for Redis, and an empty one in its place a moment later",
	Passes:  `publishes fail within their timeout; recovery within 2 s; 0 false "recovered"; 0 silent loss`,
	rounds:  5, quickRounds: 2,
	play: func(ctx context.Context, s *stage) error {
		const longestDown = 3 * time.Second
		return s.redisFaults(ctx, func() error {
			s.redis.Kill()
			if !sleep(ctx, time.Duration(s.rng.Int64N(int64(longestDown)))) {
				return ctx.Err()
			}
			return s.redis.Restart()
		})
	},
}

var redisFlush = &Drill{
	Name:    "redis-flush",
	Summary: "FLUSHALL under load",
	Passes:  `publishes fail within their timeout; recovery within 2 s; 0 false "recovered"; 0 silent loss`,
	rounds:  5, quickRounds: 2,
	play: func(ctx context.Context, s *stage) error {
		return s.redisFaults(ctx, func() error { return s.redis.Client().FlushAll(ctx).Err() })
	},
}

// redisFaults plays rounds of a fault of one Redis. fault returns when it is
// over.
func (s *stage) redisFaults(ctx context.Context, fault func() error) error {
	if err := s.onOneRedis(ctx, false); err != nil {
		return err
	}
	c, err := s.gather(ctx, crowd.Config{})
	if err != nil {
		return err
	}
	var worst time.Duration
	err = s.rounds(ctx, "", s.opt.Rounds, func(int) error {
		away := map[*crowd.Client]bool{}
		for i, client := range c.Clients() {
			if i%(2*awayShare) == 0 {
				away[client] = true
				client.Leave()
			}
		}
		defer func() {
			for client := range away {
				client.Return()
			}
		}()
		if !sleep(ctx, awayTime) {
			return ctx.Err()
		}
		if err := fault(); err != nil {
			return err
		}
		over := time.Now()
		w := c.Watch(func(sender *crowd.Client) bool { return !away[sender] && !away[sender.Partner()] })
		for client := range away {
			client.Return()
		}
		if err := s.back(ctx, w, over); err != nil {
			return err
		}
		took, _ := w.All(over)
		worst = max(worst, took)
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	s.report.within("slowest recovery of all pairs", worst, recoveryBound+s.interval(c))
	s.checkAnswers()
	e := c.Events()
	s.report.check(e.Recovered+e.NotRecovered+e.Fresh > 0, "clients that came back after a fault", fmt.Sprint(e.Recovered+e.NotRecovered+e.Fresh), "some")
	return nil
}

// interval is how often a client sends: a recovery shows that much later.
func (s *stage) interval(c *crowd.Crowd) time.Duration {
	return time.Duration(float64(len(c.Clients())) / s.opt.Rate * float64(time.Second))
}

// checkAnswers holds the longest wait for an answer to its bound.
func (s *stage) checkAnswers() {
	if t := timesIn(&s.crowd.Answers); t != nil {
		s.report.within("longest wait for an answer", time.Duration(t.Max*float64(time.Millisecond)), answerBound)
	}
}

// footprintSlack is how much of their files and goroutines nodes may gain or
// lose by faults.
const footprintSlack = 0.05

var pubsubKill = &Drill{
	Name:     "pubsub-kill",
	Summary:  "each second, Redis cuts the nodes' subscriber connections",
	Passes:   "every hole is healed or told: 0 silent loss; the nodes' descriptors and goroutines are steady within 5%; a minute",
	duration: time.Minute, quickDuration: 5 * time.Second,
	play: func(ctx context.Context, s *stage) error {
		if err := s.onOneRedis(ctx, false); err != nil {
			return err
		}
		killed := int64(0)
		err := s.steadily(ctx, time.Second, func() error {
			n, err := s.redis.Client().ClientKillByFilter(ctx, "TYPE", "pubsub").Result()
			killed += n
			return err
		})
		if err != nil {
			return err
		}
		s.report.check(killed > 0, "subscriber connections cut", fmt.Sprint(killed), "some")
		return s.tellGaps(ctx)
	},
}

// What buffer-kill sets, and what it sends to pass that.
const (
	tinyBuffer = "pubsub 32kb 16kb 1"
	burstText  = 40 << 10
	burstRate  = 3
	bursters   = 12
)

var bufferKill = &Drill{
	Name:     "buffer-kill",
	Summary:  "Redis has a tiny output buffer for subscribers, and bursts overflow it",
	Passes:   "every hole is healed or told: 0 silent loss; the nodes' descriptors and goroutines are steady within 5%",
	duration: 30 * time.Second, quickDuration: 5 * time.Second,
	play: func(ctx context.Context, s *stage) error {
		if err := s.onOneRedis(ctx, false); err != nil {
			return err
		}
		if err := s.redis.Client().ConfigSet(ctx, "client-output-buffer-limit", tinyBuffer).Err(); err != nil {
			return err
		}
		var bursts *crowd.Crowd
		err := s.steadily(ctx, time.Second, func() (err error) {
			if bursts == nil {
				bursts, err = s.gather(ctx, crowd.Config{Clients: bursters, Size: burstText, Rate: burstRate})
			}
			return err
		})
		if err != nil {
			return err
		}
		lost, err := s.fleet.sum(ctx, "parley_redis_reconnects_total")
		if err != nil {
			return err
		}
		s.report.check(lost > 0, "subscriber connections that overflowed", fmt.Sprint(lost), "some")
		return s.tellGaps(ctx)
	},
}

// steadily does something each step under load for the drill's duration, and
// checks that what the nodes hold has not changed by it.
func (s *stage) steadily(ctx context.Context, step time.Duration, fault func() error) error {
	if _, err := s.gather(ctx, crowd.Config{}); err != nil {
		return err
	}
	if !sleep(ctx, 2*time.Second) {
		return ctx.Err()
	}
	before, err := s.fleet.footprint(ctx)
	if err != nil {
		return err
	}
	for start := time.Now(); time.Since(start) < s.opt.Duration; {
		if err := fault(); err != nil {
			return err
		}
		s.say("%s of %s", time.Since(start).Round(time.Second), s.opt.Duration)
		if !sleep(ctx, step) {
			return ctx.Err()
		}
		s.report.Rounds++
	}
	for len(s.crowds) > 1 { // what came with the fault goes with it
		if err := s.retire(ctx, s.crowds[1]); err != nil {
			return err
		}
	}
	if err := s.whole(ctx); err != nil {
		return err
	}
	if err := s.checkFootprint(ctx, before); err != nil {
		return err
	}
	return s.finish(ctx)
}

// footprintPatience is how long what a fault has left behind may take to go.
const footprintPatience = 30 * time.Second

// checkFootprint compares what the nodes hold with what they held.
func (s *stage) checkFootprint(ctx context.Context, before footprint) error {
	steady := func(was, is int) bool {
		slack := footprintSlack * float64(was)
		return float64(is) >= float64(was)-slack && float64(is) <= float64(was)+slack
	}
	var after footprint
	for deadline := time.Now().Add(footprintPatience); ; {
		var err error
		if after, err = s.fleet.footprint(ctx); err != nil {
			return err
		}
		if steady(before.files, after.files) && steady(before.goroutines, after.goroutines) || time.Now().After(deadline) {
			break
		}
		if !sleep(ctx, 250*time.Millisecond) {
			return ctx.Err()
		}
	}
	limit := fmt.Sprintf("steady within %g%%", 100*footprintSlack)
	s.report.check(steady(before.files, after.files), "open files of all nodes", fmt.Sprintf("%d, before %d", after.files, before.files), limit)
	s.report.check(steady(before.goroutines, after.goroutines), "goroutines of all nodes", fmt.Sprintf("%d, before %d", after.goroutines, before.goroutines), limit)
	return nil
}

// tellGaps reports what the nodes say of holes.
func (s *stage) tellGaps(ctx context.Context) error {
	healed, err := s.fleet.sum(ctx, "parley_gaps_total", `healed="true"`)
	if err != nil {
		return err
	}
	not, err := s.fleet.sum(ctx, "parley_gaps_total", `healed="false"`)
	if err != nil {
		return err
	}
	s.report.tell("holes by the nodes' account", "%.0f healed, %.0f not", healed, not)
	return nil
}

// fields reads "name<separator>value" lines, or words with another end.
func fields(text, separator, end string) map[string]string {
	m := map[string]string{}
	for line := range strings.SplitSeq(text, end) {
		if name, value, ok := strings.Cut(line, separator); ok {
			m[name] = value
		}
	}
	return m
}
