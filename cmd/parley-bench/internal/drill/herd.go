package drill

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/cmd/parley-bench/internal/hist"
)

// What the herd drill is held to.
const (
	herdBound   = 15 * time.Second // until all are back
	herdSlowing = 3.0              // the survivors' p99, as times of what it was
	// herdSurvivors are the clients of the other nodes, whose latency is
	// measured; they write most of the messages.
	herdSurvivors = 200
	herdRate      = 100 // messages a second of the herd itself
)

var herd = &Drill{
	Name:    "herd",
	Summary: "5,000 clients lose their node at once",
	Passes:  "all are back within 15 s; the survivors' p99 is at most 3 times what it was; no node is killed by its memory",
	Target:  true,
	rounds:  3, quickRounds: 1,
	duration: 10 * time.Second, quickDuration: 3 * time.Second,
	clients:    5000,
	leastNodes: 2,
	play:       playHerd,
}

func playHerd(ctx context.Context, s *stage) error {
	if err := s.onOneRedis(ctx, false); err != nil {
		return err
	}
	if s.fleet == nil {
		return s.herdElsewhere(ctx)
	}
	others := len(s.fleet.nodes) - 1
	survivors, err := s.gather(ctx, crowd.Config{Clients: herdSurvivors, Home: func(i int) int { return 1 + i%others }})
	if err != nil {
		return err
	}
	var before, after phases
	err = s.rounds(ctx, "", s.opt.Rounds, func(int) error {
		lost, err := s.gather(ctx, crowd.Config{Rate: herdRate, Home: func(int) int { return 0 }})
		if err != nil {
			return err
		}
		s.say("measuring the survivors before")
		survivors.Measure(before.begin())
		if !sleep(ctx, s.opt.Duration) {
			return ctx.Err()
		}
		survivors.Measure(after.begin())
		defer survivors.Measure(nil)
		from := time.Now()
		victim := s.fleet.nodes[0]
		held := onNode(lost, victim.name)
		victim.process.kill()
		s.say("%d clients have lost their node", held)
		if err := s.allBack(ctx, lost, from); err != nil {
			return err
		}
		// The bound is also how long the survivors are looked at.
		if !sleep(ctx, time.Until(from.Add(herdBound))) {
			return ctx.Err()
		}
		survivors.Measure(nil)
		if err := s.retire(ctx, lost); err != nil {
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
	reconnects, err := s.fleet.sum(ctx, "parley_redis_reconnects_total")
	if err != nil {
		return err
	}
	s.report.tell("subscriber connections that broke", "%.0f", reconnects)
	s.report.ratio("survivors' p99", before.quantile(0.99), after.quantile(0.99), herdSlowing)
	s.report.tell("survivors' p99 in each round", "%s; before %s", after.each(0.99), before.each(0.99))
	s.report.tell("survivors' p50", "%s, before it %s", round(after.quantile(0.5)), round(before.quantile(0.5)))
	for _, n := range s.fleet.nodes[1:] {
		s.report.check(n.process.running(), n.name+" survived", fmt.Sprint(n.process.running()), "true")
		s.report.tell("most memory of "+n.name, "%s", peakMemory(n.process.os.Pid))
	}
	return nil
}

// herdElsewhere plays the drill on a fleet that is not ours: which clients lose
// their node is told by their connections.
func (s *stage) herdElsewhere(ctx context.Context) error {
	c, err := s.gather(ctx, crowd.Config{})
	if err != nil {
		return err
	}
	err = s.rounds(ctx, "", s.opt.Rounds, func(int) error {
		from := time.Now()
		if err := s.killOther(ctx); err != nil {
			return err
		}
		if err := s.allBack(ctx, c, from); err != nil {
			return err
		}
		return s.healOther(ctx)
	})
	if err != nil {
		return err
	}
	return s.finish(ctx)
}

// allBack waits until all clients are connected, and holds that to the bound.
func (s *stage) allBack(ctx context.Context, c *crowd.Crowd, from time.Time) error {
	if err := s.whole(ctx); err != nil {
		return err
	}
	took := time.Since(from)
	s.report.within("all clients connected again", took, herdBound)
	if ends := len(c.Ends(from)); ends == 0 {
		s.report.check(false, "clients that lost their connection", "0", "some: the fault hit nobody")
	}
	return nil
}

// onNode counts the clients that a node holds.
func onNode(c *crowd.Crowd, name string) (n int) {
	for _, client := range c.Clients() {
		if client.Node() == name {
			n++
		}
	}
	return n
}

// phases are the latencies of one kind of phase, a histogram each.
type phases []*hist.Histogram

// begin starts a phase.
func (p *phases) begin() *hist.Histogram {
	h := new(hist.Histogram)
	*p = append(*p, h)
	return h
}

// each writes the phases' quantiles.
func (p phases) each(q float64) string {
	var all []string
	for _, h := range p {
		all = append(all, round(phases{h}.quantile(q)))
	}
	return strings.Join(all, ", ")
}

// quantile returns the least of the phases' quantiles, 0 without a phase. What
// the drill does to the latency is in all of them; what else the machine does adds
// to some, and takes from none.
func (p phases) quantile(q float64) time.Duration {
	var all []time.Duration
	for _, h := range p {
		var s hist.Snapshot
		s.Add(h)
		all = append(all, s.Quantile(q))
	}
	if len(all) == 0 {
		return 0
	}
	return slices.Min(all)
}

// peakMemory is the most memory that a process has had.
func peakMemory(pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "not known"
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB")); err == nil {
				return fmt.Sprintf("%.1f MB", float64(kb)/1024)
			}
		}
	}
	return "not known"
}
