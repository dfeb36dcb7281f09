package redisbus

import (
	"context"
	"slices"
)

// unmade is a room that was perhaps made.
type unmade struct {
	args   []any // its secret, and the ids of which it may have one
	sought bool  // there was none
}

// making counts the rooms that are being made, each of which may have to be removed
// again. It refuses one that is too many.
func (r *Rooms) making(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > 0 && r.creating+len(r.unmade) >= maxUnmade {
		return false
	}
	r.creating += n
	return true
}

// unmake removes the rooms that were perhaps made though nobody was told so: those that
// were not sought yet, or were. What was not there is sought once more, since Redis may
// have been asked for it on a connection from which it had not read yet.
func (r *Rooms) unmake(ctx context.Context, sought bool) error {
	r.mu.Lock()
	due := slices.DeleteFunc(slices.Clone(r.unmade), func(u *unmade) bool { return u.sought != sought })
	r.mu.Unlock()
	for _, u := range due {
		reply, err := r.do(ctx, roomUnmake, 0, u.args...)
		if err != nil {
			return err
		}
		r.mu.Lock()
		if u.sought || !slices.Equal(reply, []string{"0"}) {
			r.unmade = slices.DeleteFunc(r.unmade, func(other *unmade) bool { return other == u })
		}
		u.sought = true
		r.mu.Unlock()
	}
	return nil
}
