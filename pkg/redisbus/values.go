package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

const (
	// valuesTimeout bounds a call, with all attempts, below two seconds.
	valuesTimeout = 1800 * time.Millisecond
	// valuesAtOnce is how many values one pipeline asks for.
	valuesAtOnce = 500
	// valueWaits bounds the calls of a link that wait for replicas at once: others need
	// its connections, too.
	valueWaits = readConns / 2
	// valueDetours bounds the calls of a link that connect to the master to which a
	// slot is being moved.
	valueDetours = 4

	// maxValueKey is what relay.Values allows, and maxValue bounds a value, in bytes.
	maxValueKey = 256
	maxValue    = 64 << 10
)

// valueKind begins the keys of values in a keyspace.
const valueKind = "v:"

func (k keyspace) value(key string) string { return k.prefix + valueKind + key }

// Values is a relay.Values and a relay.Meter on the bus's Redis. Every call answers
// within two seconds. All methods may be called from any goroutine, before Bus.Run
// and during it.
type Values struct {
	stores []*store // one a link of the bus
}

var (
	_ relay.Values = (*Values)(nil)
	_ relay.Meter  = (*Values)(nil)
)

// store is the part of the values that is on one link's master.
type store struct {
	link    *link
	client  *redis.Client // the link's own, but patient enough for replicas
	waits   chan struct{} // an element for each call that waits for replicas
	detours chan struct{} // an element for each call that asks another master
}

// Values returns the values on the bus's Redis. Call it once.
func (b *Bus) Values() *Values {
	v := &Values{}
	for _, l := range b.links {
		v.stores = append(v.stores, &store{link: l, client: l.ask.WithTimeout(publishTimeout),
			waits: make(chan struct{}, valueWaits), detours: make(chan struct{}, valueDetours)})
	}
	return v
}

// of is the store that has a key: like topics, keys are spread by their hash.
func (v *Values) of(key string) *store { return v.stores[v.part(key)] }

func (v *Values) part(key string) int {
	if len(v.stores) == 1 {
		return 0
	}
	return partitionOf(relay.Topic(key))
}

// checkValue tells what is wrong with a key, a value and its life.
func checkValue(key string, value []byte, life time.Duration) error {
	kind, rest, found := strings.Cut(key, "/")
	switch {
	case !found || kind == "" || rest == "":
		return fmt.Errorf("key %.64q: want kind/rest", key)
	case len(key) > maxValueKey:
		return fmt.Errorf("key %.64q...: %d bytes are more than %d", key, len(key), maxValueKey)
	case len(value) > maxValue:
		return fmt.Errorf("key %q: a value of %d bytes is longer than %d", key, len(value), maxValue)
	case life < time.Millisecond:
		return fmt.Errorf("key %q: %s is no time", key, life)
	}
	return nil
}

// Put implements relay.Values. When replicas are to have messages (see
// Options.WaitReplicas) they have the value, too. A value is of at most 64 KiB, and
// lives for a millisecond or more. After an error it may be there all the same.
func (v *Values) Put(ctx context.Context, key string, value []byte, life time.Duration) error {
	if err := checkValue(key, value, life); err != nil {
		return err
	}
	s := v.of(key)
	cmd := redis.NewStatusCmd(ctx, "set", s.link.keys.value(key), value, "px", life.Milliseconds())
	return s.ask(ctx, []redis.Cmder{cmd}, question{repeats: true, lasts: true})
}

// Get implements relay.Values.
func (v *Values) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, valuesTimeout)
	defer cancel()
	values := make([][]byte, len(keys))
	parts := make([][]int, len(v.stores))
	for i, key := range keys {
		if err := checkValue(key, nil, time.Second); err != nil {
			return nil, err
		}
		p := v.part(key)
		parts[p] = append(parts[p], i)
	}
	for p, places := range parts {
		s := v.stores[p]
		for chunk := range slices.Chunk(places, valuesAtOnce) {
			var cmds []redis.Cmder
			for _, i := range chunk {
				cmds = append(cmds, redis.NewStringCmd(ctx, "get", s.link.keys.value(keys[i])))
			}
			if err := s.ask(ctx, cmds, question{repeats: true}); err != nil {
				return nil, err
			}
			for j, i := range chunk {
				if cmd := cmds[j].(*redis.StringCmd); cmd.Err() == nil {
					values[i] = append([]byte{}, cmd.Val()...)
				}
			}
		}
	}
	return values, nil
}

