package redisbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"parley/pkg/relay"
)

// errNotClaimed means that another lease has the claim on a node's members, until they
// are taken back.
var errNotClaimed = errors.New("the members that this node had are being taken back")

// rosterCmd has the script do something for a node's members of a topic.
func (l *link) rosterCmd(ctx context.Context, p redis.Scripter, t relay.Topic, node, what string, args ...any) *redis.Cmd {
	keys := []string{l.keys.members(t), l.keys.numbers(t), l.keys.own(t, node), l.keys.epoch()}
	switch what { // the fewer, the more rarely some are on their way to another master
	case "members":
		keys = keys[:2]
	case "check":
		keys = keys[:3]
	}
	m := relay.Message{Time: time.Now()}
	all := append([]any{what, rosterLife.Milliseconds(), l.keys.channel(t), appendStamp(nil, &m)}, args...)
	return p.EvalSha(ctx, l.rosterScript().hash, keys, all...)
}

// appendStamp appends those fields of an envelope that are not about the member.
func appendStamp(b []byte, m *relay.Message) []byte {
	b = protowire.AppendTag(b, fieldVersion, protowire.VarintType)
	b = protowire.AppendVarint(b, envelopeVersion)
	b = protowire.AppendTag(b, fieldTime, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(m.Time.UnixNano()))
}

func parseMembers(reply []any) (members []string, last uint64, err error) {
	if len(reply) != 2 {
		return nil, 0, errHistory
	}
	text, _ := reply[1].(string)
	if last, err = strconv.ParseUint(text, 10, 64); err != nil {
		return nil, 0, errHistory
	}
	return texts(reply[0]), last, nil
}

// errand is a command about one topic, and what becomes of its answer.
type errand struct {
	topic relay.Topic
	cmd   func(ctx context.Context, l *link, p redis.Pipeliner) redis.Cmder
	done  func(redis.Cmder) // called when there was no error
	asked redis.Cmder
}

