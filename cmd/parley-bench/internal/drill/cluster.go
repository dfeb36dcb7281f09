package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/pkg/redisproc"
)

// clusterBound is how long after a fault of the Cluster every pair of clients is
// served again.
const clusterBound = 3 * time.Second

// onCluster starts a Cluster and nodes over it.
func (s *stage) onCluster(ctx context.Context) (*redisproc.Cluster, *crowd.Crowd, error) {
	s.say("starting a Cluster of three masters with a replica each")
	r, err := redisproc.StartCluster(ctx, redisproc.ClusterOptions{})
	if err != nil {
		return nil, nil, err
	}
	s.closeRedis(r)
	if err := s.fleetOf(ctx, r.URL(), false, nil); err != nil {
		return nil, nil, err
	}
	c, err := s.gather(ctx, crowd.Config{})
	return r, c, err
}

// errNoKeys means that the nodes keep nothing, so that no slot can be found that
// they use.
var errNoKeys = errors.New("no key of a node in the Cluster: do the nodes keep messages (--direct-retention)?")

// usedSlots returns the slots that have keys, with their masters.
func usedSlots(ctx context.Context, r *redisproc.Cluster) (slots []int, owners []*redisproc.Server, err error) {
	masters, err := r.Masters(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range masters {
		known := map[int64]bool{}
		keys := m.Client().Scan(ctx, 0, "*", 1000).Iterator()
		for keys.Next(ctx) {
			slot, err := m.Client().ClusterKeySlot(ctx, keys.Val()).Result()
			if err != nil {
				return nil, nil, err
			}
			if !known[slot] {
				known[slot] = true
				slots, owners = append(slots, int(slot)), append(owners, m)
			}
		}
		if err := keys.Err(); err != nil {
			return nil, nil, err
		}
	}
	if len(slots) == 0 {
		return nil, nil, errNoKeys
	}
	return slots, owners, nil
}

var clusterFailover = &Drill{
	Name:    "cluster-failover",
	Summary: "SIGKILL for a master of the Cluster",
	Passes:  "back within 3 s; 0 silent loss",
	rounds:  5, quickRounds: 1,
	play: func(ctx context.Context, s *stage) error {
		r, c, err := s.onCluster(ctx)
		if err != nil {
			return err
		}
		err = s.rounds(ctx, "", s.opt.Rounds, func(int) error {
			slots, _, err := usedSlots(ctx, r)
			if err != nil {
				return err
			}
			slot := slots[s.rng.IntN(len(slots))]
			from := time.Now()
			killed, err := r.KillMaster(ctx, slot)
			if err != nil {
				return err
			}
			w := c.Watch(nil)
			if _, err := r.WaitOwner(ctx, slot, killed); err != nil {
				return err
			}
			elected := time.Since(from)
			if err := s.back(ctx, w, from); err != nil {
				return err
			}
			took, _ := w.All(from)
			s.report.tell("the Cluster had a new master after", "%s, all pairs were back after %s", round(elected), round(took))
			if err := killed.Restart(); err != nil {
				return err
			}
			return r.WaitReady(ctx)
		})
		if err != nil {
			return err
		}
		return s.clusterEnd(ctx, c)
	},
}

var clusterReshard = &Drill{
	Name:     "cluster-reshard",
	Summary:  "slots that the nodes use are moved to other masters under load",
	Passes:   "back within 3 s of each move; 0 silent loss",
	duration: 30 * time.Second, quickDuration: 5 * time.Second,
	play: func(ctx context.Context, s *stage) error {
		r, c, err := s.onCluster(ctx)
		if err != nil {
			return err
		}
		if !sleep(ctx, roundPause) {
			return ctx.Err()
		}
		for start := time.Now(); time.Since(start) < s.opt.Duration; {
			slots, owners, err := usedSlots(ctx, r)
			if err != nil {
				return err
			}
			masters, err := r.Masters(ctx)
			if err != nil {
				return err
			}
			i := s.rng.IntN(len(slots))
			to := masters[s.rng.IntN(len(masters))]
			if to == owners[i] {
				continue
			}
			s.say("moving slot %d from %s to %s", slots[i], owners[i].Addr(), to.Addr())
			from := time.Now()
			if err := r.MoveSlot(ctx, slots[i], to); err != nil {
				return fmt.Errorf("moving slot %d: %w", slots[i], err)
			}
			if err := s.back(ctx, c.Watch(nil), from); err != nil {
				return err
			}
			s.report.Rounds++
			if !sleep(ctx, roundPause) {
				return ctx.Err()
			}
		}
		s.report.check(s.report.Rounds > 0, "slots moved", fmt.Sprint(s.report.Rounds), "some")
		return s.clusterEnd(ctx, c)
	},
}

func (s *stage) clusterEnd(ctx context.Context, c *crowd.Crowd) error {
	if err := s.finish(ctx); err != nil {
		return err
	}
	var worst time.Duration
	for _, d := range s.report.allBack {
		worst = max(worst, d)
	}
	s.report.within("slowest return of all pairs", worst, clusterBound+s.interval(c))
	return nil
}
