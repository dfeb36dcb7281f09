package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
)

// What the drills of nodes are held to.
const (
	reconnectBound = 5 * time.Second // node-kill: the p99 of reconnecting
	drainSlack     = 5 * time.Second // node-drain: what a drain may take beyond its window
	secondBound    = time.Second     // node-drain: what a second signal may take
	// spreadParts and spreadMost: of the parts of the window, none has more than
	// this share of the closes.
	spreadParts = 10
	spreadMost  = 0.3
	// spreadLeast is how many closes there have to be to judge their spread.
	spreadLeast = 20
)

var nodeKill = &Drill{
	Name:    "node-kill",
	Summary: "SIGKILL for one node under load, again and again",
	Passes:  "0 silent loss among the acknowledged; the p99 of reconnecting is below 5 s; 20 rounds",
	Target:  true,
	rounds:  20, quickRounds: 2,
	leastNodes: 2,
	play:       playNodeKill,
}

func playNodeKill(ctx context.Context, s *stage) error {
	if err := s.onOneRedis(ctx, false); err != nil {
		return err
	}
	c, err := s.gather(ctx, crowd.Config{})
	if err != nil {
		return err
	}
	err = s.rounds(ctx, "", s.opt.Rounds, func(int) error {
		if s.fleet == nil {
			return s.breakOther(ctx)
		}
		victim := s.victim(c)
		hit := map[*crowd.Client]bool{}
		for _, client := range c.Clients() {
			if client.Node() == victim.name {
				hit[client], hit[client.Partner()] = true, true
			}
		}
		from := time.Now()
		victim.process.kill()
		w := c.Watch(func(sender *crowd.Client) bool { return hit[sender] })
		if err := s.back(ctx, w, from); err != nil {
			return err
		}
		return victim.start(ctx)
	})
	if err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	s.checkReconnect(reconnectBound)
	return nil
}

// victim chooses a node that holds clients.
func (s *stage) victim(c *crowd.Crowd) *node {
	for _, i := range s.rng.Perm(len(s.fleet.nodes)) {
		if n := s.fleet.nodes[i]; onNode(c, n.name) > 0 {
			return n
		}
	}
	return s.fleet.nodes[0]
}

// checkReconnect holds the p99 of reconnecting to a bound.
func (s *stage) checkReconnect(bound time.Duration) {
	t := timesIn(&s.crowd.Reconnects)
	if t == nil {
		s.report.check(false, "clients that lost their connection", "0", "some: the fault hit nobody")
		return
	}
	s.report.within("p99 of reconnecting", time.Duration(t.P99*float64(time.Millisecond)), bound)
}

// breakOther plays a round on a fleet that is not ours: its command breaks
// something, and all clients have to be back.
func (s *stage) breakOther(ctx context.Context) error {
	from := time.Now()
	if err := s.killOther(ctx); err != nil {
		return err
	}
	if err := s.back(ctx, s.crowd.Watch(nil), from); err != nil {
		return err
	}
	return s.healOther(ctx)
}

var nodeDrain = &Drill{
	Name:    "node-drain",
	Summary: "SIGTERM for a node behind nginx, and a second signal for another one",
	Passes: "0 lost, 0 refused at the balancer; closes are spread over the window; exit code 0 within the window + 5 s; " +
		"a second signal ends a node within 1 s",
	rounds: 1, quickRounds: 1,
	clients:    120,
	leastNodes: 2,
	play:       playNodeDrain,
}

// drain is how long a node's drain takes.
type drain struct{ delay, window time.Duration }

func (d drain) args() []string {
	return []string{"--drain-delay", d.delay.String(), "--drain-window", d.window.String()}
}

func (d drain) total() time.Duration { return d.delay + d.window }