// run carries errands out, some in one pipeline each, and those of different masters
// at the same time, so that one that is silent delays no other. done is called with no
// lock held.
func (r *Roster) run(ctx context.Context, errands []errand) error {
	byLink := map[*link][]*errand{}
	for i := range errands {
		l := r.bus.link(errands[i].topic)
		byLink[l] = append(byLink[l], &errands[i])
	}
	errs := make([]error, len(byLink))
	var wg sync.WaitGroup
	i := 0
	for l, all := range byLink {
		failed := &errs[i]
		i++
		wg.Go(func() {
			for batch := range slices.Chunk(all, rosterBatch) {
				if *failed = l.runErrands(ctx, batch); *failed != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// runErrands carries out what fits into one pipeline, and returns the first error.
func (l *link) runErrands(ctx context.Context, batch []*errand) (failed error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	err := spread(l.ask.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range batch {
			e.asked = e.cmd(ctx, l, p)
		}
		return nil
	}))
	for _, e := range batch {
		if err := e.asked.Err(); err == nil {
			e.done(e.asked)
		} else if failed == nil {
			failed = fmt.Errorf("%s: %w", e.topic, err)
		}
	}
	l.seeTo(ctx, err)
	return failed
}

// check finds out whether Redis still has the members that this node has entered, and
// lets go of topics without any. What is not as it should be becomes due.
func (r *Roster) check(ctx context.Context) error {
	var errands []errand
	var empty []relay.Topic
	r.mu.Lock()
	for t, a := range r.topics {
		if !a.claimed || !a.known || len(a.dirty) > 0 {
			continue // it is due already
		}
		if a.under != r.bus.link(t).regime() {
			a.known = false
			r.due[t] = struct{}{}
			continue
		}
		errands = append(errands, errand{topic: t, cmd: func(ctx context.Context, l *link, p redis.Pipeliner) redis.Cmder {
			return l.rosterCmd(ctx, p, t, r.node, "check")
		}, done: func(c redis.Cmder) {
			n, _ := c.(*redis.Cmd).Int()
			r.mu.Lock()
			defer r.mu.Unlock()
			switch {
			case r.topics[t] != a || !a.claimed || len(a.dirty) > 0:
			case n != len(a.present):
				a.known = false
				r.due[t] = struct{}{}
			case n == 0:
				delete(r.topics, t)
				empty = append(empty, t)
			}
		}})
	}
	r.mu.Unlock()
	err := r.run(ctx, errands)
	for _, t := range empty {
		// Should it fail, the fleet gives the claim back later.
		err = errors.Join(err, r.fleet.Release(ctx, r.claimOf(t), r.node))
	}
	return err
}

// lookForDead takes back members that a dead node has without a claim, since Redis has
// lost that, as a Cluster can that loses one master. It looks at one topic of this
// node's at a time.
func (r *Roster) lookForDead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if len(r.doubtful) == 0 {
		r.looked = ""
	}
	r.mu.Lock()
	if r.topics[r.looked] == nil {
		for t := range r.topics { // any
			r.looked = t
			break
		}
		clear(r.doubtful)
	}
	t, none := r.looked, len(r.topics) == 0
	r.mu.Unlock()
	if none {
		return nil
	}
	l := r.bus.link(t)
	fields, err := l.ask.HKeys(ctx, l.keys.numbers(t)).Result()
	if err != nil {
		l.seeTo(ctx, err)
		return err
	}
	still := map[string]time.Time{}
	for _, field := range fields {
		node, is := strings.CutPrefix(field, l.keys.own(t, ""))
		if !is || node == r.node {
			continue
		}
		c, err := r.fleet.Holder(ctx, rosterClaim(t, node))
		if err != nil {
			return err
		}
		since, doubted := r.doubtful[node]
		switch {
		case c != relay.Claim{}:
		case !doubted:
			still[node] = time.Now()
		case time.Since(since) < rosterDoubt:
			still[node] = since
		default:
			r.log.Warn("taking back members of a node that nobody knows", "topic", t, "of", node)
			if err := r.takeBack(ctx, t, node); err != nil {
				return err
			}
		}
	}
	r.doubtful = still
	return nil
}

// carryOut brings Redis in line with what is due, until nothing is or something fails.
func (r *Roster) carryOut(ctx context.Context) error {
	for ctx.Err() == nil {
		r.mu.Lock()
		due := slices.Collect(maps.Keys(r.due))
		r.mu.Unlock()
		if len(due) == 0 {
			return nil
		}
		refused, err := r.claim(ctx, due)
		if err == nil {
			err = r.fleet.Ready()
		}
		if err != nil {
			// While the lease is in doubt others may have taken the members back, and
			// would not do so again.
			return err
		}
		if err := errors.Join(refused, r.learn(ctx, due), r.change(ctx, due)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// claim claims the topics of which it is not known what Redis has, since it may not
// have the claim either, and forgets those that nobody is present at. Topics that are
// refused are left alone; after any other error nothing must be entered.
func (r *Roster) claim(ctx context.Context, due []relay.Topic) (refused, err error) {
	for _, t := range due {
		r.mu.Lock()
		a, losses := r.topics[t], r.losses
		if a != nil && !a.claimed && len(a.present) == 0 {
			delete(r.topics, t) // what Redis has of it the others take back
			a = nil
		}
		if a == nil {
			delete(r.due, t)
		}
		claimed := a == nil || a.claimed && a.known
		r.mu.Unlock()
		if claimed {
			continue
		}
		got, err := r.fleet.Claim(ctx, r.claimOf(t), r.node)
		if err != nil {
			return nil, err // so it would be for all others
		}
		r.mu.Lock()
		a.claimed = got && r.losses == losses // else it may be lost already
		r.mu.Unlock()
		if !got {
			refused = fmt.Errorf("%s: %w", t, errNotClaimed)
		}
	}
	return refused, nil
}

// learn finds out which members Redis has of this node, of those topics of which that
// is not known.
func (r *Roster) learn(ctx context.Context, due []relay.Topic) error {
	var errands []errand
	r.mu.Lock()
	for _, t := range due {
		a := r.topics[t]
		if a == nil || !a.claimed || a.known {
			continue
		}
		under := r.bus.link(t).regime()
		errands = append(errands, errand{topic: t, cmd: func(ctx context.Context, l *link, p redis.Pipeliner) redis.Cmder {
			return p.SMembers(ctx, l.keys.own(t, r.node))
		}, done: func(c redis.Cmder) {
			has := map[string]struct{}{}
			for _, member := range c.(*redis.StringSliceCmd).Val() {
				has[member] = struct{}{}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.topics[t] != a || !a.claimed {
				return
			}
			a.known, a.under = true, under
			differ(a.dirty, has, a.present)
			differ(a.dirty, a.present, has)
		}})
	}
	r.mu.Unlock()
	return r.run(ctx, errands)
}

// differ adds to a set what is in a but not in b.
func differ(set, a, b map[string]struct{}) {
	for member := range a {
		if _, ok := b[member]; !ok {
			set[member] = struct{}{}
		}
	}
}

// change tells Redis who has come and gone, of each topic as many as one script takes.
func (r *Roster) change(ctx context.Context, due []relay.Topic) error {
	var errands []errand
	r.mu.Lock()
	for _, t := range due {
		a := r.topics[t]
		if a == nil || !a.claimed || !a.known {
			continue
		}
		if a.under != r.bus.link(t).regime() {
			a.known = false
			continue
		}
		if len(a.dirty) == 0 {
			delete(r.due, t)
			continue
		}
		args := make([]any, 0, min(len(a.dirty), rosterAtOnce))
		for member := range a.dirty {
			if len(args) == rosterAtOnce {
				break
			}
			args = append(args, a.sign(member)+member)
		}
		errands = append(errands, errand{topic: t, cmd: func(ctx context.Context, l *link, p redis.Pipeliner) redis.Cmder {
			return l.rosterCmd(ctx, p, t, r.node, "change", args...)
		}, done: func(redis.Cmder) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, arg := range args {
				if told := arg.(string); a.sign(told[1:]) == told[:1] {
					delete(a.dirty, told[1:])
				}
			}
		}})
	}
	r.mu.Unlock()
	return r.run(ctx, errands)
}

// sign is how Redis is told of a member.
func (a *attendance) sign(member string) string {
	if _, ok := a.present[member]; ok {
		return "+"
	}
	return "-"
}

// takeBack takes back all members that a node has at a topic. It may be called again.
func (r *Roster) takeBack(ctx context.Context, t relay.Topic, node string) error {
	l := r.bus.link(t)
	for {
		var left int
		err := l.insist(ctx, func() (err error) {
			left, err = l.rosterCmd(ctx, l.ask, t, node, "clear", rosterAtOnce).Int()
			return err
		})
		if err != nil || left == 0 {
			return err
		}
	}
}

// end takes back whom this node has.
func (r *Roster) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rosterGoodbye)
	defer cancel()
	r.mu.Lock()
	r.ended = true
	topics := r.topics
	r.topics = map[relay.Topic]*attendance{}
	r.mu.Unlock()
	for t, a := range topics {
		if !a.claimed {
			continue
		}
		err := r.takeBack(ctx, t, r.node)
		if err == nil {
			err = r.fleet.Release(ctx, r.claimOf(t), r.node)
		}
		if err != nil {
			r.log.Debug("who was present is left for the others to take back", "topic", t, "error", err)
			return
		}
	}
}