// Delete implements relay.Values. Replicas are waited for as in Put. Of several that
// delete a value one is told that it was there, or, when Redis's answer was lost, none.
func (v *Values) Delete(ctx context.Context, key string) (bool, error) {
	if err := checkValue(key, nil, time.Second); err != nil {
		return false, err
	}
	s := v.of(key)
	cmd := redis.NewIntCmd(ctx, "del", s.link.keys.value(key))
	err := s.ask(ctx, []redis.Cmder{cmd}, question{repeats: true, lasts: true})
	return err == nil && cmd.Val() > 0, err
}

// question is how commands are to be asked.
type question struct {
	repeats bool // they may be executed twice
	lasts   bool // they count once the replicas that there must be have them
}

// ask has the master execute commands, in one pipeline, and tries again for as long
// as there is no answer, or a refusal for the moment. A nil error means that each
// command has an answer, redis.Nil included. Others wrap relay.ErrUnavailable.
func (s *store) ask(ctx context.Context, cmds []redis.Cmder, q question) error {
	ctx, cancel := context.WithTimeout(ctx, valuesTimeout)
	defer cancel()
	if q.lasts = q.lasts && s.link.waits > 0; q.lasts {
		if err := enter(ctx, s.waits); err != nil {
			return err
		}
		defer func() { <-s.waits }()
	}
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		err := s.pose(ctx, s.client, cmds, q, false)
		if err == nil {
			var open []redis.Cmder
			if open, err = unanswered(cmds); err == nil {
				return nil
			}
			if addr := askedAt(err); addr != "" {
				open, err = s.detour(ctx, addr, open, q)
			}
			if cmds = open; err == nil && len(open) == 0 {
				return nil
			}
		}
		if !q.again(err) || !sleep(ctx, pause) {
			return fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
		}
		if refused(err) && askedAt(err) == "" {
			_, _ = s.link.master.follow(ctx) // if it fails, so does what comes next
		}
	}
}

// errShort means that too few replicas have what was written.
var errShort = errors.New("not enough replicas")

// again tells whether to try again after an error.
func (q question) again(err error) bool {
	var e redis.Error
	switch {
	case errors.Is(err, redis.ErrClosed), errors.Is(err, errShort):
		return false
	case errors.As(err, &e):
		return refused(err)
	}
	return q.repeats
}

// pose sends commands, each of which has its own error then. The error is that of the
// replicas.
func (s *store) pose(ctx context.Context, c *redis.Client, cmds []redis.Cmder, q question, asking bool) error {
	pipe := c.Pipeline()
	for _, cmd := range cmds {
		if asking {
			_ = pipe.Do(ctx, "asking") // only queues, as does Process
		}
		cmd.SetErr(nil)
		_ = pipe.Process(ctx, cmd)
	}
	var wait *redis.IntCmd
	lane := s.link.lanes[0]
	if q.lasts {
		wait = redis.NewIntCmd(ctx, "wait", lane.replicas, lane.waitMillis)
		_ = pipe.Process(ctx, wait)
	}
	_ = spread(pipe.Exec(ctx))
	if _, err := unanswered(cmds); err != nil || wait == nil {
		return nil
	}
	if err := lane.replicated(wait); err != nil {
		return fmt.Errorf("%w: %w", errShort, err)
	}
	return nil
}

// unanswered are the commands without an answer, and the error of the last one.
func unanswered(cmds []redis.Cmder) (open []redis.Cmder, err error) {
	for _, cmd := range cmds {
		if e := cmd.Err(); e != nil && !errors.Is(e, redis.Nil) {
			open, err = append(open, cmd), e
		}
	}
	return open, err
}

// detour asks the master to which a slot is being moved, and returns what is still
// without an answer.
func (s *store) detour(ctx context.Context, addr string, cmds []redis.Cmder, q question) ([]redis.Cmder, error) {
	if err := enter(ctx, s.detours); err != nil {
		return cmds, err
	}
	defer func() { <-s.detours }()
	c := s.link.lanes[0].askElsewhere(addr)
	defer func() { _ = c.Close() }() // nothing is under way
	if err := s.pose(ctx, c, cmds, q, true); err != nil {
		return cmds, err
	}
	return unanswered(cmds)
}

// enter waits for room.
func enter(ctx context.Context, room chan struct{}) error {
	select {
	case room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
	}
}
