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
	herdRate    = 100              // messages a second of the herd itself
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
	var before, after []probed
	err := s.rounds(ctx, "", s.opt.Rounds, func(i int) error {
		probed := func(what string, measured time.Duration, meanwhile func() error) (probed, error) {
			p, err := s.startProbe(ctx, fmt.Sprintf("probe-%s-%d", what, i), measured, s.fleet.nodes[1:])
			if err == nil {
				err = meanwhile()
			}
			if err != nil {
				return probed{}, err
			}
			return p.result()
		}
		lost, err := s.gather(ctx, crowd.Config{Rate: herdRate, Home: func(int) int { return 0 }})
		if err != nil {
			return err
		}
		s.say("measuring the survivors before")
		calm, err := probed("before", s.opt.Duration, func() error { return nil })
		if err != nil {
			return err
		}
		victim := s.fleet.nodes[0]
		// The bound is also how long the survivors are looked at.
		struck, err := probed("after", herdBound, func() error {
			from := time.Now()
			held := onNode(lost, victim.name)
			victim.process.kill()
			s.say("%d clients have lost their node", held)
			return s.allBack(ctx, lost, from)
		})
		if err != nil {
			return err
		}
		before, after = append(before, calm), append(after, struck)
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
	s.report.ratio("survivors' p99", least(before), least(after), herdSlowing)
	var lost uint64
	for i := range after {
		s.report.tell(fmt.Sprintf("round %d: survivors' p50 and p99", i+1), "%s and %s; before %s and %s",
			round(after[i].p50), round(after[i].p99), round(before[i].p50), round(before[i].p99))
		lost += before[i].lost + after[i].lost
	}
	s.report.none("survivors' messages lost", lost)
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

// least is the least p99 of several rounds, for the reason that phases.quantile has.
func least(all []probed) (d time.Duration) {
	for i, p := range all {
		if i == 0 || p.p99 < d {
			d = p.p99
		}
	}
	return d
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