func playNodeDrain(ctx context.Context, s *stage) error {
	times := drain{delay: 5 * time.Second, window: 20 * time.Second} // a node's defaults
	if s.opt.Quick {
		times = drain{delay: time.Second, window: 4 * time.Second}
	}
	if err := s.onOneRedis(ctx, true, times.args()...); err != nil {
		return err
	}
	c, err := s.gather(ctx, crowd.Config{})
	if err != nil {
		return err
	}
	err = s.rounds(ctx, "", s.opt.Rounds, func(i int) error {
		first := s.fleet.nodes[2*i%len(s.fleet.nodes)]
		from := time.Now()
		if err := s.drainOne(ctx, first, times); err != nil {
			return err
		}
		s.checkSpread(c.Ends(from), first, from.Add(times.delay), times.window)
		if err := first.start(ctx); err != nil {
			return err
		}
		if err := s.whole(ctx); err != nil {
			return err
		}
		s.say("a second signal")
		second := s.fleet.nodes[(2*i+1)%len(s.fleet.nodes)]
		second.terminate()
		if !sleep(ctx, times.delay+times.window/4) {
			return ctx.Err()
		}
		at := time.Now()
		second.terminate()
		if !second.process.waitFor(times.total() + drainSlack) {
			return errors.New("a node went on after a second SIGTERM")
		}
		s.report.within("end after a second signal", second.process.at.Sub(at), secondBound)
		return second.start(ctx)
	})
	if err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	s.noneLost()
	s.noneRefused()
	return nil
}

// drainOne drains a node and checks how it ended.
func (s *stage) drainOne(ctx context.Context, n *node, times drain) error {
	from := time.Now()
	n.terminate()
	for !n.process.waitFor(100 * time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Since(from) > times.total()+backPatience {
			return fmt.Errorf("%s did not end after SIGTERM", n.name)
		}
	}
	s.report.within(n.name+" ended after SIGTERM", n.process.at.Sub(from), times.total()+drainSlack)
	s.report.check(n.process.code == 0, "exit code of "+n.name, fmt.Sprint(n.process.code), "0")
	return nil
}

// checkSpread tells whether a node's closes were spread over its window.
func (s *stage) checkSpread(ends []crowd.End, n *node, from time.Time, window time.Duration) {
	var parts [spreadParts]int
	closes, others := 0, 0
	for _, e := range ends {
		if e.Node != n.name {
			continue
		}
		if closes++; e.Code != crowd.CloseRestart {
			others++
		}
		part := int(spreadParts * e.At.Sub(from) / window)
		parts[min(max(part, 0), spreadParts-1)]++
	}
	most := 0
	for _, p := range parts {
		most = max(most, p)
	}
	s.report.check(closes >= spreadLeast, "connections closed by the drain", fmt.Sprint(closes), fmt.Sprintf("%d at least, to judge their spread", spreadLeast))
	s.report.check(float64(most) <= spreadMost*float64(closes), "most closes in a tenth of the window",
		fmt.Sprintf("%d of %d, %v", most, closes, parts), fmt.Sprintf("at most %g of all", spreadMost))
	s.report.check(others == 0, "closes with another code than 1012", fmt.Sprint(others), "0")
}

// noneRefused checks that nobody was turned away.
func (s *stage) noneRefused() {
	refused, causes := 0, s.crowd.Events().Refused
	for _, n := range causes {
		refused += n
	}
	got := fmt.Sprint(refused)
	if refused > 0 {
		got += fmt.Sprintf(" %v", causes)
	}
	s.report.check(refused == 0, "attempts to connect that were refused", got, "0")
}

var rolling = &Drill{
	Name:    "rolling",
	Summary: "all nodes behind nginx are drained and started again, one by one",
	Passes:  "0 lost, 0 refused at the balancer; each node ends with exit code 0 within its window + 5 s",
	Target:  true,
	rounds:  1, quickRounds: 1,
	leastNodes: 2,
	play:       playRolling,
}

func playRolling(ctx context.Context, s *stage) error {
	times := drain{delay: 2 * time.Second, window: 8 * time.Second}
	if s.opt.Quick {
		times = drain{delay: time.Second, window: 2 * time.Second}
	}
	if err := s.onOneRedis(ctx, true, times.args()...); err != nil {
		return err
	}
	if _, err := s.gather(ctx, crowd.Config{}); err != nil {
		return err
	}
	err := s.rounds(ctx, "", s.opt.Rounds, func(int) error {
		if s.fleet == nil {
			return s.breakOther(ctx)
		}
		for _, n := range s.fleet.nodes {
			s.say("rolling %s", n.name)
			if err := s.drainOne(ctx, n, times); err != nil {
				return err
			}
			if err := n.start(ctx); err != nil {
				return err
			}
		}
		return s.whole(ctx)
	})
	if err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	s.noneLost()
	s.noneRefused()
	return nil
}
