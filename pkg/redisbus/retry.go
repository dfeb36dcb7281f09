package redisbus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// retryMin and retryMax bound the pause before something is tried again that
	// Redis has refused for the moment.
	retryMin = 5 * time.Millisecond
	retryMax = 80 * time.Millisecond
)

// passing are the errors with which Redis refuses a command that it has not
// executed, and may accept in a moment: the script is not there yet, the server
// is a replica now or loads what it kept, the slot is moving.
var passing = []string{"NOSCRIPT", "READONLY", "MASTERDOWN", "LOADING", "MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN"}

// refused tells whether Redis has refused a command for the moment.
func refused(err error) bool {
	var e redis.Error
	if !errors.As(err, &e) {
		return false
	}
	text := e.Error()
	for _, p := range passing {
		if strings.HasPrefix(text, p) {
			return true
		}
	}
	// What a script meets when half of its keys have moved.
	return strings.Contains(text, "non local key") || strings.Contains(text, "READONLY")
}

// noScript tells whether Redis has forgotten its scripts, as SCRIPT FLUSH does.
func noScript(err error) bool { return strings.HasPrefix(err.Error(), "NOSCRIPT") }

// askedAt is where the keys of a command are while their slot is being moved, ""
// when err tells nothing of it.
func askedAt(err error) string {
	var e redis.Error
	if !errors.As(err, &e) {
		return ""
	}
	if f := strings.Fields(e.Error()); len(f) == 3 && f[0] == "ASK" {
		return f[2]
	}
	return ""
}

// again opens what Redis has refused for the moment, to be sent once more, and
// tells whether there is any. Not so a message after which one of the same topic
// was accepted: it would come out of its order.
func (l *lane) again(ctx context.Context, ps []publication) bool {
	if !slices.ContainsFunc(l.outcomes, func(o outcome) bool { return refused(o.err) }) {
		return false
	}
	accepted := map[string]bool{}
	elsewhere := map[string][]int{}
	forgotten, moved := false, false
	for i := len(ps) - 1; i >= 0; i-- {
		o := &l.outcomes[i]
		switch {
		case o.err == nil:
			accepted[ps[i].channel] = true
		case refused(o.err) && !accepted[ps[i].channel]:
			o.open = true
			text := o.err.Error()
			forgotten = forgotten || noScript(o.err)
			moved = moved || !strings.HasPrefix(text, "ASK") && !strings.HasPrefix(text, "TRYAGAIN")
		}
	}
	waits := map[string]bool{} // channels with a message that cannot be sent elsewhere
	for i := range ps {
		if o := &l.outcomes[i]; o.open {
			if addr := askedAt(o.err); addr != "" && !waits[ps[i].channel] {
				elsewhere[addr] = append(elsewhere[addr], i)
			} else {
				waits[ps[i].channel] = true
			}
		}
	}
	for addr, at := range elsewhere {
		l.sendElsewhere(ctx, addr, ps, at)
	}
	l.dropOvertaken(ps)
	if forgotten {
		pipe := l.client.Pipeline()
		l.load(ctx, pipe)
		_, _ = pipe.Exec(ctx) // if it fails, so does what comes next
	} else if moved {
		_, _ = l.master.follow(ctx) // the same
	}
	return slices.ContainsFunc(l.outcomes, func(o outcome) bool { return o.open })
}

// dropOvertaken closes what is open though a later message of its topic was accepted.
func (l *lane) dropOvertaken(ps []publication) {
	accepted := map[string]bool{}
	for i := len(ps) - 1; i >= 0; i-- {
		o := &l.outcomes[i]
		if o.err == nil {
			accepted[ps[i].channel] = true
		} else if accepted[ps[i].channel] {
			o.open = false
		}
	}
}

// sendElsewhere sends messages to the master that their slot is being moved to.
func (l *lane) sendElsewhere(ctx context.Context, addr string, ps []publication, at []int) {
	c := l.others[addr]
	if c == nil {
		c = l.askElsewhere(addr)
		if l.others == nil {
			l.others = map[string]*redis.Client{}
		}
		l.others[addr] = c
	}
	pipe := c.Pipeline()
	l.load(ctx, pipe)
	for _, i := range at {
		_ = pipe.Do(ctx, "asking")
		_ = pipe.Process(ctx, l.cmd(i, &ps[i]))
	}
	var wait *redis.IntCmd
	if l.replicas > 0 {
		wait = redis.NewIntCmd(ctx, "wait", l.replicas, l.waitMillis)
		_ = pipe.Process(ctx, wait)
	}
	_ = spread(pipe.Exec(ctx))
	for _, i := range at {
		o := &l.outcomes[i]
		if o.id, o.err = l.result(i, &ps[i]); o.err == nil && wait != nil {
			o.err = l.replicated(wait)
		}
		o.open = refused(o.err)
	}
}

// load queues the loading of the lane's scripts.
func (l *lane) load(ctx context.Context, pipe redis.Pipeliner) {
	for _, s := range []script{l.publish, l.append} {
		_ = pipe.ScriptLoad(ctx, s.source)
	}
}

func (l *lane) closeOthers() {
	for _, c := range l.others {
		_ = c.Close() // nothing is under way
	}
}

// spread gives each command of a pipeline that has ended an error of its own, and
// returns that of the pipeline. When nothing was sent, since Redis has refused what
// greet asks on a new connection, the library tells the commands nothing of it.
func spread(cmds []redis.Cmder, err error) error {
	if err == nil || slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return err
	}
	for _, c := range cmds {
		c.SetErr(err)
	}
	return err
}

// sleep returns false when ctx has ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
