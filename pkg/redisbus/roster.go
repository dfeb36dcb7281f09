package redisbus

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"parley/pkg/relay"
)

const (
	// rosterCheck is the time between two looks whether Redis still has the members
	// that this node has entered.
	rosterCheck = 2 * time.Second
	// rosterLife is how long Redis knows of a topic's members when no node looks after
	// them any more; for when all die at once and none comes back.
	rosterLife = 24 * time.Hour
	// rosterAtOnce is how many members one script goes through.
	rosterAtOnce = 500
	// rosterBatch is the most scripts in one pipeline.
	rosterBatch = 64
	// rosterDoubt is how long a node may have members without a claim before it is taken
	// for dead: who lives claims again, within two renewals of its lease.
	rosterDoubt = leaseLife
	// rosterGoodbye is how long a node that ends tries to take its members back.
	rosterGoodbye = 2 * time.Second
	// rosterAgainMin and rosterAgainMax bound the pause after Redis has failed.
	rosterAgainMin = 50 * time.Millisecond
	rosterAgainMax = time.Second
	// maxMember bounds a member, in bytes; see relay.Roster.
	maxMember = 512
)

// rosterKind is that of the claims by which the others know what a dead node has
// entered: one for each node and topic.
const rosterKind = "roster"

// Roster is this node's part in who is present at topics. It implements relay.Roster.
// All methods may be called from any goroutine. Numbers of changes rise by one, but
// leap ahead when Redis may have lost members: who hears that asks for all Members
// anew, as after a Gap. Its topics must be none of which messages are kept.
type Roster struct {
	// Fixed after NewRoster.
	bus   *Bus
	fleet *Fleet
	node  string
	log   *slog.Logger
	wake  chan struct{}

	// Owned by Run.
	looked   relay.Topic          // where somebody was in doubt
	doubtful map[string]time.Time // nodes that have members there without a claim, since when

	mu     sync.Mutex
	topics map[relay.Topic]*attendance
	due    map[relay.Topic]struct{} // those that Redis has to be brought in line with
	losses uint64                   // times that claims were lost
	ended  bool
}

var _ relay.Roster = (*Roster)(nil)

// attendance is a topic's members that this node has; guarded by Roster.mu.
type attendance struct {
	present map[string]struct{}
	dirty   map[string]struct{} // members of which Redis may know otherwise
	claimed bool                // the others take the members back when this node dies
	known   bool                // Redis has just the members that are present, but for dirty ones
	under   regime              // when that was found out
}

// regime changes whenever what Redis has may be older than what it had.
type regime struct {
	epoch      uint64 // of the history
	connection uint32 // the subscriber's: a new one leads to another master, perhaps
}

func (l *link) regime() regime {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	return regime{l.epoch.Load(), l.table.epoch}
}

// NewRoster makes one for the node of the fleet; Run makes it work. Call it before
// the fleet's Run.
func NewRoster(b *Bus, f *Fleet, log *slog.Logger) *Roster {
	r := &Roster{bus: b, fleet: f, node: f.options.Node, log: log, wake: make(chan struct{}, 1),
		doubtful: map[string]time.Time{}, topics: map[relay.Topic]*attendance{}, due: map[relay.Topic]struct{}{}}
	f.OnRelease(rosterKind, func(ctx context.Context, c relay.Claim) error {
		return r.takeBack(ctx, topicOfClaim(c), c.Holder)
	})
	f.OnLost(r.lost)
	return r
}

// claimOf is the name of the claim on a topic, and topicOfClaim its inverse.
func (r *Roster) claimOf(t relay.Topic) string { return rosterClaim(t, r.node) }

func rosterClaim(t relay.Topic, node string) string { return rosterKind + "/" + node + "/" + string(t) }

func topicOfClaim(c relay.Claim) relay.Topic {
	return relay.Topic(c.Name[min(len(c.Name), len(rosterKind)+len(c.Holder)+2):])
}

// Enter implements relay.Roster. A member of no or more than 512 bytes is ignored, as
// is a topic with a name that is too long for a claim.
func (r *Roster) Enter(t relay.Topic, member string) { r.note(t, member, true) }

// Leave implements relay.Roster.
func (r *Roster) Leave(t relay.Topic, member string) { r.note(t, member, false) }

func (r *Roster) note(t relay.Topic, member string, present bool) {
	if err := checkClaim(r.claimOf(t), r.node); err != nil || member == "" || len(member) > maxMember {
		r.log.Warn("nobody can be present like this", "topic", t, "bytes", len(member), "error", err)
		return
	}
	r.mu.Lock()
	a := r.topics[t]
	is := false
	if a != nil {
		_, is = a.present[member]
	}
	if is == present || r.ended {
		r.mu.Unlock()
		return
	}
	if a == nil {
		a = &attendance{present: map[string]struct{}{}, dirty: map[string]struct{}{}}
		r.topics[t] = a
	}
	if present {
		a.present[member] = struct{}{}
	} else {
		delete(a.present, member)
	}
	a.dirty[member] = struct{}{}
	r.due[t] = struct{}{}
	r.mu.Unlock()
	r.poke()
}

func (r *Roster) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// lost is for Fleet.OnLost: others have taken the members back, or will.
func (r *Roster) lost(claims []relay.Claim) {
	r.mu.Lock()
	for _, c := range claims {
		if c.Kind() != rosterKind {
			continue
		}
		t := topicOfClaim(c)
		r.losses++
		if a := r.topics[t]; a != nil {
			a.claimed, a.known = false, false
			r.due[t] = struct{}{}
		}
	}
	r.mu.Unlock()
	r.poke()
}

// Members implements relay.Roster. It waits while this node does not hear Redis, as
// long as ctx allows.
func (r *Roster) Members(ctx context.Context, t relay.Topic) (members []string, last uint64, err error) {
	l := r.bus.link(t)
	err = l.steadily(ctx, func() error {
		reply, err := l.rosterCmd(ctx, l.ask, t, r.node, "members").Slice()
		if err != nil {
			return err
		}
		members, last, err = parseMembers(reply)
		return err
	})
	return members, last, err
}

// Run brings Redis in line with who entered and left, until ctx ends; then it takes
// back whom this node has, within two seconds, and returns nil. The bus and the fleet
// must run for longer. Call it once.
func (r *Roster) Run(ctx context.Context) error {
	tick := time.NewTicker(rosterCheck)
	defer tick.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	pause, failed := rosterAgainMin, false
	for {
		var err error
		wake := r.wake
		if failed {
			wake = nil // the pause is not cut short
		}
		select {
		case <-ctx.Done():
			r.end(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
			if err = r.check(ctx); err == nil {
				err = r.lookForDead(ctx)
			}
		case <-wake:
		case <-retry.C:
		}
		if err == nil {
			err = r.carryOut(ctx)
		}
		if err == nil {
			pause = rosterAgainMin
			if failed {
				r.log.Info("redis knows again who is present")
			}
		} else if ctx.Err() == nil {
			if !failed {
				r.log.Warn("redis is not told who is present, trying again", "error", err)
			}
			retry.Reset(pause)
			pause = min(2*pause, rosterAgainMax)
		}
		failed = err != nil
	}
}
